//! The statistics of one item, accumulated block by block in f64.

use super::block::Block;
use super::level::{Kernel, LANES, Level};

/// By lane: what becomes one number at the end.
#[derive(Clone, Copy)]
struct Lanes {
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
    lanes: &'a mut Lanes,
}

impl Kernel for Add<'_> {
    /// The largest |r−t| of the block.
    type Out = f64;

    #[expect(
        clippy::needless_range_loop,
        reason = "lanes of several arrays side by side"
    )]
    #[inline(always)]
    fn run(self) -> f64 {
        let bound = bound(&self.lanes.max_rel);
        let Rule { rtol, atol, small } = self.rule;
        let (r, t, d) = self.block.steps(self.n);
        let mut s = *self.lanes;
        let mut largest = [0f64; LANES];
        // Above zero where a relative error may be the largest so far.
        let mut excess = [0f64; LANES];
        // A loop for each statistic: what a compiler unrolls whole becomes one vector instruction,
        // and a loop over lanes with all of them in it is too long for that (four times slower).
        for ((r, t), d) in r.iter().zip(t).zip(d) {
            let (a, b) = (r.map(f64::abs), t.map(f64::abs));
            for l in 0..LANES {
                largest[l] = more(largest[l], d[l]);
            }
            for l in 0..LANES {
                s.max_r[l] = more(s.max_r[l], a[l]);
            }
            for l in 0..LANES {
                s.max_t[l] = more(s.max_t[l], b[l]);
            }
            for l in 0..LANES {
                excess[l] = more(excess[l], d[l] - bound * more(small, a[l]));
            }
            for l in 0..LANES {
                let above_zero = if d[l] > 0.0 { d[l] } else { f64::INFINITY };
                s.least[l] = less(s.least[l], above_zero);
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
        if excess.into_iter().fold(0.0, more) > 0.0 {
            for (r, d) in r.iter().zip(d) {
                for l in 0..LANES {
                    s.max_rel[l] = more(s.max_rel[l], d[l] / more(small, r[l].abs()));
                }
            }
        }
        *self.lanes = s;
        largest.into_iter().fold(0.0, more)
    }
}

/// Where d is at most this times m, d/m is at most the largest so far, rounded or not: a division
/// costs as much as all the rest of its step, and few blocks hold a new largest. Tiny ones, whose
/// products would not be normal numbers, bound nothing.
#[inline(always)]
fn bound(max_rel: &[f64; LANES]) -> f64 {
    let max_rel = max_rel.iter().copied().fold(0.0, more);
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

impl Sums {
    pub fn new() -> Self {
        let zero = [0.0; LANES];
        Self {
            lanes: Lanes {
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
            max_abs: 0.0,
            worst: 0,
        }
    }

    /// Adds the first `n` pairs of a block, the first of which has index `from`. Returns the
    /// largest difference in it.
    pub fn add(&mut self, level: Level, rule: Rule, block: &mut Block, n: usize, from: u64) -> f64 {
        block.pad(n);
        let lanes = &mut self.lanes;
        let largest = level.run(Add {
            block,
            n,
            rule,
            lanes,
        });
        if largest > self.max_abs {
            self.max_abs = largest;
            let at = block.d[..n].iter().position(|d| *d == largest);
            self.worst = from + at.unwrap_or(0) as u64;
        }
        largest
    }

    pub fn totals(&self) -> Totals {
        let l = &self.lanes;
        let most = |lanes: &[f64; LANES]| lanes.iter().copied().fold(0.0, more);
        let sum = |lanes: &[f64; LANES]| lanes.iter().sum();
        Totals {
            max_rel: most(&l.max_rel),
            max_r: most(&l.max_r),
            max_t: most(&l.max_t),
            least: l.least.iter().copied().fold(f64::INFINITY, f64::min),
            violations: l.violations.iter().sum(),
            sum: sum(&l.sum),
            squares: [sum(&l.dd), sum(&l.rr), sum(&l.tt), sum(&l.rt)],
        }
    }
}
