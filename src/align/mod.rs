//! `align`: are the inputs of two captures bit for bit the same, and if not, what happened to them?
//!
//! `Capture + Capture → pairs → differences → Alignment`. Payloads are read only where digests
//! differ, one pair at a time, so memory does not grow with the captures.

mod environment;
mod explain;
mod looks;
mod matching;
mod tensors;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;

use inferdiff_schemas::capture::{Capture, CaptureError, Projection};
use inferdiff_schemas::{Exchange, Payload};
use serde::Serialize;

pub use environment::{Unaligned, environment};
pub use explain::{Change, Finding, First, explain};
pub use looks::Looks;
pub use matching::{By, Matched};

use matching::{Key, Place, keys, pair};

/// How to align.
#[derive(Debug, Clone)]
pub struct AlignOptions {
    /// How exchanges of the two captures find each other.
    pub by: By,
    /// Pairs whose difference is explained; the rest are counted. Default 1000.
    pub explain: usize,
}

impl Default for AlignOptions {
    fn default() -> Self {
        Self {
            by: By::Auto,
            explain: 1000,
        }
    }
}

/// One pair whose inputs differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Exchange id in the first capture.
    pub a: String,
    /// Exchange id in the second capture.
    pub b: String,
    /// The client's id, where it has one.
    pub client_request_id: Option<String>,
    /// What differs, the first of the request's tensors first.
    pub findings: Vec<Finding>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alignment {
    /// Facts about the two sides that differ, most telling first.
    pub environment: Vec<Unaligned>,
    /// How exchanges found each other, and which did not.
    pub matched: Matched,
    /// Pairs whose inputs are equal bit for bit.
    pub equal: u64,
    /// Pairs whose inputs differ.
    pub differing: u64,
    /// Pairs that cannot be compared, by reason.
    pub not_comparable: BTreeMap<String, u64>,
    /// What the differences look like: tensor and kind, and in how many of the explained pairs.
    pub kinds: BTreeMap<String, u64>,
    /// The explained differences, in the order of the first capture.
    pub differences: Vec<Difference>,
}

impl Alignment {
    /// Every exchange found its partner and every pair is equal.
    pub fn is_equal(&self) -> bool {
        self.differing == 0
            && self.not_comparable.is_empty()
            && self.matched.only_a == 0
            && self.matched.only_b == 0
    }
}

/// Aligns two captures.
///
/// # Errors
/// [`CaptureError`]: damaged segments are an error, since "equal" over a part would pass for all.
pub fn align(a: &Capture, b: &Capture, options: &AlignOptions) -> Result<Alignment, CaptureError> {
    let (keys_a, left_a) = keys(a)?;
    let (keys_b, left_b) = keys(b)?;
    let (pairs, mut matched) = pair(&keys_a, &keys_b, options.by);
    matched.left_out_a = left_a;
    matched.left_out_b = left_b;
    let mut found = Alignment {
        environment: environment(a, b),
        matched,
        equal: 0,
        differing: 0,
        not_comparable: BTreeMap::new(),
        kinds: BTreeMap::new(),
        differences: Vec::new(),
    };
    let (mut at_a, mut at_b) = (Cursor::new(a), Cursor::new(b));
    for (i, j) in pairs {
        let (x, y) = (&keys_a[i], &keys_b[j]);
        if let Some(why) = x.not_kept.or(y.not_kept) {
            *found.not_comparable.entry(why.to_owned()).or_default() += 1;
        } else if x.digest == y.digest {
            found.equal += 1;
        } else {
            found.differing += 1;
            if found.differences.len() < options.explain {
                let difference = differ(x, at_a.get(&x.place)?, at_b.get(&y.place)?);
                for f in &difference.findings {
                    let kind = format!("`{}`: {}", f.tensor, f.looks.kind());
                    *found.kinds.entry(kind).or_default() += 1;
                }
                found.differences.push(difference);
            }
        }
    }
    Ok(found)
}

fn differ(key: &Key, a: &Exchange, b: &Exchange) -> Difference {
    Difference {
        a: a.id.clone(),
        b: b.id.clone(),
        client_request_id: key.client_request_id.clone(),
        findings: explain(
            a.inputs.as_deref().unwrap_or_default(),
            b.inputs.as_deref().unwrap_or_default(),
        ),
    }
}

/// Why a tensor's bytes are not in the capture.
fn not_kept(payload: Payload) -> Option<&'static str> {
    match payload {
        Payload::Inline => None,
        Payload::Shm => Some("shared_memory"),
        Payload::Hashed | Payload::Dropped => Some("input_not_kept"),
        Payload::OverLimit => Some("input_over_limit"),
    }
}

/// Reads whole exchanges, one row group kept: neighbours are asked for one after another.
struct Cursor<'a> {
    capture: &'a Capture,
    at: Option<(usize, usize)>,
    rows: Vec<Exchange>,
}

impl<'a> Cursor<'a> {
    fn new(capture: &'a Capture) -> Self {
        Self {
            capture,
            at: None,
            rows: Vec::new(),
        }
    }

    fn get(&mut self, place: &Place) -> Result<&Exchange, CaptureError> {
        let group = (place.segment, place.row_group);
        if self.at != Some(group) {
            let segment = &self.capture.segments()[place.segment];
            self.rows = self
                .capture
                .read(segment, place.row_group, Projection::Full)?;
            self.at = Some(group);
        }
        self.rows.get(place.row).ok_or_else(|| {
            CaptureError::damaged(
                &self.capture.segments()[place.segment].path,
                "fewer rows than its footer says",
            )
        })
    }
}
