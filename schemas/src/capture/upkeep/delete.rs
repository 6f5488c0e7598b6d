//! Deletion of exchanges across all segments.

use std::collections::BTreeMap;

use super::journal::{self, Counts, Journal};
use super::rewrite::{Rewritten, is_intact, newest_ledger, rewrite};
use super::{Pace, Upkeep};
use crate::Exchange;
use crate::capture::{Capture, CaptureError, Projection, Segment};

/// What deletion did.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Deleted {
    /// Exchanges that are gone.
    pub exchanges: u64,
    /// Rows that are gone; a long stream has several.
    pub rows: u64,
    /// Segments that were written again without them, or removed.
    pub segments: u64,
    /// Rows that match and lie in a segment that a recorder is still writing: delete again when it
    /// is sealed.
    pub growing: u64,
    /// Segments that hold matching rows and were left as they are, because their bytes have
    /// changed since they were written.
    pub damaged: Vec<String>,
    /// The pace function ended it early.
    pub stopped: bool,
}

impl Upkeep {
    /// Removes every exchange that `matches` (called with key columns only: no tensors, no bodies)
    /// from the sealed segments and counts it as `removed{deleted}`.
    ///
    /// # Errors
    /// Storage errors. What was deleted before stays deleted.
    pub fn delete(
        &self,
        matches: &dyn Fn(&Exchange) -> bool,
        pace: Pace<'_>,
    ) -> Result<Deleted, CaptureError> {
        let mut deleted = Deleted::default();
        let capture = self.capture()?;
        for segment in capture.segments() {
            let found = count(&capture, segment, matches)?;
            if found.rows == 0 {
                continue;
            }
            if !segment.sealed {
                deleted.growing += found.rows;
                continue;
            }
            if !is_intact(segment)? {
                deleted.damaged.push(segment.id.to_string());
                continue;
            }
            let kept = &mut |e: &Exchange| !matches(e);
            let by = match rewrite(self, &capture, &[segment], kept, pace)? {
                Rewritten::Whole(id) => Some(id),
                Rewritten::Empty => None,
                Rewritten::Stopped => {
                    deleted.stopped = true;
                    break;
                }
            };
            let recorder = segment.recorder.to_string();
            let ledgers = BTreeMap::from([(recorder, newest_ledger(&[segment]))]);
            let journal = Journal::new(&[segment.id], by).removing(found.counts, ledgers);
            journal::commit(self.storage(), &self.layout, &journal)?;
            deleted.segments += 1;
            deleted.rows += found.rows;
            deleted.exchanges += found.exchanges;
        }
        Ok(deleted)
    }
}

#[derive(Default)]
struct Found {
    rows: u64,
    exchanges: u64,
    counts: Counts,
}

fn count(
    capture: &Capture,
    segment: &Segment,
    matches: &dyn Fn(&Exchange) -> bool,
) -> Result<Found, CaptureError> {
    let mut found = Found::default();
    for group in 0..segment.row_groups {
        let rows = match capture.read(segment, group, Projection::Keys) {
            Err(e @ CaptureError::Io { .. }) => return Err(e),
            // Unreadable keys match nothing; `verify` names the damage.
            rows => rows.unwrap_or_default(),
        };
        for row in rows.iter().filter(|row| matches(row)) {
            found.rows += 1;
            if row.last {
                found.exchanges += 1;
                let reasons = found.counts.entry(row.recorder.to_string()).or_default();
                *reasons.entry("deleted".to_owned()).or_default() += 1;
            }
        }
    }
    Ok(found)
}
