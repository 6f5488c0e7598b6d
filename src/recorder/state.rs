//! What the recorder says of itself while it runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counters that the recorder's thread publishes, a batch at a time.
#[derive(Debug, Default)]
pub struct State {
    /// Accepted, recorded and dropped by reason, as of the last batch.
    books: Mutex<Books>,
    /// The last checkpoint failed: exchanges are being dropped.
    pub failing: AtomicBool,
    /// Checkpoints written.
    pub checkpoints: AtomicU64,
    /// The disk has less room left than it must keep: exchanges are being dropped.
    pub low_on_space: AtomicBool,
    /// Segments merged into larger ones.
    pub merged: AtomicU64,
    /// Exchanges that retention removed.
    pub retired: AtomicU64,
}

/// The recorder's books for whoever watches.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// Exchanges decoded, by protocol and outcome.
    pub exchanges: BTreeMap<(String, &'static str), u64>,
    /// Of them, those of which a body could not be decoded and was kept as it came, by protocol.
    pub undecoded: BTreeMap<String, u64>,
    /// Exchanges on disk.
    pub recorded: u64,
    /// Exchanges not recorded, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Bodies of recorded exchanges of which the copy was given up, by reason.
    pub bodies_given_up: BTreeMap<String, u64>,
    /// When the oldest exchange that is not on disk was decoded.
    pub oldest: Option<Instant>,
}

impl State {
    /// A copy of the books.
    pub fn books(&self) -> Books {
        self.lock().clone()
    }

    /// Changes the books.
    pub(super) fn update(&self, f: impl FnOnce(&mut Books)) {
        f(&mut self.lock());
    }

    /// How long the oldest exchange has waited for the disk.
    pub fn flush_lag(&self) -> Duration {
        self.lock().oldest.map_or(Duration::ZERO, |o| o.elapsed())
    }

    /// Notes how a checkpoint went.
    pub(super) fn checkpointed(&self, well: bool) {
        self.failing.store(!well, Relaxed);
        self.checkpoints.fetch_add(u64::from(well), Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
