//! One byte budget for everything captured and not yet on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts memory really held; over it, copies are given up.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    held: AtomicU64,
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: AtomicU64::new(0),
        })
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
        }
    }
}

impl Permit {
    /// Takes `bytes` more; false (and nothing taken) where the budget has not so much left.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let limit = self.budget.limit;
        let taken = self.budget.held.fetch_update(Relaxed, Relaxed, |held| {
            held.checked_add(bytes).filter(|&after| after <= limit)
        });
        if taken.is_ok() {
            self.bytes += bytes;
        }
        taken.is_ok()
    }

    /// Takes over another share of the same budget.
    pub fn absorb(&mut self, other: Option<Self>) {
        if let Some(mut other) = other {
            self.bytes += std::mem::take(&mut other.bytes);
        }
    }

    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let back = self.bytes.saturating_sub(bytes);
        self.bytes -= back;
        self.budget.held.fetch_sub(back, Relaxed);
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
        let budget = Budget::new(100);
        let mut a = budget.permit();
        let mut b = budget.permit();
        assert!(a.grow(60) && !b.grow(41) && b.grow(40));
        a.shrink_to(10);
        assert_eq!(budget.held(), 50);
        drop(a);
        drop(b);
        assert_eq!(budget.held(), 0);
    }
}
