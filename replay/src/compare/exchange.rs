//! One exchange: outputs matched by name, items cut from the batch axis.

use std::collections::BTreeMap;

use inferdiff_schemas::run::comparison::{ComparisonRow, Numbers, Outcome};
use inferdiff_schemas::run::ladder::{OutputTolerance, Tolerance};
use inferdiff_schemas::{Datatype, Exchange, Tensor};

use super::elements::coarser;
use super::{Comparer, tolerance_for};

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

/// Tells one row per item and output of the reference (or of the stage, where the reference has no
/// answer; one nameless row per item where nobody has). Returns whether every bit was equal.
///
/// # Errors
/// Those of `tell`.
pub fn compare_exchange<E>(
    comparer: &mut Comparer,
    sides: &Compared<'_>,
    tolerances: &BTreeMap<String, OutputTolerance>,
    tell: &mut impl FnMut(&ComparisonRow<'_>) -> Result<(), E>,
) -> Result<bool, E> {
    let blank = ComparisonRow {
        recorder: sides.exchange.recorder,
        seq: sides.exchange.seq,
        item: 0,
        output: "",
        outcome: Outcome::Compared,
        error: None,
        datatype: "",
        shape: &[],
        production_equal: None,
        rtol: 0.0,
        atol: 0.0,
        numbers: Numbers::default(),
    };
    let (outputs, failure) = match (sides.reference, sides.stage) {
        (Ok(reference), Ok(_)) => (reference, None),
        (Ok(reference), Err(e)) => (reference, Some((Outcome::StageFailed, e))),
        (Err(e), Ok(stage)) => (stage, Some((Outcome::ReferenceFailed, e))),
        (Err(e), Err(_)) => {
            for item in 0..sides.items {
                tell(&ComparisonRow {
                    item,
                    outcome: Outcome::BothFailed,
                    error: Some(e),
                    production_equal: sides.exchange.outputs.as_ref().map(|_| false),
                    ..blank
                })?;
            }
            return Ok(false);
        }
    };
    let named = |tensors: &'_ [Tensor], name: &str| tensors.iter().position(|t| t.name == name);
    let mut all_equal = true;
    for output in outputs {
        let stage = sides.stage.ok();
        let stage = stage.and_then(|s| Some(&s[named(s, &output.name)?]));
        let recorded = sides.exchange.outputs.as_deref().unwrap_or_default();
        let produced = named(recorded, &output.name).map(|at| &recorded[at]);
        // A stage without an answer does not reproduce production's.
        let production_equal = produced.map(|p| stage.is_some_and(|s| same(p, s)));
        // Before shapes: BYTES have no rows of equal size, so they are not cut into items.
        let mismatch = stage.filter(|s| !comparable(output, s));
        let mismatch = mismatch.map(|s| format!("the stage's output is {}", s.datatype));
        let datatype = stage.map_or(output.datatype, |s| coarser(output.datatype, s.datatype));
        let tolerance = tolerance_for(&output.name, datatype, tolerances);
        let theirs = stage.map(|s| Items::of(s, sides.batch_axis));
        let items = Items::of(output, sides.batch_axis);
        let other_shape = theirs
            .as_ref()
            .filter(|t| (t.count, t.shape) != (items.count, items.shape))
            .map(|t| format!("the stage's shape is {:?}", t.tensor.shape));
        for (i, reference) in items.iter().enumerate() {
            let mut row = ComparisonRow {
                item: u32::try_from(i).unwrap_or(u32::MAX),
                output: &output.name,
                datatype: output.datatype.name(),
                shape: reference.shape,
                production_equal,
                ..blank
            };
            match (
                failure,
                mismatch.as_deref(),
                theirs.as_ref().map(|t| t.get(i)),
            ) {
                (Some((outcome, error)), ..) => {
                    (row.outcome, row.error) = (outcome, Some(error));
                }
                (None, Some(why), _) => {
                    (row.outcome, row.error) = (Outcome::DatatypeMismatch, Some(why));
                }
                (None, None, None) => row.outcome = lacking(sides.exchange, output),
                (None, None, Some(theirs)) => match other_shape.as_deref() {
                    Some(why) => (row.outcome, row.error) = (Outcome::ShapeMismatch, Some(why)),
                    None => {
                        (row.rtol, row.atol) = (tolerance.rtol, tolerance.atol);
                        row.numbers = numbers(comparer, &reference, &theirs, tolerance);
                    }
                },
            }
            if row.outcome != Outcome::Compared {
                one_sided(comparer, &mut row, &reference);
            }
            all_equal &= row.numbers.bits_equal;
            tell(&row)?;
        }
    }
    Ok(all_equal)
}

/// A client that names outputs gets no others: production's answer then lacks the rest.
fn lacking(exchange: &Exchange, output: &Tensor) -> Outcome {
    match exchange.requested_outputs.as_deref() {
        Some(asked) if !asked.is_empty() && !asked.contains(&output.name) => Outcome::PartialOutput,
        _ => Outcome::MissingOutput,
    }
}

/// Numbers with numbers, BYTES with BYTES.
fn comparable(a: &Tensor, b: &Tensor) -> bool {
    (a.datatype == Datatype::Bytes) == (b.datatype == Datatype::Bytes)
}

fn same(a: &Tensor, b: &Tensor) -> bool {
    a.datatype == b.datatype && a.shape == b.shape && a.data == b.data
}

fn numbers(
    comparer: &mut Comparer,
    reference: &Item<'_>,
    stage: &Item<'_>,
    tolerance: Tolerance,
) -> Numbers {
    if reference.datatype == Datatype::Bytes {
        let equal = reference.data == stage.data;
        return Numbers {
            elements: reference.elements as u64,
            bits_equal: equal,
            violations: u64::from(!equal),
            ..Numbers::default()
        };
    }
    comparer.item(
        reference.elements,
        (reference.datatype, reference.data),
        (stage.datatype, stage.data),
        tolerance,
    )
}

/// What the answering side alone still says, where the two cannot be compared: its own top-1. Without
/// it a stage that lacks an answer would be scored beside a reference that seems to lack one too.
fn one_sided(comparer: &mut Comparer, row: &mut ComparisonRow<'_>, item: &Item<'_>) {
    let exact = Tolerance {
        rtol: 0.0,
        atol: 0.0,
    };
    let own = numbers(comparer, item, item, exact);
    row.numbers = match row.outcome {
        Outcome::ReferenceFailed => Numbers {
            stage_top1: own.stage_top1,
            stage_tie: own.stage_tie,
            ..Numbers::default()
        },
        _ => Numbers {
            reference_top1: own.reference_top1,
            reference_margin: own.reference_margin,
            reference_tie: own.reference_tie,
            ..Numbers::default()
        },
    };
}

/// One row of a tensor, or all of it.
struct Item<'a> {
    datatype: Datatype,
    shape: &'a [i64],
    elements: usize,
    data: &'a [u8],
}

/// The rows of axis 0, or the whole tensor.
struct Items<'a> {
    tensor: &'a Tensor,
    shape: &'a [i64],
    count: usize,
    elements: usize,
}

impl<'a> Items<'a> {
    /// A tensor without a batch axis (0-D too) or of BYTES has one item: itself.
    fn of(tensor: &'a Tensor, batch_axis: bool) -> Self {
        let elements = tensor.elements().ok();
        let elements = elements.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let whole = Self {
            tensor,
            shape: &tensor.shape,
            count: 1,
            elements,
        };
        let rows = tensor.shape.split_first().filter(|_| batch_axis);
        let (Some((&rows, rest)), Some(_)) = (rows, tensor.datatype.size()) else {
            return whole;
        };
        match usize::try_from(rows) {
            Ok(count) => Self {
                shape: rest,
                count,
                elements: elements.checked_div(count).unwrap_or(0),
                ..whole
            },
            Err(_) => whole,
        }
    }

    fn get(&self, i: usize) -> Item<'a> {
        let data = self.tensor.data.as_deref().unwrap_or_default();
        let data = match self.tensor.datatype.size() {
            // A recorded tensor may hold less than its shape says.
            Some(size) => {
                let n = self.elements * size;
                data.get(i * n..(i + 1) * n).unwrap_or_default()
            }
            None => data,
        };
        Item {
            datatype: self.tensor.datatype,
            shape: self.shape,
            elements: self.elements,
            data,
        }
    }

    fn iter(&self) -> impl Iterator<Item = Item<'a>> {
        (0..self.count).map(|i| self.get(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ulid::Ulid;

    fn logits(name: &str, shape: &[i64], values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::inline(name, Datatype::Fp32, shape.to_vec(), Bytes::from(data)).unwrap()
    }

    /// Outcome, reference_top1, stage_top1 and production_equal of every row.
    type Told = (Outcome, Option<u32>, Option<u32>, Option<bool>);

    fn rows(reference: Answer<'_>, stage: Answer<'_>, recorded: Option<Tensor>) -> Vec<Told> {
        let mut exchange = Exchange::new(Ulid::nil(), 0);
        exchange.outputs = recorded.map(|t| vec![t]);
        let sides = Compared {
            exchange: &exchange,
            reference,
            stage,
            batch_axis: true,
            items: 1,
        };
        let mut rows = Vec::new();
        let mut tell = |row: &ComparisonRow<'_>| {
            let n = &row.numbers;
            rows.push((
                row.outcome,
                n.reference_top1,
                n.stage_top1,
                row.production_equal,
            ));
            Ok::<(), ()>(())
        };
        let mut comparer = Comparer::default();
        compare_exchange(&mut comparer, &sides, &BTreeMap::new(), &mut tell).unwrap();
        rows
    }

    #[test]
    fn whatever_the_stage_lacks_the_references_answer_still_counts() {
        let reference = [logits("y", &[1, 3], &[0.0, 2.0, 1.0])];
        let text = Tensor::inline("y", Datatype::Bytes, vec![1, 3], Bytes::from(vec![0; 12]));
        let stages: [(Answer<'_>, Outcome); 6] = [
            (Err("boom"), Outcome::StageFailed),
            (
                Ok(&[logits("z", &[1, 3], &[0.0, 2.0, 1.0])]),
                Outcome::MissingOutput,
            ),
            (
                Ok(&[logits("y", &[1, 2], &[0.0, 2.0])]),
                Outcome::ShapeMismatch,
            ),
            (Ok(&[logits("y", &[0, 3], &[])]), Outcome::ShapeMismatch),
            // Which of the two rows answers the one request, nobody knows.
            (
                Ok(&[logits("y", &[2, 3], &[0.0, 2.0, 1.0, 0.0, 2.0, 1.0])]),
                Outcome::ShapeMismatch,
            ),
            (Ok(&[text.unwrap()]), Outcome::DatatypeMismatch),
        ];
        for (stage, outcome) in stages {
            let row = rows(Ok(&reference), stage, None)[0];
            assert_eq!(row, (outcome, Some(1), None, None));
        }
    }

    #[test]
    fn a_stage_without_an_answer_does_not_reproduce_production() {
        let answer = logits("y", &[1, 2], &[0.0, 2.0]);
        let same = std::slice::from_ref(&answer);
        let equal = |reference, stage| rows(reference, stage, Some(answer.clone()))[0].3;
        assert_eq!(equal(Ok(same), Ok(same)), Some(true));
        assert_eq!(equal(Ok(same), Err("boom")), Some(false));
        assert_eq!(equal(Ok(same), Ok(&[])), Some(false));
        assert_eq!(equal(Err("boom"), Err("boom")), Some(false));
        assert_eq!(rows(Ok(same), Ok(same), None)[0].3, None);
    }
}
