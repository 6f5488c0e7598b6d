//! The books of one recorder process.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `accepted = recorded + Σ dropped{reason} + in_flight`, in exchanges (not rows).
///
/// Exact at every stop; after a kill exact as of the last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// Exchanges that began: every request whose head was accepted.
    pub accepted: u64,
    /// Exchanges whose rows are in durable checkpoints.
    pub recorded: u64,
    /// Exchanges given up, by reason; "not_sampled" is one.
    pub dropped: BTreeMap<String, u64>,
    /// Exchanges that neither ended nor reached a checkpoint yet.
    pub in_flight: u64,
    /// Bodies of recorded exchanges of which the copy was given up, by reason (`memory_budget`,
    /// `over_limit`): their rows are there, their tensors are not.
    #[serde(default)]
    pub bodies_given_up: BTreeMap<String, u64>,
    /// Exchanges whose rows left later (`retention`, `deleted`).
    #[serde(default)]
    pub removed: BTreeMap<String, u64>,
}

impl Ledger {
    /// Counts `n` dropped exchanges.
    pub fn drop(&mut self, reason: &str, n: u64) {
        if n > 0 {
            *self.dropped.entry(reason.to_owned()).or_default() += n;
        }
    }

    /// Sum over all drop reasons.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// True when the books balance.
    pub fn balances(&self) -> bool {
        self.accepted == self.recorded + self.dropped_total() + self.in_flight
    }
}
