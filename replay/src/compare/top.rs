//! Largest and second largest element of one side.

use super::find::first_equal;
use super::level::{Kernel, LANES, Level};
use super::sums::more;

/// What was seen of one side so far. NaN is passed over: whoever asks knows whether there was one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Top {
    seen: u64,
    best: f64,
    second: f64,
    index: u64,
}

/// The largest and the second largest value of a block, repeats counted.
struct TopOfBlock<'a>(&'a [f64]);

impl Kernel for TopOfBlock<'_> {
    type Out = (f64, f64);

    #[inline(always)]
    fn run(self) -> (f64, f64) {
        // Two steps side by side: the next one need not wait for the last one.
        let mut best = [f64::NEG_INFINITY; 2 * LANES];
        let mut second = [f64::NEG_INFINITY; 2 * LANES];
        let (steps, rest) = self.0.as_chunks::<{ 2 * LANES }>();
        for values in steps {
            for l in 0..2 * LANES {
                let v = values[l];
                let less = if v < best[l] { v } else { best[l] };
                second[l] = if less > second[l] { less } else { second[l] };
                best[l] = if v > best[l] { v } else { best[l] };
            }
        }
        // Lanes in pairs, halves at a time: one after the other they would wait for each other.
        let mut half = LANES;
        while half > 0 {
            for l in 0..half {
                let (a, b) = (best[l], best[l + half]);
                let less = if a < b { a } else { b };
                second[l] = more(more(second[l], second[l + half]), less);
                best[l] = more(a, b);
            }
            half /= 2;
        }
        let mut both = (best[0], second[0]);
        for &v in rest {
            if v > both.0 {
                both = (v, both.0);
            } else if v > both.1 {
                both.1 = v;
            }
        }
        both
    }
}

/// The largest value of a block.
struct Largest<'a>(&'a [f64]);

impl Kernel for Largest<'_> {
    type Out = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        // Two steps side by side: the next maximum need not wait for the last one.
        let mut best = [f64::NEG_INFINITY; 2 * LANES];
        let (steps, rest) = self.0.as_chunks::<{ 2 * LANES }>();
        for values in steps {
            for l in 0..2 * LANES {
                best[l] = more(best[l], values[l]);
            }
        }
        rest.iter()
            .chain(&best)
            .copied()
            .fold(f64::NEG_INFINITY, more)
    }
}

impl Top {
    pub fn new() -> Self {
        Self {
            seen: 0,
            best: f64::NEG_INFINITY,
            second: f64::NEG_INFINITY,
            index: 0,
        }
    }

    /// Adds the next elements, the first of which has index `from`.
    pub fn add(&mut self, level: Level, values: &[f64], from: u64) {
        // Few blocks after the first hold one of the two, and to see that takes a quarter of the time.
        if self.seen > 0 && level.run(Largest(values)) <= self.second {
            self.seen += values.len() as u64;
            return;
        }
        let (best, second) = level.run(TopOfBlock(values));
        if self.seen == 0 || best > self.best {
            // Rare after the first blocks: only a new largest value is looked for.
            let at = first_equal(level, values, best).unwrap_or(0);
            self.index = from + at as u64;
            self.second = self.best.max(second);
            self.best = best;
        } else {
            self.second = self.second.max(best);
        }
        self.seen += values.len() as u64;
    }

    /// Index of the largest element, ties to the lowest; none where there is no element.
    pub fn index(&self) -> Option<u32> {
        (self.seen > 0)
            .then(|| u32::try_from(self.index).ok())
            .flatten()
    }

    /// The largest value occurs more than once.
    pub fn tie(&self) -> bool {
        self.seen > 1 && self.best == self.second
    }

    /// Largest minus second largest; 0 for ties, infinite ones too.
    pub fn margin(&self) -> Option<f64> {
        if self.tie() {
            return Some(0.0);
        }
        (self.seen > 1).then_some(self.best - self.second)
    }
}
