//! The numbers of one item.

use inferdiff_schemas::Datatype;
use inferdiff_schemas::prefetch::prefetch;
use inferdiff_schemas::run::comparison::Numbers;
use inferdiff_schemas::run::ladder::Tolerance;

use super::block::{BLOCK, Block, Side, ulps};
use super::elements::{coarser, element, small};
use super::histogram::Histogram;
use super::level::Level;
use super::sums::{Rule, Sums, Totals};
use super::top::Top;

/// Squares of magnitudes between these two are normal numbers, and so are sums of them: outside, the
/// sums are made again of scaled values.
const SAFE: std::ops::RangeInclusive<f64> = 1e-140..=1e140;

/// Compares items, one after the other, with buffers that they share.
pub struct Comparer {
    level: Level,
    block: Box<Block>,
    histogram: Histogram,
}

impl Default for Comparer {
    fn default() -> Self {
        Self::at(Level::best())
    }
}

impl Comparer {
    /// With the instructions of a level; every level gives the same numbers.
    pub fn at(level: Level) -> Self {
        Self {
            level,
            block: Block::new(),
            histogram: Histogram::new(),
        }
    }

    /// Compares `elements` elements of little-endian data, reference against stage; definitions in
    /// `docs/comparison.md`. Both datatypes are numeric. Data that is too short for `elements` is
    /// compared as far as it goes.
    pub fn item(
        &mut self,
        elements: usize,
        reference: (Datatype, &[u8]),
        stage: (Datatype, &[u8]),
        tolerance: Tolerance,
    ) -> Numbers {
        let holds = |(datatype, data): (Datatype, &[u8])| {
            datatype.size().map_or(0, |size| data.len() / size)
        };
        let elements = elements.min(holds(reference)).min(holds(stage));
        if reference.0 == stage.0 && equal(reference.1, stage.1) {
            self.equal_item(elements, reference)
        } else {
            self.unequal_item(elements, reference, stage, tolerance)
        }
    }

    /// The reference against itself, and every stage that changes nothing: most is known.
    fn equal_item(&mut self, elements: usize, side: (Datatype, &[u8])) -> Numbers {
        let (mut top, mut nan) = (Top::new(), false);
        let (mut finite, mut norm) = (0u64, false);
        for (from, n) in blocks(elements) {
            let nonfinite = self.block.load_one(self.level, part(side, from, n), n);
            let values = &self.block.r[..n];
            top.add(self.level, values, from as u64);
            finite += if nonfinite {
                nan |= values.iter().any(|v| v.is_nan());
                values.iter().filter(|v| v.is_finite()).count() as u64
            } else {
                n as u64
            };
            norm = norm || values.iter().any(|v| v.is_finite() && *v != 0.0);
        }
        let mut out = Numbers {
            elements: elements as u64,
            bits_equal: true,
            nonfinite_matched: elements as u64 - finite,
            ..Numbers::default()
        };
        tops(&mut out, (&top, nan), (&top, nan));
        if finite > 0 {
            let zero = Some(0.0);
            (out.max_abs, out.mean_abs, out.max_rel, out.rel_l2) = (zero, zero, zero, zero);
            (out.p50_abs, out.p99_abs, out.p999_abs) = (zero, zero, zero);
            out.cosine = Some(1.0);
            out.log_norm_ratio = norm.then_some(0.0);
            out.max_ulp = Some(0);
        }
        out
    }

    fn unequal_item(
        &mut self,
        elements: usize,
        reference: (Datatype, &[u8]),
        stage: (Datatype, &[u8]),
        tolerance: Tolerance,
    ) -> Numbers {
        let rule = Rule {
            rtol: tolerance.rtol,
            atol: tolerance.atol,
            small: small(coarser(reference.0, stage.0)),
        };
        let (mut top_r, mut top_t) = (Top::new(), Top::new());
        let mut classes = Classes::default();
        let fp64 = [reference.0, stage.0].contains(&Datatype::Fp64);
        let (mut sums, mut max_ulp) = (Sums::new(self.level, rule, fp64), 0u64);
        for (from, n) in blocks(elements) {
            let (r, t) = (part(reference, from, n), part(stage, from, n));
            let later = (from + AHEAD * BLOCK).min(elements);
            let more = BLOCK.min(elements - later);
            prefetch(part(reference, later, more).data);
            prefetch(part(stage, later, more).data);
            let ulp = self.block.load(self.level, r, t, n);
            top_r.add(self.level, &self.block.r[..n], from as u64);
            top_t.add(self.level, &self.block.t[..n], from as u64);
            let block = &mut self.block;
            let largest = if let Some(largest) = sums.add_finite(block, n, from as u64) {
                max_ulp = max_ulp.max(ulp);
                largest
            } else {
                classes.set_aside(block, n, from as u64);
                max_ulp = (0..n).fold(max_ulp, |most, i| most.max(ulps(r, t, i)));
                sums.add(block, n, from as u64)
            };
            if largest > 0.0 {
                self.histogram.add(self.level, &self.block.d[..n]);
            }
        }
        let mut out = Numbers {
            elements: elements as u64,
            nonfinite_mismatches: classes.mismatches,
            nonfinite_matched: classes.matched,
            violations: classes.mismatches,
            worst_index: classes.first_mismatch,
            ..Numbers::default()
        };
        tops(&mut out, (&top_r, classes.nan_r), (&top_t, classes.nan_t));
        let finite = elements as u64 - classes.mismatches - classes.matched;
        if finite == 0 {
            return out;
        }
        let totals = sums.totals();
        out.violations += totals.violations;
        if out.worst_index.is_none() && sums.max_abs > 0.0 {
            out.worst_index = Some(sums.worst);
        }
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 elements")]
        let n = finite as f64;
        out.max_abs = Some(sums.max_abs);
        out.mean_abs = Some(totals.sum / n);
        out.max_rel = Some(totals.max_rel);
        out.max_ulp = Some(max_ulp);
        let p = self.histogram.take(finite, totals.least, sums.max_abs);
        (out.p50_abs, out.p99_abs, out.p999_abs) = (Some(p.p50), Some(p.p99), Some(p.p999));
        norms(&mut out, &totals, || {
            scaled(elements, reference, stage, &totals)
        });
        out
    }
}

/// Blocks between the one that is compared and the one that is asked for.
const AHEAD: usize = 4;

/// Equal bytes; a tensor that is its own reference is not read for it.
fn equal(a: &[u8], b: &[u8]) -> bool {
    std::ptr::eq(a, b) || a == b
}

/// First index and length of each block.
fn blocks(elements: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..elements)
        .step_by(BLOCK)
        .map(move |from| (from, BLOCK.min(elements - from)))
}

fn part((datatype, data): (Datatype, &[u8]), from: usize, n: usize) -> Side<'_> {
    let size = datatype.size().unwrap_or(0);
    Side {
        datatype,
        data: &data[from * size..(from + n) * size],
    }
}

fn tops(out: &mut Numbers, (r, nan_r): (&Top, bool), (t, nan_t): (&Top, bool)) {
    if !nan_r {
        out.reference_top1 = r.index();
        out.reference_tie = r.tie();
        out.reference_margin = r.margin();
    }
    if !nan_t {
        out.stage_top1 = t.index();
        out.stage_tie = t.tie();
    }
}

/// Pairs that take no part in the statistics.
#[derive(Default)]
struct Classes {
    mismatches: u64,
    matched: u64,
    first_mismatch: Option<u64>,
    nan_r: bool,
    nan_t: bool,
}

impl Classes {
    /// Counts the pairs of a block that are not finite on both sides and puts zeros in their place,
    /// which no statistic sees.
    fn set_aside(&mut self, block: &mut Block, n: usize, from: u64) {
        let class = |v: f64| (v.is_nan(), v.is_infinite(), v.is_infinite() && v > 0.0);
        for i in 0..n {
            let (r, t) = (block.r[i], block.t[i]);
            self.nan_r |= r.is_nan();
            self.nan_t |= t.is_nan();
            if r.is_finite() && t.is_finite() {
                continue;
            }
            (block.r[i], block.t[i], block.d[i]) = (0.0, 0.0, 0.0);
            if class(r) == class(t) {
                self.matched += 1;
            } else {
                self.mismatches += 1;
                self.first_mismatch.get_or_insert(from + i as u64);
            }
        }
    }
}

/// What the sums of squares say: each over values divided by a power of its own.
struct Norms {
    squares: [f64; 4],
    scale_r: f64,
    scale_t: f64,
}

fn norms(out: &mut Numbers, totals: &Totals, scaled: impl FnOnce() -> Norms) {
    let safe = |m: f64| m == 0.0 || SAFE.contains(&m);
    let Norms {
        squares: [dd, rr, tt, rt],
        scale_r,
        scale_t,
    } = if safe(totals.max_r) && safe(totals.max_t) {
        Norms {
            squares: totals.squares,
            scale_r: 1.0,
            scale_t: 1.0,
        }
    } else {
        scaled()
    };
    let norm_r = rr.sqrt() * scale_r;
    let norm_t = tt.sqrt() * scale_t;
    let norm_d = dd.sqrt() * scale_r.max(scale_t);
    out.rel_l2 = match (norm_d == 0.0, norm_r == 0.0) {
        (true, _) => Some(0.0),
        (false, true) => None,
        (false, false) => Some(norm_d / norm_r),
    };
    out.cosine = Some(match (rr == 0.0, tt == 0.0) {
        (true, true) => 1.0,
        (true, false) | (false, true) => 0.0,
        (false, false) => rt / (rr.sqrt() * tt.sqrt()),
    });
    out.log_norm_ratio = (norm_r > 0.0 && norm_t > 0.0).then(|| (norm_t / norm_r).ln());
}

/// FP64 whose squares would overflow or vanish: every value divided by the largest magnitude of its
/// side, the difference by the larger of both.
fn scaled(
    elements: usize,
    reference: (Datatype, &[u8]),
    stage: (Datatype, &[u8]),
    totals: &Totals,
) -> Norms {
    let scale = |m: f64| if m > 0.0 { m } else { 1.0 };
    let (scale_r, scale_t) = (scale(totals.max_r), scale(totals.max_t));
    let mut squares = [0.0; 4];
    for i in 0..elements {
        let (Some(r), Some(t)) = (
            element(reference.0, reference.1, i),
            element(stage.0, stage.1, i),
        ) else {
            break;
        };
        let (r, t) = (r.value, t.value);
        if !r.is_finite() || !t.is_finite() {
            continue;
        }
        let d = (r - t).abs() / scale_r.max(scale_t);
        let (r, t) = (r / scale_r, t / scale_t);
        for (sum, square) in squares.iter_mut().zip([d * d, r * r, t * t, r * t]) {
            *sum += square;
        }
    }
    Norms {
        squares,
        scale_r,
        scale_t,
    }
}

#[cfg(test)]
mod tests;
