//! Letting others have the core in the middle of a burst of work.

use std::time::{Duration, Instant};

/// So many exchanges are done in one go: about a tenth of a millisecond's work.
pub(super) const TURN: usize = 128;

/// A burst of work gives way for so long at most.
pub(super) const MOST_GENTLE: Duration = Duration::from_millis(250);

/// Until when a burst of work gives way.
///
/// A thread that is woken to serve waits for the end of the slice of whoever has the core, milliseconds;
/// who yields often makes it wait a tenth of one. But on a core that others want all the time each yield
/// costs a slice of theirs, so it must end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turns {
    until: Option<Instant>,
}

impl Turns {
    /// No turns for others.
    pub const NONE: Self = Self { until: None };

    /// For so long from now.
    pub fn within(time: Duration) -> Self {
        let until = Instant::now().checked_add(time);
        Self { until }
    }

    /// One go is done.
    pub fn end_one(self) {
        if self.until.is_some_and(|until| Instant::now() < until) {
            std::thread::yield_now();
        }
    }
}
