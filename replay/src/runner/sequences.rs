//! Sequences on a runtime that keeps state: what it must have seen before an exchange.

use std::collections::{BTreeMap, HashMap, HashSet};

use inferdiff_schemas::Exchange;
use ulid::Ulid;

type Key = (Ulid, u64);

/// Which exchanges make up each sequence, and how far this process is in it.
///
/// A process that begins in the middle of a sequence (after an interruption, a death, or with one
/// exchange alone) replays it from its beginning first.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    /// Per sequence its exchanges in the order of the capture, each with its chunk.
    order: HashMap<String, Vec<(usize, Key)>>,
    /// Per sequence, how many of its first exchanges this process has replayed.
    reached: HashMap<String, usize>,
}

impl Sequences {
    /// Adds the replayed exchanges of a chunk; chunks in their order.
    pub fn add<'e>(&mut self, chunk: usize, exchanges: impl Iterator<Item = &'e Exchange>) {
        for exchange in exchanges {
            if let Some(id) = &exchange.sequence_id {
                let key = (exchange.recorder, exchange.seq);
                self.order.entry(id.clone()).or_default().push((chunk, key));
            }
        }
    }

    /// What is to be replayed before `exchange`, by chunk; nothing where the process is just there.
    /// The exchange itself counts as replayed from now on.
    pub fn before(&mut self, exchange: &Exchange) -> BTreeMap<usize, HashSet<Key>> {
        let mut before: BTreeMap<usize, HashSet<Key>> = BTreeMap::new();
        let Some(id) = &exchange.sequence_id else {
            return before;
        };
        let own = (exchange.recorder, exchange.seq);
        let all = self.order.get(id).map_or(&[][..], Vec::as_slice);
        let Some(at) = all.iter().position(|(_, key)| *key == own) else {
            return before;
        };
        let reached = self.reached.insert(id.clone(), at + 1).unwrap_or(0);
        // Behind it: from the beginning; before it: what lies between.
        let from = if reached > at { 0 } else { reached };
        for (chunk, key) in &all[from..at] {
            before.entry(*chunk).or_default().insert(*key);
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sequence: Option<&str>, seq: u64) -> Exchange {
        Exchange {
            sequence_id: sequence.map(str::to_owned),
            ..Exchange::new(Ulid::nil(), seq)
        }
    }

    #[test]
    fn a_process_in_the_middle_begins_at_the_beginning_and_only_once() {
        let chunks = [
            [of(Some("a"), 0), of(None, 1), of(Some("b"), 2)],
            [of(Some("a"), 3), of(Some("b"), 4), of(Some("a"), 5)],
        ];
        let fresh = || {
            let mut sequences = Sequences::default();
            for (i, chunk) in chunks.iter().enumerate() {
                sequences.add(i, chunk.iter());
            }
            sequences
        };
        let mut whole = fresh();
        for exchange in chunks.iter().flatten() {
            assert!(whole.before(exchange).is_empty(), "{}", exchange.seq);
        }
        let mut resumed = fresh();
        let asked = resumed.before(&chunks[1][0]);
        let wanted = BTreeMap::from([(0, HashSet::from([(Ulid::nil(), 0)]))]);
        assert_eq!(asked, wanted);
        assert!(resumed.before(&chunks[1][2]).is_empty());
        let mut alone = fresh();
        let asked = alone.before(&chunks[1][2]);
        assert_eq!(asked.values().map(HashSet::len).sum::<usize>(), 2);
        assert!(alone.before(&chunks[0][1]).is_empty());
        // Back to an earlier one: from the beginning again.
        assert_eq!(alone.before(&chunks[1][0]), wanted);
        // What a committed chunk in between held is made up for.
        let mut gap = fresh();
        assert!(gap.before(&chunks[0][0]).is_empty());
        let asked = gap.before(&chunks[1][2]);
        assert_eq!(
            asked,
            BTreeMap::from([(1, HashSet::from([(Ulid::nil(), 3)]))])
        );
    }
}
