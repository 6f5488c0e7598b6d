//! Percentiles of |r−t| without sorting.
//!
//! A bucket is an eighth of a binade by value: the exponent and the first three mantissa bits of the
//! f64. Its middle is within 1/8 octave of everything in it (the first is 0.17 octaves wide).

use super::block::BLOCK;
use super::level::{Kernel, Level};

/// Bits below those that name a bucket.
const SHIFT: u32 = 52 - 3;
/// The bucket of +∞; every finite bucket is below it.
const INFINITE: usize = 0x7ff << 3;
/// Counts of one bucket, for neighbours in turn: they often fall into one bucket, and a count that was
/// just written must not be waited for.
const TURNS: usize = 4;
/// A bucket has 14 bits (the sign is 0), and a turn 2: 16 in all, which index without a check.
const COUNTS: usize = 1 << 16;

/// Counts of absolute differences by bucket and turn. Empty between items.
pub(super) struct Histogram {
    counts: Box<[u32; COUNTS]>,
    /// Of the block that is counted.
    places: Box<Places>,
}

/// Places in the counts; aligned as [`super::block::Block`].
#[repr(align(64))]
struct Places([u32; BLOCK]);

/// Finds the places of differences.
struct Place<'a> {
    differences: &'a [f64],
    out: &'a mut Places,
}

impl Kernel for Place<'_> {
    type Out = ();

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the upper half of a double names its bucket"
    )]
    #[inline(always)]
    fn run(self) {
        for (i, (out, d)) in self.out.0.iter_mut().zip(self.differences).enumerate() {
            *out = (d.to_bits() >> 32) as u32 >> (SHIFT - 32) << 2 | (i % TURNS) as u32;
        }
    }
}

/// p50, p99 and p99.9 by nearest rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Percentiles {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

impl Histogram {
    pub fn new() -> Self {
        let counts = vec![0; COUNTS].into_boxed_slice();
        Self {
            counts: counts.try_into().expect("made with that length"),
            places: Box::new(Places([0; BLOCK])),
        }
    }

    /// Counts differences, a block at most; none is negative or NaN. Zeros need not be counted.
    pub fn add(&mut self, level: Level, differences: &[f64]) {
        let out = self.places.as_mut();
        level.run(Place { differences, out });
        for place in &self.places.0[..differences.len()] {
            #[expect(clippy::cast_possible_truncation, reason = "it has 16 bits")]
            let place = *place as u16;
            self.counts[usize::from(place)] += 1;
        }
    }

    /// The percentiles of `n` differences, those that were not counted being zero, of which the
    /// least above zero and the largest are known. Leaves the histogram empty.
    pub fn take(&mut self, n: u64, least: f64, largest: f64) -> Percentiles {
        let (counts, _) = self.counts.as_chunks_mut::<TURNS>();
        counts[0] = [0; TURNS];
        if largest == 0.0 || n == 0 {
            return Percentiles {
                p50: 0.0,
                p99: 0.0,
                p999: 0.0,
            };
        }
        let (low, high) = (bucket(least), bucket(largest));
        let (mut at, mut seen) = (high + 1, 0u64);
        // From the top: nearest rank ⌈p·n⌉ leaves n − ⌈p·n⌉ above it.
        let mut percentile = |per_mille: u64| {
            let above = n - (n * per_mille).div_ceil(1000);
            while seen <= above && at > low {
                at -= 1;
                seen += counts[at].into_iter().map(u64::from).sum::<u64>();
            }
            if seen <= above {
                return 0.0;
            }
            middle(at).clamp(least, largest)
        };
        let p999 = percentile(999);
        let p99 = percentile(990);
        let p50 = percentile(500);
        counts[low..=high].fill([0; TURNS]);
        Percentiles { p50, p99, p999 }
    }
}

fn bucket(d: f64) -> usize {
    // 15 bits, of which the sign is 0: it fits every usize.
    (d.to_bits() >> SHIFT) as usize
}

fn middle(bucket: usize) -> f64 {
    if bucket >= INFINITE {
        return f64::INFINITY;
    }
    f64::from_bits((bucket as u64) << SHIFT | 1 << (SHIFT - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Nearest rank in the sorted values.
    fn exact(sorted: &[f64], per_mille: usize) -> f64 {
        sorted[(sorted.len() * per_mille).div_ceil(1000).max(1) - 1]
    }

    fn close(got: f64, exact: f64) -> bool {
        got == exact || (got / exact).log2().abs() <= 0.125
    }

    proptest! {
        #[test]
        fn percentiles_are_within_an_eighth_of_an_octave(
            mut values in prop::collection::vec(
                prop_oneof![Just(0.0), 1e-300..1e300f64, 0.0..1.0f64, (0i32..4).prop_map(f64::from)],
                1..3000,
            ),
            again in 1usize..3,
        ) {
            let mut histogram = Histogram::new();
            for _ in 0..again {
                for part in values.chunks(BLOCK) {
                    histogram.add(Level::best(), part);
                }
                let positive = values.iter().copied().filter(|v| *v > 0.0);
                let least = positive.fold(f64::INFINITY, f64::min);
                let largest = values.iter().copied().fold(0.0, f64::max);
                let p = histogram.take(values.len() as u64, least, largest);
                values.sort_by(f64::total_cmp);
                prop_assert!(close(p.p50, exact(&values, 500)), "{p:?}");
                prop_assert!(close(p.p99, exact(&values, 990)), "{p:?}");
                prop_assert!(close(p.p999, exact(&values, 999)), "{p:?}");
                prop_assert!(histogram.counts.iter().all(|n| *n == 0));
            }
        }
    }

    #[test]
    fn infinite_differences_have_a_bucket() {
        let mut histogram = Histogram::new();
        histogram.add(Level::best(), &[1.0, f64::INFINITY]);
        let p = histogram.take(2, 1.0, f64::INFINITY);
        assert!(close(p.p50, 1.0), "{p:?}");
        assert_eq!(p.p999, f64::INFINITY);
    }
}
