//! One item's score: against its label, or against the reference's answer.

use super::rank::{jaccard_top, kendall_tau, ndcg, top};
use super::{Kind, Row, cosine};
use crate::labels::LabelValue;

/// How well an answer meets its label.
///
/// # Errors
/// Why the metric does not fit this output or label.
pub(super) fn against_label(kind: &Kind, row: &Row, label: &LabelValue) -> Result<f64, String> {
    if let (Kind::Exact, LabelValue::Text(text)) = (kind, label) {
        let elements = row.elements();
        let [only] = elements.as_slice() else {
            return Err(format!(
                "{} elements, a text label fits one",
                elements.len()
            ));
        };
        return Ok(yes(*only == text.as_bytes()));
    }
    let values = numbers(row)?;
    let class = || match label {
        LabelValue::Class(class) => Ok(*class),
        other => Err(format!("label {other:?} is no integer")),
    };
    match kind {
        Kind::TopK { k } => {
            at_least(&values, 2)?;
            let class = class()?;
            Ok(yes(top(&values, *k)
                .iter()
                .any(|&i| i64::try_from(i) == Ok(class))))
        }
        Kind::Ndcg { k } => {
            at_least(&values, 2)?;
            let class = class()?;
            let mut relevance = vec![0.0; values.len()];
            if let Some(hit) = usize::try_from(class)
                .ok()
                .and_then(|c| relevance.get_mut(c))
            {
                *hit = 1.0;
            }
            // A label that is no element, or an order that is none, gains nothing.
            Ok(ndcg(&relevance, &values, *k).unwrap_or(0.0))
        }
        Kind::Threshold { at, index } => {
            let above = pick(&values, *index)? >= *at;
            Ok(yes(above == (class()? != 0)))
        }
        Kind::Auc { index } => pick(&values, *index),
        Kind::Mae => {
            let wanted = match label {
                LabelValue::Score(score) => *score,
                other => return Err(format!("label {other:?} is no fraction")),
            };
            Ok((pick(&values, None)? - wanted).abs())
        }
        _ => Err("it does not use labels".to_owned()),
    }
}

/// How far the stage's answer is the reference's. Equal bits agree wholly, whatever they hold;
/// `NaN` = it cannot be said (unbounded metrics only).
///
/// # Errors
/// Why the metric does not fit this output.
pub(super) fn agreement(kind: &Kind, reference: &Row, stage: &Row) -> Result<f64, String> {
    let equal = reference.datatype == stage.datatype
        && reference.shape == stage.shape
        && reference.data == stage.data;
    if let Kind::Prefix = kind {
        return prefix(reference, stage);
    }
    let r = numbers(reference)?;
    fits(kind, &r)?;
    if equal {
        return Ok(if *kind == Kind::Mae { 0.0 } else { 1.0 });
    }
    let t = numbers(stage)?;
    let same_shape = r.len() == t.len();
    Ok(match kind {
        Kind::Mae => mean_absolute(&r, &t),
        _ if !same_shape => kind.range().map_or(f64::NAN, |[worst, _]| worst),
        Kind::TopK { k } => jaccard_top(&r, &t, *k),
        Kind::Threshold { at, index } => {
            let decide = |v: f64| v >= *at;
            yes(match index {
                Some(i) => decide(r[*i]) == decide(t[*i]),
                None => r.iter().zip(&t).all(|(a, b)| decide(*a) == decide(*b)),
            })
        }
        Kind::Tau => tau(&r, &t),
        Kind::Ndcg { k } => graded(&r, &t, *k),
        Kind::Cosine => cosine(&r, &t).unwrap_or(0.0),
        _ => return Err("it has no agreement of single items".to_owned()),
    })
}

/// Whether a metric can be computed of such a row at all.
fn fits(kind: &Kind, values: &[f64]) -> Result<(), String> {
    match kind {
        Kind::TopK { .. } | Kind::Tau | Kind::Ndcg { .. } => at_least(values, 2),
        Kind::Threshold {
            index: Some(index), ..
        } => pick(values, Some(*index)).map(|_| ()),
        _ => at_least(values, 1),
    }
}

/// Two constants are in the same (no) order; a constant and an order share nothing.
fn tau(r: &[f64], t: &[f64]) -> f64 {
    let constant = |v: &[f64]| v.windows(2).all(|w| w[0] == w[1]);
    kendall_tau(r, t).unwrap_or_else(|| yes(constant(r) && constant(t)))
}

/// NDCG with the reference's own scores as gains, moved so that the least is 0.
fn graded(r: &[f64], t: &[f64], k: Option<usize>) -> f64 {
    let least = r.iter().copied().fold(f64::INFINITY, f64::min);
    let gains: Vec<f64> = r.iter().map(|v| v - least).collect();
    // A constant reference has no order that could be lost.
    let constant = gains.iter().all(|g| *g == 0.0) && t.iter().all(|v| !v.is_nan());
    ndcg(&gains, t, k).unwrap_or_else(|| yes(constant))
}

/// Mean |r − t| over elements finite on both sides; NaN where a non-finite class differs.
fn mean_absolute(r: &[f64], t: &[f64]) -> f64 {
    if r.len() != t.len() {
        return f64::NAN;
    }
    let (mut sum, mut n) = (0.0, 0u32);
    for (a, b) in r.iter().zip(t) {
        if a.is_finite() && b.is_finite() {
            sum += (a - b).abs();
            n += 1;
        } else if a != b && !(a.is_nan() && b.is_nan()) {
            return f64::NAN;
        }
    }
    if n == 0 { 0.0 } else { sum / f64::from(n) }
}

/// Length of the common prefix of two sequences of elements: where the first one diverges.
pub fn common_prefix(reference: &Row, stage: &Row) -> usize {
    let (a, b) = (reference.elements(), stage.elements());
    a.iter().zip(&b).take_while(|(x, y)| x == y).count()
}

fn prefix(reference: &Row, stage: &Row) -> Result<f64, String> {
    if reference.datatype.size().is_some() && !is_integer(reference) {
        return Err("tokens are integers or BYTES".to_owned());
    }
    if reference.datatype != stage.datatype {
        return Ok(0.0);
    }
    let longest = reference.elements().len().max(stage.elements().len());
    if longest == 0 {
        return Ok(1.0);
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of tokens")]
    Ok(common_prefix(reference, stage) as f64 / longest as f64)
}

fn is_integer(row: &Row) -> bool {
    let name = row.datatype.name();
    name.starts_with("INT") || name.starts_with("UINT") || name == "BOOL"
}

pub(super) fn numbers(row: &Row) -> Result<Vec<f64>, String> {
    row.numbers()
        .ok_or_else(|| "BYTES are no numbers".to_owned())
}

fn at_least(values: &[f64], n: usize) -> Result<(), String> {
    if values.len() < n {
        return Err(format!("{} elements, it needs {n} or more", values.len()));
    }
    Ok(())
}

fn pick(values: &[f64], index: Option<usize>) -> Result<f64, String> {
    match (index, values) {
        (None, [only]) => Ok(*only),
        (None, _) => Err(format!(
            "{} elements: say which one is the score with index=…",
            values.len()
        )),
        (Some(i), _) => values
            .get(i)
            .copied()
            .ok_or_else(|| format!("{} elements, there is no index {i}", values.len())),
    }
}

fn yes(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use inferdiff_schemas::Datatype;

    fn row(values: &[f32]) -> Row {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Row {
            datatype: Datatype::Fp32,
            shape: vec![values.len() as i64],
            data: data.into(),
        }
    }

    #[test]
    fn equal_bits_agree_wholly_also_where_nothing_can_be_computed() {
        let nan = row(&[f32::NAN, f32::NAN]);
        for kind in [
            Kind::TopK { k: 1 },
            Kind::Tau,
            Kind::Ndcg { k: None },
            Kind::Cosine,
        ] {
            assert_eq!(agreement(&kind, &nan, &nan), Ok(1.0), "{kind:?}");
            let other = agreement(&kind, &row(&[1.0, 2.0]), &nan).unwrap();
            assert!(other < 1.0, "{kind:?} {other}");
        }
        assert_eq!(agreement(&Kind::Mae, &nan, &nan), Ok(0.0));
        assert!(
            agreement(&Kind::Mae, &row(&[1.0, 2.0]), &nan)
                .unwrap()
                .is_nan()
        );
    }

    #[test]
    fn a_metric_that_does_not_fit_says_why() {
        let one = row(&[0.5]);
        let why = agreement(&Kind::Tau, &one, &one).unwrap_err();
        assert!(why.contains("needs 2"), "{why}");
        let label = LabelValue::Class(1);
        let two = row(&[0.5, 0.25]);
        let why = against_label(&Kind::Auc { index: None }, &two, &label).unwrap_err();
        assert!(why.contains("index="), "{why}");
        let why = against_label(&Kind::Auc { index: Some(2) }, &two, &label).unwrap_err();
        assert!(why.contains("no index 2"), "{why}");
        assert!(agreement(&Kind::Prefix, &one, &one).is_err());
    }

    #[test]
    fn labels_beyond_the_classes_are_wrong_and_never_a_panic() {
        let two = row(&[0.5, 0.25]);
        for class in [-1, 2, i64::MAX] {
            let label = LabelValue::Class(class);
            assert_eq!(against_label(&Kind::TopK { k: 2 }, &two, &label), Ok(0.0));
            assert_eq!(
                against_label(&Kind::Ndcg { k: None }, &two, &label),
                Ok(0.0)
            );
        }
    }

    #[test]
    fn tokens_diverge_where_they_diverge() {
        let tokens = |v: &[i64]| Row {
            datatype: Datatype::Int64,
            shape: vec![v.len() as i64],
            data: Bytes::from(v.iter().flat_map(|t| t.to_le_bytes()).collect::<Vec<u8>>()),
        };
        let share = |a: &[i64], b: &[i64]| agreement(&Kind::Prefix, &tokens(a), &tokens(b));
        assert_eq!(share(&[1, 2, 3, 4], &[1, 2, 9, 4]), Ok(0.5));
        assert_eq!(share(&[1, 2], &[1, 2, 3, 4]), Ok(0.5));
        assert_eq!(share(&[], &[]), Ok(1.0));
        assert_eq!(share(&[], &[1]), Ok(0.0));
    }
}
