//! The first difference between two requests' inputs, and what it looks like.

use inferdiff_schemas::{Payload, Tensor};
use serde::Serialize;

use super::looks::Looks;
use super::tensors::Pair;
use super::values::{index, shown};

/// The first differing element.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct First {
    /// Index, one number per axis.
    pub index: Vec<usize>,
    /// Value in the first capture.
    pub a: String,
    /// Value in the second capture.
    pub b: String,
}

/// One tensor that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Name.
    pub tensor: String,
    /// Datatype and shape in the first capture, where it is there.
    pub a: Option<String>,
    /// Datatype and shape in the second capture, where it is there.
    pub b: Option<String>,
    /// The first differing element, where both have the same shape.
    pub first: Option<First>,
    /// Elements that differ, where both have the same shape.
    pub differing: Option<u64>,
    /// Largest |a − b|, where both have the same shape and finite numbers.
    pub max_abs: Option<f64>,
    /// What explains the difference; changes that were made one after another are all named.
    pub looks: Change,
}

/// Changes made one after another, never none.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Change(pub Vec<Looks>);

impl Change {
    /// The kinds without their numbers, for counting.
    pub fn kind(&self) -> String {
        let kinds: Vec<_> = self.0.iter().map(Looks::kind).collect();
        kinds.join(" + ")
    }
}

/// Every tensor that differs, in the order of `a`, then those that only `b` has.
pub fn explain(a: &[Tensor], b: &[Tensor]) -> Vec<Finding> {
    let mut taken = vec![false; b.len()];
    let mut findings = Vec::new();
    let mut alone = Vec::new();
    for x in a {
        let partner = b
            .iter()
            .enumerate()
            .find(|(j, y)| !taken[*j] && y.name == x.name && y.message == x.message);
        match partner {
            Some((j, y)) => {
                taken[j] = true;
                findings.extend(compare(x, y));
            }
            None => alone.push(x),
        }
    }
    for x in alone {
        let same = |y: &Tensor| {
            y.datatype == x.datatype && y.shape == x.shape && y.data == x.data && x.data.is_some()
        };
        let renamed = b.iter().enumerate().find(|(j, y)| !taken[*j] && same(y));
        let looks = match renamed {
            Some((j, y)) => {
                taken[j] = true;
                Looks::Renamed { to: y.name.clone() }
            }
            None => Looks::Missing { only: 'a' },
        };
        findings.push(finding(Some(x), renamed.map(|(_, y)| y), vec![looks]));
    }
    for (y, _) in b.iter().zip(taken).filter(|(_, taken)| !taken) {
        findings.push(finding(None, Some(y), vec![Looks::Missing { only: 'b' }]));
    }
    findings
}

fn finding(a: Option<&Tensor>, b: Option<&Tensor>, looks: Vec<Looks>) -> Finding {
    let described = |t: &Tensor| format!("{}{:?}", t.datatype, t.shape);
    Finding {
        tensor: a.or(b).map_or_else(String::new, |t| t.name.clone()),
        a: a.map(described),
        b: b.map(described),
        first: None,
        differing: None,
        max_abs: None,
        looks: Change(looks),
    }
}

fn compare(a: &Tensor, b: &Tensor) -> Option<Finding> {
    if a.payload != Payload::Inline || b.payload != Payload::Inline {
        return None;
    }
    if a.datatype == b.datatype && a.shape == b.shape && a.data == b.data {
        return None;
    }
    let pair = Pair::new(a, b);
    let mut found = finding(Some(a), Some(b), pair.looks());
    if a.shape == b.shape {
        let n = pair.a.len().min(pair.b.len());
        let differs: Vec<usize> = (0..n).filter(|&i| !pair.same(i, i)).collect();
        found.differing = Some(differs.len() as u64);
        found.first = differs.first().map(|&i| First {
            index: index(&pair.shape_a, i),
            a: shown(a.datatype, pair.a.at(i)),
            b: shown(b.datatype, pair.b.at(i)),
        });
        found.max_abs = pair.numbers.as_ref().and_then(|(x, y)| {
            let distance = x.iter().zip(y).map(|(x, y)| (x - y).abs());
            distance.filter(|d| d.is_finite()).reduce(f64::max)
        });
    }
    Some(found)
}
