//! The statistics of one item, accumulated block by block in f64.

use super::block::Block;
use super::find::first_equal;
use super::level::{Kernel, LANES, Level};

/// By lane: what becomes one number at the end.
#[derive(Clone, Copy)]
struct Lanes {
    /// Of the block alone: the largest |r−t|, and above zero where a relative error may be the largest
    /// so far.
    largest: [f64; LANES],
    excess: [f64; LANES],
    max_rel: [f64; LANES],
    max_r: [f64; LANES],
    max_t: [f64; LANES],
    /// The least |r−t| above zero.
    least: [f64; LANES],
    violations: [u64; LANES],
    sum: [f64; LANES],
    dd: [f64; LANES],
    rr: [f64; LANES],
    tt: [f64; LANES],
    rt: [f64; LANES],
}

/// What decides over elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub rtol: f64,
    pub atol: f64,
    /// Below this magnitude a relative error is taken relative to it.
    pub small: f64,
}

/// Statistics of the blocks so far.
pub(super) struct Sums {
    lanes: Lanes,
    level: Level,
    rule: Rule,
    magnitudes: bool,
    pub max_abs: f64,
    /// Index of the first element with `max_abs`.
    pub worst: u64,
}

/// The statistics of one item, over its finite pairs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Totals {
    pub max_rel: f64,
    pub max_r: f64,
    pub max_t: f64,
    pub least: f64,
    pub violations: u64,
    pub sum: f64,
    /// Σ(r−t)², Σr², Σt², Σrt.
    pub squares: [f64; 4],
}

struct Add<'a> {
    block: &'a Block,
    n: usize,
    rule: Rule,
    magnitudes: bool,
    /// A block whose differences are not all finite is not added.
    finite: bool,
    lanes: &'a mut Lanes,
}

impl Kernel for Add<'_> {
    /// It was added.
    type Out = bool;

    #[expect(
        clippy::needless_range_loop,
        reason = "lanes of several arrays side by side"
    )]
    #[inline(always)]
    fn run(self) -> bool {
        let bound = bound(&self.lanes.max_rel);
        let Rule { rtol, atol, small } = self.rule;
        let (r, t, d) = self.block.steps(self.n);
        let mut s = *self.lanes;
        (s.largest, s.excess) = ([0.0; LANES], [0.0; LANES]);
        // A loop for each statistic: what a compiler unrolls whole becomes one vector instruction,
        // and a loop over lanes with all of them in it is too long for that (four times slower).
        for (r, d) in r.iter().zip(d) {
            let a = r.map(f64::abs);
            for l in 0..LANES {
                s.largest[l] = more(s.largest[l], d[l]);
            }
            for l in 0..LANES {
                s.excess[l] = more(s.excess[l], d[l] - bound * more(small, a[l]));
            }
            for l in 0..LANES {
                let lower = less(s.least[l], d[l]);
                s.least[l] = if d[l] > 0.0 { lower } else { s.least[l] };
            }
            for l in 0..LANES {
                s.violations[l] += u64::from(d[l] > atol + rtol * a[l]);
            }
        }
        // Apart, so that each keeps its lanes in the registers of narrow processors.
        for ((r, t), d) in r.iter().zip(t).zip(d) {
            for l in 0..LANES {
                s.sum[l] += d[l];
            }
            for l in 0..LANES {
                s.dd[l] += d[l] * d[l];
            }
            for l in 0..LANES {
                s.rr[l] += r[l] * r[l];
            }
            for l in 0..LANES {
                s.tt[l] += t[l] * t[l];
            }
            for l in 0..LANES {
                s.rt[l] += r[l] * t[l];
            }
        }
        // NaN and infinities of either side are in the sum.
        if self.finite && !s.sum.iter().all(|sum| sum.is_finite()) {
            return false;
        }
        if self.magnitudes {
            for (r, t) in r.iter().zip(t) {
                for l in 0..LANES {
                    s.max_r[l] = more(s.max_r[l], r[l].abs());
                }
                for l in 0..LANES {
                    s.max_t[l] = more(s.max_t[l], t[l].abs());
                }
            }
        }
        *self.lanes = s;
        true
    }
}

/// The largest relative error of a block.
struct Relative<'a> {
    block: &'a Block,
    n: usize,
    small: f64,
    max_rel: &'a mut [f64; LANES],
}

impl Kernel for Relative<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        let (r, _, d) = self.block.steps(self.n);
        let mut most = *self.max_rel;
        for (r, d) in r.iter().zip(d) {
            for l in 0..LANES {
                most[l] = more(most[l], d[l] / more(self.small, r[l].abs()));
            }
        }
        *self.max_rel = most;
    }
}

/// Where d is at most this times m, d/m is at most the largest so far, rounded or not: a division
/// costs as much as all the rest of its step, and few blocks hold a new largest. Tiny ones, whose
/// products would not be normal numbers, bound nothing.
#[inline(always)]
fn bound(max_rel: &[f64; LANES]) -> f64 {
    let max_rel = most(*max_rel);
    if max_rel > 1e-250 {
        max_rel * (1.0 - 4.0 * f64::EPSILON)
    } else {
        -1.0
    }
}

/// `f64::max` without its care for NaN, which is one instruction.
#[inline(always)]
pub(super) fn more(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

/// `f64::min` without its care for NaN.
#[inline(always)]
fn less(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

/// The largest of the lanes, halves at a time: one after the other they would wait for each other.
#[inline(always)]
fn most(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] = more(lanes[l], lanes[l + half]);
        }
        half /= 2;
    }
    lanes[0]
}

impl Sums {
    /// With the largest magnitudes of both sides, or 0 in their place: only those of FP64 can have
    /// squares that f64 does not hold.
    pub fn new(level: Level, rule: Rule, magnitudes: bool) -> Self {
        let zero = [0.0; LANES];
        Self {
            lanes: Lanes {
                largest: zero,
                excess: zero,
                max_rel: zero,
                max_r: zero,
                max_t: zero,
                least: [f64::INFINITY; LANES],
                violations: [0; LANES],
                sum: zero,
                dd: zero,
                rr: zero,
                tt: zero,
                rt: zero,
            },
            level,
            rule,
            magnitudes,
            max_abs: 0.0,
            worst: 0,
        }
    }

    /// Adds the first `n` pairs of a block, the first of which has index `from`. Returns the
    /// largest difference in it.
    pub fn add(&mut self, block: &mut Block, n: usize, from: u64) -> f64 {
        self.run(false, block, n, from).unwrap_or(0.0)
    }

    /// As [`Self::add`], unless an element is NaN or infinite (or so many are so large that their
    /// differences together are): then nothing is added.
    pub fn add_finite(&mut self, block: &mut Block, n: usize, from: u64) -> Option<f64> {
        self.run(true, block, n, from)
    }

    fn run(&mut self, finite: bool, block: &mut Block, n: usize, from: u64) -> Option<f64> {
        block.pad(n);
        let (level, rule, magnitudes) = (self.level, self.rule, self.magnitudes);
        let lanes = &mut self.lanes;
        let added = level.run(Add {
            block,
            n,
            rule,
            magnitudes,
            finite,
            lanes,
        });
        if !added {
            return None;
        }
        // Here and not in the kernel: there compilers shuffle lanes in each step to have them ready for it.
        if most(self.lanes.excess) > 0.0 {
            level.run(Relative {
                block,
                n,
                small: rule.small,
                max_rel: &mut self.lanes.max_rel,
            });
        }
        let largest = most(self.lanes.largest);
        if largest > self.max_abs {
            self.max_abs = largest;
            let at = first_equal(level, &block.d[..n], largest);
            self.worst = from + at.unwrap_or(0) as u64;
        }
        Some(largest)
    }

    pub fn totals(&self) -> Totals {
        let l = &self.lanes;
        let sum = |lanes: &[f64; LANES]| lanes.iter().sum();
        Totals {
            max_rel: most(l.max_rel),
            max_r: most(l.max_r),
            max_t: most(l.max_t),
            least: -most(l.least.map(|least| -least)),
            violations: l.violations.iter().sum(),
            sum: sum(&l.sum),
            squares: [sum(&l.dd), sum(&l.rr), sum(&l.tt), sum(&l.rt)],
        }
    }
}
