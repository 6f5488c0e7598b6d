//! What an item weighs, and with which others it stands.

use std::collections::BTreeMap;

use inferdiff_schemas::run::requests::{RequestColumns, RequestRow};

use super::JudgeError;
use crate::labels::Joined;
use crate::requests::{Requests, place};

/// Weights and clusters of all items of a run.
pub(super) struct Weighting<'a> {
    requests: &'a Requests,
    /// By `--cluster-by`; without it a label's cluster, else the exchange.
    clusters: Option<Parts>,
    labels: Option<&'a Joined>,
}

/// With which others an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key<'a> {
    Named(&'a str),
    Request(u32),
}

impl<'a> Weighting<'a> {
    pub fn new(
        requests: &'a Requests,
        cluster_by: Option<&str>,
        labels: Option<&'a Joined>,
    ) -> Result<Self, JudgeError> {
        for (first, rate) in requests.sample_rates() {
            if !(rate > 0.0 && rate.is_finite()) {
                return Err(JudgeError::Criterion(format!(
                    "exchange {} was recorded with the sampling rate {rate}: it stands for no number \
                     of exchanges",
                    requests.key(first).1
                )));
            }
        }
        let clusters = cluster_by.map(|by| parts(requests, by, "--cluster-by"));
        Ok(Self {
            requests,
            clusters: clusters.transpose()?,
            labels,
        })
    }

    /// Weight and cluster of an item.
    pub fn of(&self, request: u32, item: u32) -> (f64, Key<'_>) {
        let label = self.labels.and_then(|l| l.get(request, item));
        let weight = label.map_or(1.0, |l| l.weight) * (1.0 / self.requests.sample_rate(request));
        let named = match &self.clusters {
            Some(clusters) => clusters.of(request),
            None => label.and_then(|l| l.cluster.as_deref()),
        };
        (weight, named.map_or(Key::Request(request), Key::Named))
    }
}

/// The traffic by the values of a property.
pub(super) struct Parts {
    /// In order.
    pub values: Vec<String>,
    /// Of each request: which of the values, [`NONE`] where it has none.
    of: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Parts {
    /// Which of the values a request has.
    pub fn part(&self, request: u32) -> Option<usize> {
        let part = self.of[request as usize];
        (part != NONE).then_some(part as usize)
    }

    fn of(&self, request: u32) -> Option<&str> {
        self.part(request).map(|part| self.values[part].as_str())
    }
}

/// Cuts the traffic by a property that some of it must have; `option` asked for it.
pub(super) fn parts(requests: &Requests, by: &str, option: &str) -> Result<Parts, JudgeError> {
    let fail = |why: String| JudgeError::Criterion(format!("{option} {by}: {why}"));
    let property = property(by).map_err(fail)?;
    let mut known: BTreeMap<String, u32> = BTreeMap::new();
    let mut of = Vec::with_capacity(requests.len());
    for row in requests.read(RequestColumns::All)? {
        of.push(property(&row?).map_or(NONE, |value| {
            let next = place(known.len());
            *known.entry(value).or_insert(next)
        }));
    }
    if known.is_empty() {
        return Err(fail(format!("none of {} exchanges has it", requests.len())));
    }
    // Numbered as they came; told in their order.
    let mut order = vec![NONE; known.len()];
    for (at, came) in known.values().enumerate() {
        order[*came as usize] = place(at);
    }
    let known_parts = of.iter_mut().filter(|part| **part != NONE);
    known_parts.for_each(|part| *part = order[*part as usize]);
    let values = known.into_keys().collect();
    Ok(Parts { values, of })
}

/// Reads a property of a request by which traffic can be cut.
type Property = Box<dyn Fn(&RequestRow) -> Option<String>>;

/// The property of that name.
fn property(by: &str) -> Result<Property, String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::tests::kept;

    #[test]
    fn shapes_fall_together_by_powers_of_two() {
        assert_eq!(bucket("x[1,3,224,256];m9[17]"), "x[1,3,≤256,≤256];m9[≤32]");
        assert_eq!(bucket("x[]"), "x[]");
        assert_eq!(bucket(""), "");
    }

    #[test]
    fn what_cannot_weigh_or_cluster_is_named() {
        let mut e = inferdiff_schemas::Exchange::new(ulid::Ulid::nil(), 3);
        let why = |e: &inferdiff_schemas::Exchange, by| {
            let (_folder, requests) = kept([e.clone()]);
            let refused = Weighting::new(&requests, by, None).err();
            refused.unwrap().to_string()
        };
        assert!(why(&e, Some("user")).contains("header:NAME"));
        assert!(why(&e, Some("header:user")).contains("none of 1"));
        e.sample_rate = 0.0;
        assert!(why(&e, None).contains("exchange 3"));
    }

    #[test]
    fn parts_are_told_in_order_and_keep_their_requests() {
        let of = |model: Option<&str>| inferdiff_schemas::Exchange {
            model: model.map(str::to_owned),
            ..inferdiff_schemas::Exchange::new(ulid::Ulid::nil(), 0)
        };
        let (_folder, requests) = kept([Some("b"), None, Some("a"), Some("b")].map(of));
        let parts = parts(&requests, "model", "--slice-by").ok().unwrap();
        assert_eq!(parts.values, ["a", "b"]);
        let found: Vec<_> = (0..4).map(|request| parts.part(request)).collect();
        assert_eq!(found, [Some(1), None, Some(0), Some(1)]);
    }
}
