//! One byte budget for everything captured and not yet on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;

/// Counts memory really held; over it, copies are given up.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    held: AtomicU64,
    /// Of `held`: what the recorder has, and will give back by itself.
    handed_over: AtomicU64,
    /// Over the limit, wait instead of giving copies up.
    block: bool,
    freed: Notify,
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    bytes: u64,
    handed_over: bool,
}

/// What an allocation of `bytes` takes of the machine, at most. The allocator (mimalloc) has eight
/// size classes per doubling; a large one stands in 64 KiB slices of its own behind a slice for its
/// head, and under transparent huge pages all of that is resident.
pub fn allocated(bytes: u64) -> u64 {
    const SLICE: u64 = 64 * 1024;
    bytes + bytes / 8 + if bytes >= SLICE { SLICE } else { 0 }
}

impl Budget {
    /// A budget of `limit` bytes; `block` makes [`Budget::room`] wait.
    pub fn new(limit: u64, block: bool) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: AtomicU64::new(0),
            handed_over: AtomicU64::new(0),
            block,
            freed: Notify::new(),
        })
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Under `--on-pressure block`: waits until `bytes` fit, as long as the recorder holds memory
    /// that it will give back. Copies that wait for each other would wait for ever, so where only
    /// they hold memory this returns, and one of them is given up.
    pub async fn room(&self, bytes: u64) {
        while self.block && self.held() + bytes > self.limit && self.handed_over.load(Relaxed) > 0 {
            // A tick, because what is freed between the test and the wait is not heard.
            let _ = tokio::time::timeout(Duration::from_millis(20), self.freed.notified()).await;
        }
    }

    /// Bytes held now.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// A share of no bytes, to grow.
    pub fn permit(self: &Arc<Self>) -> Permit {
        Permit {
            budget: self.clone(),
            bytes: 0,
            handed_over: false,
        }
    }
}

impl Permit {
    /// Takes `bytes` more; false (and nothing taken) where the budget has not so much left.
    pub fn grow(&mut self, bytes: u64) -> bool {
        if bytes == 0 {
            return true;
        }
        let limit = self.budget.limit;
        let taken = self.budget.held.fetch_update(Relaxed, Relaxed, |held| {
            held.checked_add(bytes).filter(|&after| after <= limit)
        });
        if taken.is_ok() {
            self.bytes += bytes;
        }
        taken.is_ok()
    }

    /// The budget that this is a share of.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The recorder has it from now on.
    pub fn hand_over(&mut self) {
        // Only who waits asks for it.
        if self.budget.block && !std::mem::replace(&mut self.handed_over, true) {
            self.budget.handed_over.fetch_add(self.bytes, Relaxed);
        }
    }

    /// Holds exactly `bytes`, whether or not the budget has so much: what is held already cannot
    /// be refused, only counted.
    pub fn resize(&mut self, bytes: u64) {
        if bytes <= self.bytes {
            return self.shrink_to(bytes);
        }
        let more = bytes - self.bytes;
        self.budget.held.fetch_add(more, Relaxed);
        if self.handed_over {
            self.budget.handed_over.fetch_add(more, Relaxed);
        }
        self.bytes = bytes;
    }

    /// Takes over another share of the same budget.
    pub fn absorb(&mut self, other: Option<Self>) {
        let Some(mut other) = other else {
            return;
        };
        let bytes = std::mem::take(&mut other.bytes);
        self.bytes += bytes;
        let handed_over = &self.budget.handed_over;
        match (self.handed_over, other.handed_over) {
            (true, false) => drop(handed_over.fetch_add(bytes, Relaxed)),
            (false, true) => drop(handed_over.fetch_sub(bytes, Relaxed)),
            _ => {}
        }
    }

    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let back = self.bytes.saturating_sub(bytes);
        if back == 0 {
            return;
        }
        self.bytes -= back;
        self.budget.held.fetch_sub(back, Relaxed);
        if self.handed_over {
            self.budget.handed_over.fetch_sub(back, Relaxed);
        }
        if self.budget.block {
            self.budget.freed.notify_waiters();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let budget = Budget::new(100, false);
        let mut a = budget.permit();
        let mut b = budget.permit();
        assert!(a.grow(60) && !b.grow(41) && b.grow(40));
        a.shrink_to(10);
        assert_eq!(budget.held(), 50);
        drop(a);
        drop(b);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn blocking_waits_for_the_recorder_and_for_nobody_else() {
        let budget = Budget::new(100, true);
        let mut queued = budget.permit();
        assert!(queued.grow(80));
        // Only copies in flight hold memory: waiting would never end.
        budget.room(50).await;
        queued.hand_over();
        let waiting = tokio::time::timeout(Duration::from_millis(60), budget.room(50));
        assert!(waiting.await.is_err());
        let other = budget.clone();
        let waits = tokio::spawn(async move { other.room(50).await });
        tokio::task::yield_now().await;
        queued.resize(120);
        assert_eq!(budget.held(), 120);
        drop(queued);
        waits.await.unwrap();
        assert_eq!((budget.held(), budget.handed_over.load(Relaxed)), (0, 0));
    }
}
