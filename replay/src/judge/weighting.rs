//! What an item weighs, and with which others it stands.

use std::collections::BTreeMap;

use inferdiff_schemas::run::requests::RequestRow;

use super::JudgeError;
use crate::labels::Joined;

/// Weights and clusters of all items of a run.
pub(super) struct Weighting<'a> {
    weights: Vec<f64>,
    /// Of each request, by `--cluster-by`; without it a label's cluster, else the exchange.
    clusters: Option<Vec<Option<String>>>,
    labels: Option<&'a Joined>,
}

/// With which others an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key<'a> {
    Named(&'a str),
    Request(usize),
}

impl<'a> Weighting<'a> {
    pub fn new(
        requests: &[RequestRow],
        cluster_by: Option<&str>,
        labels: Option<&'a Joined>,
    ) -> Result<Self, JudgeError> {
        let weights = requests.iter().map(|r| match r.sample_rate {
            rate if rate > 0.0 && rate.is_finite() => Ok(1.0 / rate),
            rate => Err(JudgeError::Criterion(format!(
                "exchange {} was recorded with the sampling rate {rate}: it stands for no number \
                 of exchanges",
                r.seq
            ))),
        });
        let clusters = cluster_by
            .map(|by| {
                let value = property(by)
                    .map_err(|why| JudgeError::Criterion(format!("--cluster-by {by}: {why}")))?;
                let clusters: Vec<_> = requests.iter().map(value).collect();
                if clusters.iter().all(Option::is_none) {
                    return Err(JudgeError::Criterion(format!(
                        "--cluster-by {by}: none of {} exchanges has it",
                        requests.len()
                    )));
                }
                Ok(clusters)
            })
            .transpose()?;
        Ok(Self {
            weights: weights.collect::<Result<_, _>>()?,
            clusters,
            labels,
        })
    }

    /// Weight and cluster of an item.
    pub fn of(&self, request: usize, item: u32) -> (f64, Key<'_>) {
        let label = self.labels.and_then(|l| l.by_item.get(&(request, item)));
        let weight = self.weights[request] * label.map_or(1.0, |l| l.weight);
        let named = match &self.clusters {
            Some(clusters) => clusters[request].as_deref(),
            None => label.and_then(|l| l.cluster.as_deref()),
        };
        (weight, named.map_or(Key::Request(request), Key::Named))
    }
}

/// Reads a property of a request by which traffic can be cut.
type Property = Box<dyn Fn(&RequestRow) -> Option<String>>;

/// The property of that name.
pub(super) fn property(by: &str) -> Result<Property, String> {
    Ok(match by.split_once(':') {
        None if by == "model" => Box::new(|r| r.model.clone()),
        None if by == "model_version" => Box::new(|r| r.model_version.clone()),
        None if by == "sequence_id" => Box::new(|r| r.sequence_id.clone()),
        None if by == "client_request_id" => Box::new(|r| r.client_request_id.clone()),
        None if by == "shape" => Box::new(|r| Some(bucket(&r.shapes))),
        Some(("header", name)) if !name.is_empty() => {
            let name = name.to_owned();
            Box::new(move |r| r.header(&name))
        }
        _ => {
            return Err(
                "known: model, model_version, sequence_id, client_request_id, shape, \
                        header:NAME"
                    .to_owned(),
            );
        }
    })
}

/// `x[1,3,≤256,≤256]`: sizes above 8 by the next power of two, so that shapes fall together.
fn bucket(shapes: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    let mut inside = false;
    for c in shapes.chars().chain([';']) {
        if inside && c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if let Ok(n) = digits.parse::<u64>() {
            match n {
                0..=8 => out += &digits,
                _ => out += &format!("≤{}", n.checked_next_power_of_two().unwrap_or(u64::MAX)),
            }
        }
        digits.clear();
        inside = matches!(c, '[' | ',') || (inside && c != ']');
        out.push(c);
    }
    out.pop();
    out
}

/// Items of each value of a property, by value; exchanges without it are left out.
pub(super) fn slices(
    requests: &[RequestRow],
    by: &str,
) -> Result<BTreeMap<String, Vec<usize>>, String> {
    let value = property(by)?;
    let mut out: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, request) in requests.iter().enumerate() {
        if let Some(value) = value(request) {
            out.entry(value).or_default().push(i);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_fall_together_by_powers_of_two() {
        assert_eq!(bucket("x[1,3,224,256];m9[17]"), "x[1,3,≤256,≤256];m9[≤32]");
        assert_eq!(bucket("x[]"), "x[]");
        assert_eq!(bucket(""), "");
    }

    #[test]
    fn what_cannot_weigh_or_cluster_is_named() {
        let mut e = inferdiff_schemas::Exchange::new(ulid::Ulid::nil(), 3);
        let rows = |e: &inferdiff_schemas::Exchange| [RequestRow::of(e.clone())];
        let why =
            |rows: &[RequestRow], by| Weighting::new(rows, by, None).err().unwrap().to_string();
        assert!(why(&rows(&e), Some("user")).contains("header:NAME"));
        assert!(why(&rows(&e), Some("header:user")).contains("none of 1"));
        e.sample_rate = 0.0;
        assert!(why(&rows(&e), None).contains("exchange 3"));
    }
}
