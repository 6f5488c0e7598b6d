//! One row of `comparisons/*.parquet`: numbers only, one stage against the reference.

use std::sync::Arc;

use ulid::Ulid;

/// What could be compared for one item and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Both answered, types and shapes allow numbers.
    Compared,
    /// The reference failed, the stage answered.
    ReferenceFailed,
    /// The stage failed, the reference answered: counts as wrong or flipped, never as missing.
    StageFailed,
    /// Both failed.
    BothFailed,
    /// The stage lacks this output.
    MissingOutput,
    /// The stage lacks this output because the client did not ask for it: nothing to hold against it.
    PartialOutput,
    /// Shapes differ.
    ShapeMismatch,
    /// Datatypes differ in a way that numbers cannot bridge (BYTES against a number).
    DatatypeMismatch,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 8] = [
        Self::Compared,
        Self::ReferenceFailed,
        Self::StageFailed,
        Self::BothFailed,
        Self::MissingOutput,
        Self::PartialOutput,
        Self::ShapeMismatch,
        Self::DatatypeMismatch,
    ];

    /// The name stored in runs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compared => "compared",
            Self::ReferenceFailed => "reference_failed",
            Self::StageFailed => "stage_failed",
            Self::BothFailed => "both_failed",
            Self::MissingOutput => "missing_output",
            Self::PartialOutput => "partial_output",
            Self::ShapeMismatch => "shape_mismatch",
            Self::DatatypeMismatch => "datatype_mismatch",
        }
    }

    /// The outcome of that stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "compared" => Self::Compared,
            "reference_failed" => Self::ReferenceFailed,
            "stage_failed" => Self::StageFailed,
            "both_failed" => Self::BothFailed,
            "missing_output" => Self::MissingOutput,
            "partial_output" => Self::PartialOutput,
            "shape_mismatch" => Self::ShapeMismatch,
            "datatype_mismatch" => Self::DatatypeMismatch,
            _ => return None,
        })
    }
}

/// One stage against the reference for one item of one exchange and one output.
///
/// All statistics are over elements finite in both (matched non-finite classes are counted apart);
/// `None` where they do not exist (nothing compared, BYTES, no finite element).
/// Definitions: `docs/comparison.md`.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Recorder of the exchange.
    pub recorder: Ulid,
    /// Number of the exchange.
    pub seq: u64,
    /// Row of the batch axis, from 0.
    pub item: u32,
    /// The reference's output name.
    pub output: Arc<str>,
    /// What could be compared.
    pub outcome: Outcome,
    /// The failing side's own words.
    pub error: Option<String>,
    /// Datatype of the reference.
    pub datatype: Arc<str>,
    /// Shape of the item.
    pub shape: Arc<[i64]>,
    /// Elements compared.
    pub elements: u64,
    /// Every bit equal.
    pub bits_equal: bool,
    /// Every bit equal to the recorded answer of production; `None` where none was recorded.
    pub production_equal: Option<bool>,
    /// Largest |r−t|.
    pub max_abs: Option<f64>,
    /// Mean |r−t|.
    pub mean_abs: Option<f64>,
    /// |r−t| that half of the elements do not exceed (nearest rank), within 1/8 octave.
    pub p50_abs: Option<f64>,
    /// The same for 99 % of the elements.
    pub p99_abs: Option<f64>,
    /// The same for 99.9 % of the elements.
    pub p999_abs: Option<f64>,
    /// Largest |r−t| / max(|r|, small value of the datatype).
    pub max_rel: Option<f64>,
    /// ‖r−t‖/‖r‖.
    pub rel_l2: Option<f64>,
    /// Cosine of r and t, never clamped.
    pub cosine: Option<f64>,
    /// ln(‖t‖/‖r‖).
    pub log_norm_ratio: Option<f64>,
    /// Largest distance in units in the last place, in the coarser datatype's grid.
    pub max_ulp: Option<u64>,
    /// Elements beyond the tolerance, mismatched non-finite classes included.
    pub violations: u64,
    /// Tolerance that `violations` used.
    pub rtol: f64,
    /// Tolerance that `violations` used.
    pub atol: f64,
    /// Elements whose class (finite, +inf, −inf, NaN) differs.
    pub nonfinite_mismatches: u64,
    /// Elements non-finite with equal class on both sides, left out of the statistics.
    pub nonfinite_matched: u64,
    /// Flat index in the item of the largest |r−t| (or of the first class mismatch).
    pub worst_index: Option<u64>,
    /// Index of the largest element of the reference; ties to the lowest; `None` with any NaN, for
    /// BYTES and for items with no element.
    pub reference_top1: Option<u32>,
    /// The same of the stage.
    pub stage_top1: Option<u32>,
    /// Largest minus second largest of the reference.
    pub reference_margin: Option<f64>,
    /// The reference's largest value occurs more than once.
    pub reference_tie: bool,
    /// The stage's largest value occurs more than once.
    pub stage_tie: bool,
}

/// The numbers of one item, of which a [`Comparison`] is made.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[expect(missing_docs, reason = "the fields are those of Comparison")]
pub struct Numbers {
    pub elements: u64,
    pub bits_equal: bool,
    pub max_abs: Option<f64>,
    pub mean_abs: Option<f64>,
    pub p50_abs: Option<f64>,
    pub p99_abs: Option<f64>,
    pub p999_abs: Option<f64>,
    pub max_rel: Option<f64>,
    pub rel_l2: Option<f64>,
    pub cosine: Option<f64>,
    pub log_norm_ratio: Option<f64>,
    pub max_ulp: Option<u64>,
    pub violations: u64,
    pub nonfinite_mismatches: u64,
    pub nonfinite_matched: u64,
    pub worst_index: Option<u64>,
    pub reference_top1: Option<u32>,
    pub stage_top1: Option<u32>,
    pub reference_margin: Option<f64>,
    pub reference_tie: bool,
    pub stage_tie: bool,
}

/// One [`Comparison`] on its way into a file, its texts borrowed.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields are those of Comparison")]
pub struct ComparisonRow<'a> {
    pub recorder: Ulid,
    pub seq: u64,
    pub item: u32,
    pub output: &'a str,
    pub outcome: Outcome,
    pub error: Option<&'a str>,
    pub datatype: &'a str,
    pub shape: &'a [i64],
    pub production_equal: Option<bool>,
    pub rtol: f64,
    pub atol: f64,
    pub numbers: Numbers,
}
