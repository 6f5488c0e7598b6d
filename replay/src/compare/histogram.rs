//! Percentiles of |r−t| without sorting.
//!
//! A bucket is an eighth of a binade by value: the exponent and the first three mantissa bits of the
//! f64. Its middle is within 1/8 octave of everything in it (the first is 0.17 octaves wide).

/// Bits below those that name a bucket.
const SHIFT: u32 = 52 - 3;
/// The bucket of +∞; every finite bucket is below it.
const INFINITE: usize = 0x7ff << 3;
const BUCKETS: usize = 1 << 14;

type Counts = [u32; BUCKETS];

/// Counts of absolute differences by bucket. Empty between items.
///
/// Twice, for neighbours in turn: they often fall into one bucket, and a count that was just written
/// must not be waited for.
pub(super) struct Histogram([Box<Counts>; 2]);

/// p50, p99 and p99.9 by nearest rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Percentiles {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

impl Histogram {
    pub fn new() -> Self {
        let counts = || vec![0; BUCKETS].into_boxed_slice().try_into();
        Self([(); 2].map(|()| counts().expect("made with that length")))
    }

    /// Counts differences; none is negative or NaN. Zeros need not be counted.
    pub fn add(&mut self, differences: &[f64]) {
        let [even, odd] = &mut self.0;
        let (pairs, rest) = differences.as_chunks();
        for [a, b] in pairs {
            even[bucket(*a) % BUCKETS] += 1;
            odd[bucket(*b) % BUCKETS] += 1;
        }
        for d in rest {
            even[bucket(*d) % BUCKETS] += 1;
        }
    }

    /// The percentiles of `n` differences, those that were not counted being zero, of which the
    /// least above zero and the largest are known. Leaves the histogram empty.
    pub fn take(&mut self, n: u64, least: f64, largest: f64) -> Percentiles {
        let [even, odd] = &mut self.0;
        (even[0], odd[0]) = (0, 0);
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
                seen += u64::from(even[at]) + u64::from(odd[at]);
            }
            if seen <= above {
                return 0.0;
            }
            middle(at).clamp(least, largest)
        };
        let p999 = percentile(999);
        let p99 = percentile(990);
        let p50 = percentile(500);
        even[low..=high].fill(0);
        odd[low..=high].fill(0);
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
                histogram.add(&values);
                let positive = values.iter().copied().filter(|v| *v > 0.0);
                let least = positive.fold(f64::INFINITY, f64::min);
                let largest = values.iter().copied().fold(0.0, f64::max);
                let p = histogram.take(values.len() as u64, least, largest);
                values.sort_by(f64::total_cmp);
                prop_assert!(close(p.p50, exact(&values, 500)), "{p:?}");
                prop_assert!(close(p.p99, exact(&values, 990)), "{p:?}");
                prop_assert!(close(p.p999, exact(&values, 999)), "{p:?}");
                prop_assert!(histogram.0.iter().flat_map(|c| c.iter()).all(|n| *n == 0));
            }
        }
    }

    #[test]
    fn infinite_differences_have_a_bucket() {
        let mut histogram = Histogram::new();
        histogram.add(&[1.0, f64::INFINITY]);
        let p = histogram.take(2, 1.0, f64::INFINITY);
        assert!(close(p.p50, 1.0), "{p:?}");
        assert_eq!(p.p999, f64::INFINITY);
    }
}
