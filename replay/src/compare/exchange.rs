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
            let produced = sides.exchange.outputs.as_ref().map(|_| false);
            rows.extend((0..sides.items).map(|i| Comparison {
                production_equal: produced,
                ..blank(i, "", Outcome::BothFailed, Some(e))
            }));
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
                }
                (None, _) if stage.is_none() => row.outcome = lacking(sides.exchange, output),
                // Before shapes: BYTES have no rows of equal size, so they are not cut into items.
                (None, _) if stage.is_some_and(|t| !comparable(output, t)) => {
                    row.outcome = Outcome::DatatypeMismatch;
                    row.error = stage.map(|t| format!("the stage's output is {}", t.datatype));
                }
                (None, None) => row.outcome = Outcome::ShapeMismatch,
                (None, Some(theirs)) => compare_rows(&mut row, reference, theirs, tolerances),
            }
            if row.outcome != Outcome::Compared {
                one_sided(&mut row, reference);
            }
            if let Some(produced) = produced {
                // A stage without an answer does not reproduce production's.
                row.production_equal = Some(stage.is_some_and(|s| same(produced, s)));
            }
            rows.push(row);
        }
    }
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

/// What the answering side alone still says, where the two cannot be compared: its own top-1. Without
/// it a stage that lacks an answer would be scored beside a reference that seems to lack one too.
fn one_sided(row: &mut Comparison, item: &Item<'_>) {
    let exact = Tolerance {
        rtol: 0.0,
        atol: 0.0,
    };
    let side = (item.datatype, item.data);
    let own = compare_item(item.elements, side, side, exact);
    match row.outcome {
        Outcome::ReferenceFailed => {
            row.stage_top1 = own.stage_top1;
            row.stage_tie = own.stage_tie;
        }
        _ => {
            row.reference_top1 = own.reference_top1;
            row.reference_margin = own.reference_margin;
            row.reference_tie = own.reference_tie;
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
    let numbers = if reference.datatype == Datatype::Bytes {
        let equal = reference.data == stage.data;
        Numbers {
            elements: reference.elements as u64,
            bits_equal: equal,
            violations: u64::from(!equal),
            ..Numbers::default()
        }
    } else {
        compare_item(
            reference.elements,
            (reference.datatype, reference.data),
            (stage.datatype, stage.data),
            tolerance,
        )
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ulid::Ulid;

    fn logits(name: &str, shape: &[i64], values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::inline(name, Datatype::Fp32, shape.to_vec(), Bytes::from(data)).unwrap()
    }

    fn rows(reference: Answer<'_>, stage: Answer<'_>, recorded: Option<Tensor>) -> Vec<Comparison> {
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
        compare_exchange(&sides, &BTreeMap::new(), &mut rows);
        rows
    }

    #[test]
    fn whatever_the_stage_lacks_the_references_answer_still_counts() {
        let reference = [logits("y", &[1, 3], &[0.0, 2.0, 1.0])];
        let text = Tensor::inline("y", Datatype::Bytes, vec![1, 3], Bytes::from(vec![0; 12]));
        let stages: [(Answer<'_>, Outcome); 5] = [
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
            (Ok(&[text.unwrap()]), Outcome::DatatypeMismatch),
        ];
        for (stage, outcome) in stages {
            let row = &rows(Ok(&reference), stage, None)[0];
            assert_eq!(row.outcome, outcome);
            assert_eq!(
                (row.reference_top1, row.stage_top1),
                (Some(1), None),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn a_stage_without_an_answer_does_not_reproduce_production() {
        let answer = logits("y", &[1, 2], &[0.0, 2.0]);
        let same = std::slice::from_ref(&answer);
        let equal =
            |reference, stage| rows(reference, stage, Some(answer.clone()))[0].production_equal;
        assert_eq!(equal(Ok(same), Ok(same)), Some(true));
        assert_eq!(equal(Ok(same), Err("boom")), Some(false));
        assert_eq!(equal(Ok(same), Ok(&[])), Some(false));
        assert_eq!(equal(Err("boom"), Err("boom")), Some(false));
        assert_eq!(rows(Ok(same), Ok(same), None)[0].production_equal, None);
    }
}
