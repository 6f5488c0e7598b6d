//! Retention: the oldest sealed segments leave first, by age and by bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Upkeep;
use super::journal::{self, Counts, Journal};
use super::rewrite::newest_ledger;
use crate::capture::{Capture, CaptureError, Projection, Segment};

/// How long and how much a capture keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// A segment leaves when its youngest row is older than this.
    pub max_age: Option<Duration>,
    /// The oldest segments leave while all segments together have more bytes than this.
    pub max_bytes: Option<u64>,
}

/// What retention removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Retired {
    /// Segments.
    pub segments: u64,
    /// Exchanges.
    pub exchanges: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Upkeep {
    /// Removes sealed segments that are too old or too much at `now_ns` (ns since the Unix epoch),
    /// and counts their exchanges as `removed{retention}`.
    ///
    /// # Errors
    /// Storage errors.
    pub fn retain(&self, keep: &Retention, now_ns: i64) -> Result<Retired, CaptureError> {
        let mut retired = Retired::default();
        if *keep == Retention::default() {
            return Ok(retired);
        }
        let capture = self.capture()?;
        let mut total: u64 = capture.segments().iter().map(|s| s.bytes).sum();
        for segment in capture.segments().iter().filter(|s| s.sealed) {
            let too_much = keep.max_bytes.is_some_and(|most| total > most);
            let too_old = keep.max_age.is_some_and(|most| {
                let age = now_ns.saturating_sub(youngest_ns(segment));
                i128::from(age) > i128::try_from(most.as_nanos()).unwrap_or(i128::MAX)
            });
            if !too_much && !too_old {
                continue;
            }
            let exchanges = self.remove_whole(&capture, segment, "retention")?;
            total -= segment.bytes;
            retired.segments += 1;
            retired.exchanges += exchanges;
            retired.bytes += segment.bytes;
        }
        Ok(retired)
    }

    /// Removes a sealed segment; returns how many exchanges were counted for `reason`.
    pub(super) fn remove_whole(
        &self,
        capture: &Capture,
        segment: &Segment,
        reason: &str,
    ) -> Result<u64, CaptureError> {
        let mut counts = Counts::new();
        for group in 0..segment.row_groups {
            // What cannot be read any more is not counted as there by `verify` either.
            let rows = match capture.read(segment, group, Projection::Keys) {
                // It may be read the next time.
                Err(e @ CaptureError::Io { .. }) => return Err(e),
                rows => rows.unwrap_or_default(),
            };
            for row in rows.iter().filter(|row| row.last) {
                let reasons = counts.entry(row.recorder.to_string()).or_default();
                *reasons.entry(reason.to_owned()).or_default() += 1;
            }
        }
        let exchanges = counts.values().flat_map(BTreeMap::values).sum();
        let recorder = segment.recorder.to_string();
        let ledgers = BTreeMap::from([(recorder, newest_ledger(&[segment]))]);
        let journal = Journal::new(&[segment.id], None).removing(counts, ledgers);
        journal::commit(self.storage(), &self.layout, &journal)?;
        Ok(exchanges)
    }
}

/// Arrival of the youngest row: from the footer, else when the segment was begun.
fn youngest_ns(segment: &Segment) -> i64 {
    let begun = || i64::try_from(segment.id.timestamp_ms()).unwrap_or(0) * 1_000_000;
    segment.youngest_ns.unwrap_or_else(begun)
}
