//! `captures verify`: every footer, span digest, page, input digest, sequence number and book.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;
use ulid::Ulid;

use super::{Capture, CaptureError, Ledger, Projection, Segment, rows};
use crate::Exchange;
use crate::digest::input_digest;

/// What verification found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Nothing is damaged and all books balance.
    pub ok: bool,
    /// Readable segments.
    pub segments: u64,
    /// Rows read whole.
    pub rows: u64,
    /// Exchanges read whole.
    pub exchanges: u64,
    /// Per recorder process.
    pub recorders: Vec<Books>,
    /// What is wrong, one sentence each.
    pub problems: Vec<String>,
    /// Names in the folder that are not a capture's. They do no harm and are not looked into.
    pub foreign: Vec<String>,
}

/// The books of one recorder against what is on disk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Books {
    /// The process.
    pub recorder: String,
    /// `stopped`, `crashed` or `running`.
    pub state: &'static str,
    /// Its ledger.
    pub ledger: Ledger,
    /// accepted = recorded + Σ dropped + in_flight.
    pub balances: bool,
    /// Exchanges of it found on disk.
    pub on_disk: u64,
    /// Sequence numbers below `accepted` that are not on disk, as ranges (both ends included): they
    /// were dropped, removed, or in flight. The first hundred.
    pub gaps: Vec<(u64, u64)>,
}

/// Checks a capture whole. Reads one row group at a time.
///
/// # Errors
/// Only where the storage itself fails; damage is reported, not returned.
pub fn verify(capture: &Capture) -> Result<Report, CaptureError> {
    let mut problems: Vec<String> = capture
        .unreadable()
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut seen: BTreeMap<Ulid, HashSet<u64>> = BTreeMap::new();
    let mut repeated = 0u64;
    let mut parts = Parts::default();
    let (mut rows, mut exchanges) = (0, 0);
    // The newest books that a growing segment holds, for recorders that still run.
    let mut growing: BTreeMap<Ulid, Ledger> = BTreeMap::new();
    for segment in capture.segments() {
        spans(segment, &mut problems)?;
        let ledger = &segment.ledger;
        growing
            .entry(segment.recorder)
            .and_modify(|newest| {
                if newest.accepted <= ledger.accepted {
                    newest.clone_from(ledger);
                }
            })
            .or_insert_with(|| ledger.clone());
        for row_group in 0..segment.row_groups {
            let read = match capture.read(segment, row_group, Projection::Full) {
                Ok(read) => read,
                Err(e @ CaptureError::Io { .. }) => return Err(e),
                Err(e) => {
                    problems.push(e.to_string());
                    continue;
                }
            };
            for exchange in read {
                rows += 1;
                parts.see(&exchange);
                if exchange.last {
                    exchanges += 1;
                    if !seen
                        .entry(exchange.recorder)
                        .or_default()
                        .insert(exchange.seq)
                    {
                        repeated += 1;
                    }
                }
                for tensor in exchange.inputs.iter().chain(&exchange.outputs).flatten() {
                    if let Err(e) = tensor.check() {
                        problems.push(format!("exchange {}: {e}", exchange.id));
                    }
                }
                let inputs = exchange.inputs.as_deref();
                if exchange.input_digest != inputs.map(input_digest) {
                    problems.push(format!(
                        "exchange {}: its inputs do not give the input_digest stored with them",
                        exchange.id
                    ));
                }
            }
        }
    }
    if repeated > 0 {
        problems.push(format!("{repeated} exchanges are there more than once"));
    }
    let recorders = books(capture, &seen, &growing, &mut problems);
    parts.check(&recorders, &mut problems);
    Ok(Report {
        ok: problems.is_empty(),
        segments: capture.segments().len() as u64,
        rows,
        exchanges,
        recorders,
        problems,
        foreign: capture.foreign().to_vec(),
    })
}

/// Checks that footers list contiguous spans and that their bytes still give their digests; names the
/// pages that do not.
fn spans(segment: &Segment, problems: &mut Vec<String>) -> Result<(), CaptureError> {
    let path = &segment.path;
    let file = &segment.file;
    let digests = match segment.digests() {
        Err(e) if !matches!(e, CaptureError::Io { .. }) => {
            problems.push(e.to_string());
            return Ok(());
        }
        digests => digests?,
    };
    for (i, span) in digests.iter().enumerate() {
        if span.end > segment.bytes || span.start > span.end {
            problems.push(format!(
                "{}: row group {i} lies outside the file",
                path.display()
            ));
            continue;
        }
        let damaged = span
            .damaged(file.as_ref())
            .map_err(CaptureError::io("read", path))?;
        if damaged.is_empty() {
            continue;
        }
        let columns = rows::damaged_columns(segment, i)?;
        let effect = if columns.is_empty() {
            "every page still decodes: some value, level or statistic is another".to_owned()
        } else {
            format!("pages of {} do not decode", columns.join(", "))
        };
        for piece in damaged {
            problems.push(format!(
                "{}: row group {i} has changed since it was written, in {} (bytes {}..{}): {effect}",
                path.display(),
                rows::column_at(segment, i, &piece),
                piece.start,
                piece.end
            ));
        }
    }
    if digests.len() != segment.row_groups {
        problems.push(format!(
            "{}: {} row groups but {} digests",
            path.display(),
            segment.row_groups,
            digests.len()
        ));
    }
    Ok(())
}

/// The ranges below `end` that `numbers` leaves out; the first hundred.
fn gaps(numbers: &BTreeSet<u64>, end: u64) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let mut next = 0;
    for number in numbers.range(..end).copied().chain([end]) {
        if number > next {
            gaps.push((next, number - 1));
        }
        next = number + 1;
        if gaps.len() == 100 {
            break;
        }
    }
    gaps
}

/// The parts of long streams.
#[derive(Default)]
struct Parts(BTreeMap<(Ulid, u64), (BTreeSet<u32>, Option<u32>)>);

impl Parts {
    fn see(&mut self, e: &Exchange) {
        if e.part == 0 && e.last {
            return;
        }
        let (parts, last) = self.0.entry((e.recorder, e.seq)).or_default();
        parts.insert(e.part);
        if e.last {
            *last = Some(e.part);
        }
    }

    /// A stream of which the last part is there has all of them, unless some left with a segment.
    fn check(&self, recorders: &[Books], problems: &mut Vec<String>) {
        for ((recorder, seq), (parts, last)) in &self.0 {
            let name = recorder.to_string();
            let books = recorders.iter().find(|b| b.recorder == name);
            if books.is_some_and(|b| !b.ledger.removed.is_empty()) {
                continue;
            }
            match last {
                Some(last) if (parts.len() as u64) <= u64::from(*last) => problems.push(format!(
                    "exchange {name}-{seq}: {} of {} parts are there",
                    parts.len(),
                    last + 1
                )),
                None if books.is_some_and(|b| b.state == "stopped") => {
                    problems.push(format!("exchange {name}-{seq}: its last part is missing"))
                }
                _ => {}
            }
        }
    }
}

fn books(
    capture: &Capture,
    seen: &BTreeMap<Ulid, HashSet<u64>>,
    growing: &BTreeMap<Ulid, Ledger>,
    problems: &mut Vec<String>,
) -> Vec<Books> {
    let mut out = Vec::new();
    for meta in capture.recorders() {
        let id = Ulid::from_string(&meta.recorder).ok();
        let state = match (&meta.stopped, meta.crashed) {
            (_, true) => "crashed",
            (Some(_), _) => "stopped",
            (None, _) => "running",
        };
        let left = id.and_then(|id| capture.removed().get(&id));
        let newest = id
            .and_then(|id| growing.get(&id))
            .into_iter()
            .chain(left.and_then(|left| left.ledger.as_ref()))
            .max_by_key(|ledger| ledger.accepted);
        let mut ledger = match newest {
            Some(newest) if state == "running" => newest.clone(),
            _ => meta.ledger.clone(),
        };
        if let Some(left) = left {
            ledger.removed.clone_from(&left.removed);
        }
        let on_disk = id.and_then(|id| seen.get(&id)).map_or(0, HashSet::len) as u64;
        let balances = ledger.balances();
        let name = &meta.recorder;
        if !balances {
            problems.push(format!(
                "recorder {name}: accepted {} is not recorded {} + dropped {} + in flight {}",
                ledger.accepted,
                ledger.recorded,
                ledger.dropped_total(),
                ledger.in_flight
            ));
        }
        let expected = ledger
            .recorded
            .saturating_sub(ledger.removed.values().sum());
        if on_disk != expected {
            problems.push(format!(
                "recorder {name}: {expected} exchanges should be on disk (recorded {}, removed \
                 since {}), {on_disk} are",
                ledger.recorded,
                ledger.removed.values().sum::<u64>()
            ));
        }
        let numbers: BTreeSet<u64> = id
            .and_then(|id| seen.get(&id))
            .map(|seen| seen.iter().copied().collect())
            .unwrap_or_default();
        if let Some(beyond) = numbers.range(ledger.accepted..).next() {
            problems.push(format!(
                "recorder {name}: exchange {beyond} is there, but only {} were accepted",
                ledger.accepted
            ));
        }
        if state == "stopped" && ledger.in_flight != 0 {
            problems.push(format!(
                "recorder {name} stopped with {} exchanges neither recorded nor dropped",
                ledger.in_flight
            ));
        }
        out.push(Books {
            recorder: name.clone(),
            state,
            gaps: gaps(&numbers, ledger.accepted),
            ledger,
            balances,
            on_disk,
        });
    }
    for id in seen.keys() {
        if !capture
            .recorders()
            .iter()
            .any(|m| m.recorder == id.to_string())
        {
            problems.push(format!(
                "exchanges of recorder {id} are there but not its books"
            ));
        }
    }
    out
}
