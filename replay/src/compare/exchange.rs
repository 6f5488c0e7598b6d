//! One exchange: outputs matched by name, items cut from the batch axis.

use std::collections::BTreeMap;

use inferdiff_schemas::run::comparison::{Comparison, Outcome};
use inferdiff_schemas::run::ladder::Tolerance;
use inferdiff_schemas::{Datatype, Exchange, Tensor};

use super::{Numbers, compare_item, tolerance_for};

/// What one side answered: tensors, or its own words for why not.
pub type Answer<'a> = Result<&'a [Tensor], &'a str>;

/// The sides of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// The exchange: its recorded outputs, where decoded, are production's answer.
    pub exchange: &'a Exchange,
    /// The reference's answer.
    pub reference: Answer<'a>,
    /// The stage's answer, outputs already named as the reference names them.
    pub stage: Answer<'a>,
    /// Axis 0 is a batch axis: one item a row. Otherwise one item an exchange.
    pub batch_axis: bool,
    /// Items of the exchange where neither side answered.
    pub items: u32,
}

/// Appends one row per item and output of the reference (or of the stage, where the reference has
/// no answer; one nameless row per item where nobody has).
pub fn compare_exchange(
    sides: &Compared<'_>,
    tolerances: &BTreeMap<String, Tolerance>,
    rows: &mut Vec<Comparison>,
) {
    let blank = |item, output: &str, outcome, error: Option<&str>| Comparison {
        recorder: sides.exchange.recorder,
        seq: sides.exchange.seq,
        item,
        output: output.to_owned(),
        outcome,
        error: error.map(str::to_owned),
        datatype: String::new(),
        shape: Vec::new(),
        elements: 0,
        bits_equal: false,
        production_equal: None,
        max_abs: None,
        mean_abs: None,
        max_rel: None,
        rel_l2: None,
        cosine: None,
        log_norm_ratio: None,
        max_ulp: None,
        violations: 0,
        rtol: 0.0,
        atol: 0.0,
        nonfinite_mismatches: 0,
        nonfinite_matched: 0,
        worst_index: None,
        reference_top1: None,
        stage_top1: None,
        reference_margin: None,
        reference_tie: false,
        stage_tie: false,
    };
    let (outputs, failure) = match (sides.reference, sides.stage) {
        (Ok(reference), Ok(_)) => (reference, None),
        (Ok(reference), Err(e)) => (reference, Some((Outcome::StageFailed, e))),
        (Err(e), Ok(stage)) => (stage, Some((Outcome::ReferenceFailed, e))),
        (Err(e), Err(_)) => {
            rows.extend((0..sides.items).map(|i| blank(i, "", Outcome::BothFailed, Some(e))));
            return;
        }
    };
    for output in outputs {
        let whole = Item::whole(output);
        let items = if sides.batch_axis {
            Item::rows(output)
        } else {
            vec![whole]
        };
        let stage = sides
            .stage
            .ok()
            .and_then(|s| s.iter().find(|t| t.name == output.name));
        let stage_items = match stage {
            Some(t) if sides.batch_axis => Item::rows(t),
            Some(t) => vec![Item::whole(t)],
            None => Vec::new(),
        };
        let recorded = sides.exchange.outputs.as_deref().unwrap_or_default();
        let produced = recorded.iter().find(|t| t.name == output.name);
        for (i, reference) in items.iter().enumerate() {
            let index = u32::try_from(i).unwrap_or(u32::MAX);
            let mut row = blank(index, &output.name, Outcome::Compared, None);
            row.datatype = output.datatype.name().to_owned();
            row.shape = reference.shape.to_vec();
            match (failure, stage_items.get(i)) {
                (Some((outcome, error)), _) => {
                    (row.outcome, row.error) = (outcome, Some(error.to_owned()));
                    one_sided(&mut row, reference);
                }
                (None, None) if stage.is_none() => row.outcome = Outcome::MissingOutput,
                (None, None) => row.outcome = Outcome::ShapeMismatch,
                (None, Some(theirs)) => compare_rows(&mut row, reference, theirs, tolerances),
            }
            if let (Some(produced), Some(stage)) = (produced, stage) {
                row.production_equal = Some(same(produced, stage));
            }
            rows.push(row);
        }
    }
}

fn same(a: &Tensor, b: &Tensor) -> bool {
    a.datatype == b.datatype && a.shape == b.shape && a.data == b.data
}

/// What the answering side alone still says: its own top-1.
fn one_sided(row: &mut Comparison, item: &Item<'_>) {
    let exact = Tolerance {
        rtol: 0.0,
        atol: 0.0,
    };
    let side = (item.datatype, item.data);
    let own = compare_item(item.elements, side, side, exact);
    match row.outcome {
        Outcome::StageFailed => {
            row.reference_top1 = own.reference_top1;
            row.reference_margin = own.reference_margin;
            row.reference_tie = own.reference_tie;
        }
        _ => {
            row.stage_top1 = own.stage_top1;
            row.stage_tie = own.stage_tie;
        }
    }
}

fn compare_rows(
    row: &mut Comparison,
    reference: &Item<'_>,
    stage: &Item<'_>,
    tolerances: &BTreeMap<String, Tolerance>,
) {
    if reference.shape != stage.shape {
        row.outcome = Outcome::ShapeMismatch;
        row.error = Some(format!("the stage's item has shape {:?}", stage.shape));
        return;
    }
    let tolerance = tolerance_for(&row.output, reference.datatype, tolerances);
    (row.rtol, row.atol) = (tolerance.rtol, tolerance.atol);
    let bytes = [reference.datatype, stage.datatype].map(|d| d == Datatype::Bytes);
    let numbers = match bytes {
        [true, true] => {
            let equal = reference.data == stage.data;
            let violations = u64::from(!equal);
            let elements = reference.elements as u64;
            Numbers {
                elements,
                bits_equal: equal,
                violations,
                ..Numbers::default()
            }
        }
        [false, false] => compare_item(
            reference.elements,
            (reference.datatype, reference.data),
            (stage.datatype, stage.data),
            tolerance,
        ),
        _ => {
            row.outcome = Outcome::DatatypeMismatch;
            row.error = Some(format!("the stage's output is {}", stage.datatype));
            return;
        }
    };
    row.elements = numbers.elements;
    row.bits_equal = numbers.bits_equal;
    row.max_abs = numbers.max_abs;
    row.mean_abs = numbers.mean_abs;
    row.max_rel = numbers.max_rel;
    row.rel_l2 = numbers.rel_l2;
    row.cosine = numbers.cosine;
    row.log_norm_ratio = numbers.log_norm_ratio;
    row.max_ulp = numbers.max_ulp;
    row.violations = numbers.violations;
    row.nonfinite_mismatches = numbers.nonfinite_mismatches;
    row.nonfinite_matched = numbers.nonfinite_matched;
    row.worst_index = numbers.worst_index;
    row.reference_top1 = numbers.reference_top1;
    row.stage_top1 = numbers.stage_top1;
    row.reference_margin = numbers.reference_margin;
    row.reference_tie = numbers.reference_tie;
    row.stage_tie = numbers.stage_tie;
}

/// One row of a tensor, or all of it.
struct Item<'a> {
    datatype: Datatype,
    shape: &'a [i64],
    elements: usize,
    data: &'a [u8],
}

impl<'a> Item<'a> {
    fn whole(t: &'a Tensor) -> Self {
        let data = t.data.as_deref().unwrap_or_default();
        let elements = t
            .elements()
            .ok()
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(0);
        Self {
            datatype: t.datatype,
            shape: &t.shape,
            elements,
            data,
        }
    }

    /// Rows of axis 0. A tensor without one (0-D) or of BYTES has one item: itself.
    fn rows(t: &'a Tensor) -> Vec<Self> {
        let whole = Self::whole(t);
        let (Some((&rows, rest)), Some(size)) = (t.shape.split_first(), t.datatype.size()) else {
            return vec![whole];
        };
        let Ok(rows) = usize::try_from(rows) else {
            return vec![whole];
        };
        let elements = whole.elements.checked_div(rows).unwrap_or(0);
        (0..rows)
            .map(|i| Self {
                datatype: t.datatype,
                shape: rest,
                elements,
                data: &whole.data[i * elements * size..(i + 1) * elements * size],
            })
            .collect()
    }
}
