//! Writes the rows of sealed segments, or some of them, into one new segment.

use ulid::Ulid;

use super::super::segment::Segment as Growing;
use super::super::turns::{MOST_GENTLE, Turns};
use super::super::{Capture, CaptureError, CaptureKey, Ledger, Projection, Segment, weight};
use super::{Pace, Step, Upkeep};
use crate::Exchange;

/// Row groups of replacements: large enough to read well, small enough to hold.
const ROW_GROUP_BYTES: u64 = 32 << 20;

/// What came of rewriting.
pub(super) enum Rewritten {
    /// `_<id>.parquet.new` is whole and synced.
    Whole(Ulid),
    /// No row is left.
    Empty,
    /// The caller stopped it; nothing is left of it.
    Stopped,
}

/// A replacement that is being written.
struct Replacement<'a> {
    upkeep: &'a Upkeep,
    id: Ulid,
    recorder: Ulid,
    ledger: Ledger,
    /// What was encrypted never comes to the disk in the clear.
    key: Option<CaptureKey>,
    growing: Option<Growing>,
    buffer: Vec<Exchange>,
    buffered: u64,
}

impl Replacement<'_> {
    fn push(&mut self, exchange: Exchange) {
        self.buffered += weight(&exchange);
        self.buffer.push(exchange);
    }

    fn flush(&mut self) -> Result<u64, CaptureError> {
        let rows = std::mem::take(&mut self.buffer);
        let bytes = std::mem::take(&mut self.buffered);
        if rows.is_empty() {
            return Ok(0);
        }
        let layout = &self.upkeep.layout;
        let growing = match &mut self.growing {
            Some(growing) => growing,
            none => none.insert(Growing::create_as(
                self.upkeep.storage(),
                layout.replacement(self.id),
                layout.sealed(self.id),
                self.recorder,
                self.id,
                self.key.as_ref(),
            )?),
        };
        let turns = Turns::within(MOST_GENTLE);
        growing.checkpoint(&rows.into_iter().collect(), &self.ledger, turns)?;
        Ok(bytes)
    }
}

/// Rewrites those rows of `sources` (of one recorder, oldest first) that `keep` wants. One row
/// group is in memory at a time.
pub(super) fn rewrite(
    upkeep: &Upkeep,
    capture: &Capture,
    sources: &[&Segment],
    keep: &mut dyn FnMut(&Exchange) -> bool,
    pace: Pace<'_>,
) -> Result<Rewritten, CaptureError> {
    let Some(first) = sources.first() else {
        return Ok(Rewritten::Empty);
    };
    let mut replacement = Replacement {
        upkeep,
        id: free_id(upkeep, first.id)?,
        recorder: first.recorder,
        ledger: newest_ledger(sources),
        key: upkeep.key.clone().filter(|_| encrypted(sources)),
        growing: None,
        buffer: Vec::new(),
        buffered: 0,
    };
    let done = fill(&mut replacement, capture, sources, keep, pace);
    let id = replacement.id;
    match (done, replacement.growing) {
        (Ok(true), Some(mut growing)) => {
            growing.commit(true)?;
            Ok(Rewritten::Whole(id))
        }
        (Ok(true), None) => Ok(Rewritten::Empty),
        (done, growing) => {
            if let Some(growing) = growing {
                // Undecided: where even this fails, the next upkeep deletes it.
                let _ = growing.discard(upkeep.storage());
            }
            done.map(|_| Rewritten::Stopped)
        }
    }
}

/// False where the caller stopped it.
fn fill(
    replacement: &mut Replacement<'_>,
    capture: &Capture,
    sources: &[&Segment],
    keep: &mut dyn FnMut(&Exchange) -> bool,
    pace: Pace<'_>,
) -> Result<bool, CaptureError> {
    let mut moved = 0;
    for source in sources {
        for group in 0..source.row_groups {
            let size = source.uncompressed_bytes(group);
            if replacement.buffered + size > ROW_GROUP_BYTES {
                moved += replacement.flush()?;
            }
            // The bytes as they are read, and the rows that are made of them.
            let held = replacement.buffered + 2 * size;
            if !pace(Step { moved, held }) {
                return Ok(false);
            }
            moved = size;
            for exchange in capture.read(source, group, Projection::Full)? {
                if keep(&exchange) {
                    replacement.push(exchange);
                }
            }
        }
    }
    moved += replacement.flush()?;
    Ok(pace(Step { moved, held: 0 }))
}

fn encrypted(sources: &[&Segment]) -> bool {
    sources.iter().any(|s| s.is_encrypted)
}

/// The newest books that the footers of `sources` hold.
pub(super) fn newest_ledger(sources: &[&Segment]) -> Ledger {
    let ledgers = sources.iter().map(|s| &s.ledger);
    ledgers
        .max_by_key(|ledger| ledger.accepted)
        .cloned()
        .unwrap_or_default()
}

/// An id right behind `first`, so that the rows keep their place in the order of segments.
fn free_id(upkeep: &Upkeep, first: Ulid) -> Result<Ulid, CaptureError> {
    let root = upkeep.layout.root();
    let entries = upkeep
        .storage()
        .list(root)
        .map_err(CaptureError::io("list", root))?;
    let taken = |id: Ulid| entries.iter().any(|e| e.name.contains(&id.to_string()));
    let mut id = first;
    for _ in 0..=entries.len() {
        id = Ulid::from(u128::from(id).saturating_add(1));
        if !taken(id) {
            break;
        }
    }
    Ok(id)
}

impl Upkeep {
    /// The capture as it is now.
    pub(super) fn capture(&self) -> Result<Capture, CaptureError> {
        Capture::open_with_key(self.storage.clone(), self.layout.root(), self.key.as_ref())
    }
}

/// True where every byte of a sealed segment is as it was written: only then may its rows be
/// written again, under new digests.
pub(super) fn is_intact(segment: &Segment) -> Result<bool, CaptureError> {
    if segment.bytes != segment.file.len() {
        return Ok(false);
    }
    for span in &segment.digests()? {
        let holds = span.holds(segment.file.as_ref());
        if !holds.map_err(CaptureError::io("read", &segment.path))? {
            return Ok(false);
        }
    }
    Ok(true)
}
