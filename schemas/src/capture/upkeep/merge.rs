//! Merging sealed neighbours, size-tiered.
//!
//! Size-tiered compaction as in Cassandra and Bigtable (Chang et al. 2006, "minor compactions"):
//! segments of about one size are merged into one of the next, so that each byte is written again
//! once per tier.

use std::collections::{BTreeMap, BTreeSet};

use ulid::Ulid;

use super::journal::{self, Journal};
use super::rewrite::{Rewritten, is_intact, rewrite};
use super::{Pace, Upkeep};
use crate::capture::{CaptureError, Segment};

/// What is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeOptions {
    /// Neighbours that are merged at once, at least. Default 4.
    pub fan_in: usize,
    /// A merged segment has at most this many bytes. Default 256 MiB.
    pub max_bytes: u64,
    /// Neighbours of any size, not only of about one size. Default false: each merge at least
    /// doubles its largest part, so that what is written again stays bounded.
    pub any_size: bool,
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self {
            fan_in: 4,
            max_bytes: 256 << 20,
            any_size: false,
        }
    }
}

/// What merging did.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Merged {
    /// Segments that are gone.
    pub replaced: u64,
    /// Segments that took their place.
    pub written: u64,
    /// Bytes of the segments that are gone.
    pub bytes: u64,
    /// Segments left as they are because their bytes have changed since they were written.
    pub damaged: Vec<String>,
    /// The pace function ended it early.
    pub stopped: bool,
}

/// Sizes up to this are the lowest tier; each tier is four times as large as the one below.
const LOWEST_TIER: u64 = 4 << 20;
/// So many files at once, at most.
const MOST: usize = 64;

fn tier(bytes: u64) -> u32 {
    let mut tier = 0;
    let mut limit = LOWEST_TIER;
    while bytes > limit {
        limit = limit.saturating_mul(4);
        tier += 1;
    }
    tier
}

/// The next neighbours to merge: positions in `segments`, which are of one recorder in order.
fn plan(sizes: &[u64], options: &MergeOptions) -> Option<std::ops::Range<usize>> {
    let highest = tier(options.max_bytes);
    let tiers = if options.any_size {
        highest..=highest
    } else {
        0..=highest
    };
    for most in tiers {
        for start in 0..sizes.len() {
            let mut total = 0;
            let run = sizes[start..]
                .iter()
                .take(MOST)
                .take_while(|&&size| {
                    total += size;
                    tier(size) <= most && total <= options.max_bytes
                })
                .count();
            let chosen = &sizes[start..start + run];
            let largest = chosen.iter().copied().max().unwrap_or(0);
            let doubles = 2 * largest <= chosen.iter().sum();
            if run >= options.fan_in.max(2) && (doubles || options.any_size) {
                return Some(start..start + run);
            }
        }
    }
    None
}

impl Upkeep {
    /// Merges sealed neighbours of one recorder until no more are worth it.
    ///
    /// # Errors
    /// Storage errors. What was merged before stays merged.
    pub fn merge(&self, options: &MergeOptions, pace: Pace<'_>) -> Result<Merged, CaptureError> {
        let mut merged = Merged::default();
        let mut damaged = BTreeSet::new();
        loop {
            let capture = self.capture()?;
            let Some(sources) = choose(capture.segments(), &damaged, options) else {
                break;
            };
            let mut whole = true;
            for source in &sources {
                if !is_intact(source)? {
                    damaged.insert(source.id);
                    whole = false;
                }
            }
            if !whole {
                continue;
            }
            let id = match rewrite(self, &capture, &sources, &mut |_| true, pace)? {
                Rewritten::Whole(id) => id,
                Rewritten::Empty => break,
                Rewritten::Stopped => {
                    merged.stopped = true;
                    break;
                }
            };
            let ids: Vec<Ulid> = sources.iter().map(|s| s.id).collect();
            journal::commit(self.storage(), &self.layout, &Journal::new(&ids, Some(id)))?;
            merged.replaced += ids.len() as u64;
            merged.written += 1;
            merged.bytes += sources.iter().map(|s| s.bytes).sum::<u64>();
        }
        merged.damaged = damaged.iter().map(Ulid::to_string).collect();
        Ok(merged)
    }
}

fn choose<'a>(
    segments: &'a [Segment],
    damaged: &BTreeSet<Ulid>,
    options: &MergeOptions,
) -> Option<Vec<&'a Segment>> {
    let mut by_recorder: BTreeMap<Ulid, Vec<&Segment>> = BTreeMap::new();
    for segment in segments.iter().filter(|s| s.sealed) {
        by_recorder
            .entry(segment.recorder)
            .or_default()
            .push(segment);
    }
    by_recorder.into_values().find_map(|all| {
        // Damage ends a run: neighbours must stay neighbours.
        all.split(|s| damaged.contains(&s.id)).find_map(|run| {
            let sizes: Vec<u64> = run.iter().map(|s| s.bytes).collect();
            plan(&sizes, options).map(|chosen| run[chosen].to_vec())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn neighbours_of_one_size_are_merged_and_no_large_one_is_written_again_for_crumbs() {
        let options = MergeOptions::default();
        assert_eq!(plan(&[MIB; 3], &options), None, "fewer than the fan-in");
        assert_eq!(plan(&[MIB; 4], &options), Some(0..4));
        assert_eq!(plan(&[200 * MIB, MIB, MIB, MIB], &options), None);
        assert_eq!(
            plan(&[200 * MIB, MIB, MIB, MIB, MIB], &options),
            Some(1..5),
            "the small ones among themselves"
        );
        assert_eq!(plan(&[100 * MIB; 4], &options), None, "too large together");
        assert_eq!(plan(&[60 * MIB; 5], &options), Some(0..4));
        let all = MergeOptions {
            fan_in: 2,
            any_size: true,
            ..options
        };
        assert_eq!(plan(&[200 * MIB, MIB], &all), Some(0..2));
    }

    #[test]
    fn what_is_written_again_stays_logarithmic() {
        let options = MergeOptions::default();
        let (mut sizes, mut written) = (Vec::new(), 0);
        for _ in 0..2000 {
            sizes.extend([MIB]);
            while let Some(chosen) = plan(&sizes, &options) {
                let total: u64 = sizes[chosen.clone()].iter().sum();
                written += total;
                sizes.splice(chosen, [total]);
            }
        }
        let amplification = written as f64 / (2000 * MIB) as f64;
        println!("{amplification:.2} bytes written again per byte recorded");
        assert!(amplification < 5.0, "{amplification}");
        assert!(sizes.len() < 30, "{} segments", sizes.len());
    }
}
