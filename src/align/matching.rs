//! Which exchange of one capture belongs to which of the other.

use std::collections::{BTreeMap, HashMap};

use inferdiff_schemas::capture::{Capture, CaptureError, Projection};
use serde::Serialize;

use super::not_kept;

/// How exchanges find each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// By the client's ids where both captures share one, else by order.
    Auto,
    /// By the client's ids; an id that is repeated pairs up in the order of arrival.
    ClientId,
    /// The n-th to arrive with the n-th.
    Order,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Matched {
    /// What was used.
    pub by: By,
    /// Pairs.
    pub pairs: u64,
    /// Requests of the first capture without a partner.
    pub only_a: u64,
    /// Requests of the second capture without a partner.
    pub only_b: u64,
    /// The first of them, by name.
    pub first_only: Vec<String>,
    /// Client ids that occur more than once in one of the captures.
    pub repeated_ids: u64,
    /// Exchanges of the first capture without tensors, by reason.
    pub left_out_a: BTreeMap<String, u64>,
    /// Exchanges of the second capture without tensors, by reason.
    pub left_out_b: BTreeMap<String, u64>,
}

/// Where an exchange lies.
pub(super) struct Place {
    pub segment: usize,
    pub row_group: usize,
    pub row: usize,
}

/// What is known of an exchange without its payloads.
pub(super) struct Key {
    pub id: String,
    pub client_request_id: Option<String>,
    pub digest: Option<[u8; 16]>,
    /// Why the digest does not cover every input.
    pub not_kept: Option<&'static str>,
    pub place: Place,
    order: (i64, u64),
}

/// Names that stand for a whole list of them in a message.
const NAMED: usize = 5;

/// The keys of a capture's decoded requests in order of arrival, and the rest by reason.
pub(super) fn keys(capture: &Capture) -> Result<(Vec<Key>, BTreeMap<String, u64>), CaptureError> {
    if let Some(damage) = capture.unreadable().first() {
        return Err(CaptureError::damaged(capture.layout().root(), damage));
    }
    let (mut keys, mut left_out) = (Vec::new(), BTreeMap::new());
    for (n, segment) in capture.segments().iter().enumerate() {
        for row_group in 0..segment.row_groups {
            let rows = capture.read(segment, row_group, Projection::Shapes)?;
            for (row, e) in rows.into_iter().enumerate() {
                let reason = match &e.inputs {
                    None if e.protocol == "http" => Some("not_inference"),
                    None => Some("undecoded"),
                    Some(_) if e.part != 0 || !e.last => Some("stream_in_parts"),
                    Some(_) => None,
                };
                if let Some(reason) = reason {
                    *left_out.entry(reason.to_owned()).or_default() += 1;
                    continue;
                }
                keys.push(Key {
                    not_kept: e.inputs.iter().flatten().find_map(|t| not_kept(t.payload)),
                    id: e.id,
                    client_request_id: e.client_request_id,
                    digest: e.input_digest,
                    place: Place {
                        segment: n,
                        row_group,
                        row,
                    },
                    order: (e.arrived_at_ns, e.seq),
                });
            }
        }
    }
    keys.sort_by_key(|k| k.order);
    Ok((keys, left_out))
}

/// Pairs of indices in the order of `a`, and how they were found.
pub(super) fn pair(a: &[Key], b: &[Key], by: By) -> (Vec<(usize, usize)>, Matched) {
    let mut ids: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, key) in b.iter().enumerate() {
        if let Some(id) = &key.client_request_id {
            ids.entry(id).or_default().push(j);
        }
    }
    let shared = a
        .iter()
        .filter_map(|k| k.client_request_id.as_deref())
        .any(|id| ids.contains_key(id));
    let by = match by {
        By::Auto if shared => By::ClientId,
        By::Auto => By::Order,
        by => by,
    };
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut pairs = Vec::new();
    if by == By::Order {
        pairs.extend((0..a.len().min(b.len())).map(|i| (i, i)));
    } else {
        for (i, key) in a.iter().enumerate() {
            let Some(id) = key.client_request_id.as_deref() else {
                continue;
            };
            let nth = seen.entry(id).or_default();
            if let Some(&j) = ids.get(id).and_then(|all| all.get(*nth)) {
                pairs.push((i, j));
            }
            *nth += 1;
        }
    }
    let repeated = ids
        .iter()
        .filter(|(id, all)| all.len() > 1 || seen.get(*id).is_some_and(|n| *n > 1))
        .count()
        + seen
            .iter()
            .filter(|(id, n)| **n > 1 && !ids.contains_key(*id))
            .count();
    let alone = |keys: &[Key], taken: Vec<usize>| -> Vec<String> {
        let mut free = vec![true; keys.len()];
        for i in taken {
            free[i] = false;
        }
        let name = |k: &Key| k.client_request_id.clone().unwrap_or_else(|| k.id.clone());
        let alone = keys.iter().zip(free).filter(|(_, free)| *free);
        alone.map(|(k, _)| name(k)).collect()
    };
    let only_a = alone(a, pairs.iter().map(|p| p.0).collect());
    let only_b = alone(b, pairs.iter().map(|p| p.1).collect());
    let matched = Matched {
        by,
        pairs: pairs.len() as u64,
        only_a: only_a.len() as u64,
        only_b: only_b.len() as u64,
        first_only: only_a.into_iter().chain(only_b).take(NAMED).collect(),
        repeated_ids: if by == By::ClientId {
            repeated as u64
        } else {
            0
        },
        left_out_a: BTreeMap::new(),
        left_out_b: BTreeMap::new(),
    };
    (pairs, matched)
}
