//! Counters of the proxy, for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the added-latency histogram, in microseconds.
pub const LATENCY_BOUNDS_US: [u64; 12] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000,
];

/// What crossed, counted without locks.
#[derive(Debug, Default)]
pub struct Meter {
    /// Client connections accepted.
    pub connections: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Body bytes from clients.
    pub bytes_up: AtomicU64,
    /// Body bytes to clients.
    pub bytes_down: AtomicU64,
    /// Exchanges by added latency; the last one is beyond every bound.
    pub latency: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    /// Sum of added latencies, nanoseconds.
    pub latency_sum_ns: AtomicU64,
}

impl Meter {
    /// One exchange to whose first bytes the proxy added `added`: from having read the request's
    /// head until its first write to the upstream, and the same for the answer. Connecting to the
    /// upstream, where that was needed, is part of it.
    pub fn latency(&self, added: Duration) {
        let us = u64::try_from(added.as_micros()).unwrap_or(u64::MAX);
        let slot = LATENCY_BOUNDS_US.partition_point(|&bound| bound < us);
        self.latency[slot].fetch_add(1, Relaxed);
        let ns = u64::try_from(added.as_nanos()).unwrap_or(u64::MAX);
        self.latency_sum_ns.fetch_add(ns, Relaxed);
    }

    /// Counts an open connection until the guard is dropped.
    pub(super) fn connection(self: &std::sync::Arc<Self>) -> Open {
        self.connections.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        Open(self.clone())
    }
}

/// An open connection.
pub(super) struct Open(std::sync::Arc<Meter>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
