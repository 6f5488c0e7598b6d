//! The numbers of one item.

use inferdiff_schemas::Datatype;
use inferdiff_schemas::run::ladder::Tolerance;

use super::elements::{Element, coarser, element, grid, small};

/// Numbers of one item, reference `r` against stage `t`; definitions in `docs/comparison.md`.
///
/// Statistics are over elements finite on both sides; `None` where there is none.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(
    missing_docs,
    reason = "the fields are those of run::comparison::Comparison"
)]
pub struct Numbers {
    pub elements: u64,
    pub bits_equal: bool,
    pub max_abs: Option<f64>,
    pub mean_abs: Option<f64>,
    pub max_rel: Option<f64>,
    pub rel_l2: Option<f64>,
    pub cosine: Option<f64>,
    pub log_norm_ratio: Option<f64>,
    pub max_ulp: Option<u64>,
    pub violations: u64,
    pub nonfinite_mismatches: u64,
    pub nonfinite_matched: u64,
    pub worst_index: Option<u64>,
    pub reference_top1: Option<u32>,
    pub stage_top1: Option<u32>,
    pub reference_margin: Option<f64>,
    pub reference_tie: bool,
    pub stage_tie: bool,
}

#[derive(PartialEq, Clone, Copy)]
enum Class {
    Finite,
    PlusInfinity,
    MinusInfinity,
    NaN,
}

fn class(v: f64) -> Class {
    if v.is_finite() {
        Class::Finite
    } else if v.is_nan() {
        Class::NaN
    } else if v > 0.0 {
        Class::PlusInfinity
    } else {
        Class::MinusInfinity
    }
}

/// Compares `elements` elements of little-endian data. Both numeric; the caller has checked that
/// the lengths fit.
pub fn compare_item(
    elements: usize,
    reference: (Datatype, &[u8]),
    stage: (Datatype, &[u8]),
    tolerance: Tolerance,
) -> Numbers {
    let mut out = Numbers {
        elements: elements as u64,
        bits_equal: reference.0 == stage.0 && reference.1 == stage.1,
        ..Numbers::default()
    };
    let pairs = || {
        (0..elements).filter_map(|i| {
            Some((
                element(reference.0, reference.1, i)?,
                element(stage.0, stage.1, i)?,
            ))
        })
    };
    top1(&mut out, pairs());
    // First pass: classes and magnitudes, by which the second scales so that squares of huge or
    // tiny values neither overflow nor vanish.
    let (mut max_r, mut max_t, mut finite) = (0f64, 0f64, 0u64);
    for (i, (r, t)) in pairs().enumerate() {
        let (class_r, class_t) = (class(r.value), class(t.value));
        if class_r != class_t {
            out.nonfinite_mismatches += 1;
            if out.worst_index.is_none() {
                out.worst_index = Some(i as u64);
            }
        } else if class_r != Class::Finite {
            out.nonfinite_matched += 1;
        } else {
            finite += 1;
            max_r = max_r.max(r.value.abs());
            max_t = max_t.max(t.value.abs());
        }
    }
    out.violations = out.nonfinite_mismatches;
    if finite == 0 {
        return out;
    }
    if out.bits_equal {
        // The reference against itself, and every stage that changes nothing: all is known.
        out.max_abs = Some(0.0);
        out.mean_abs = Some(0.0);
        out.max_rel = Some(0.0);
        out.rel_l2 = Some(0.0);
        out.cosine = Some(1.0);
        out.log_norm_ratio = (max_r > 0.0).then_some(0.0);
        out.max_ulp = Some(0);
        return out;
    }
    let mut sums = Sums::new(max_r, max_t);
    let mismatch = out.worst_index;
    let datatype = coarser(reference.0, stage.0);
    for (i, (r, t)) in pairs().enumerate() {
        if r.value.is_finite() && t.value.is_finite() {
            sums.add(i as u64, r, t, datatype, tolerance);
        }
    }
    sums.finish(&mut out, finite);
    if mismatch.is_some() {
        out.worst_index = mismatch;
    }
    out
}

struct Sums {
    scale_r: f64,
    scale_t: f64,
    max_abs: f64,
    worst: u64,
    sum_abs: f64,
    max_rel: f64,
    max_ulp: i128,
    violations: u64,
    /// Σ(r−t)², Σr², Σt², Σrt, each over values scaled by the largest magnitude of their side (the
    /// difference by the larger of both).
    dd: f64,
    rr: f64,
    tt: f64,
    rt: f64,
}

impl Sums {
    fn new(max_r: f64, max_t: f64) -> Self {
        let scale = |m: f64| if m > 0.0 { m } else { 1.0 };
        Self {
            scale_r: scale(max_r),
            scale_t: scale(max_t),
            max_abs: 0.0,
            worst: 0,
            sum_abs: 0.0,
            max_rel: 0.0,
            max_ulp: 0,
            violations: 0,
            dd: 0.0,
            rr: 0.0,
            tt: 0.0,
            rt: 0.0,
        }
    }

    fn add(&mut self, i: u64, r: Element, t: Element, datatype: Datatype, tolerance: Tolerance) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a distance beyond 2^53 may be rounded"
        )]
        let d = match (r.exact, t.exact) {
            (Some(r), Some(t)) => (r - t).unsigned_abs() as f64,
            _ => (r.value - t.value).abs(),
        };
        let equal = match (r.exact, t.exact) {
            (Some(r), Some(t)) => r == t,
            _ => r.value == t.value,
        };
        if d > self.max_abs {
            (self.max_abs, self.worst) = (d, i);
        }
        self.sum_abs += d;
        self.max_rel = self.max_rel.max(d / r.value.abs().max(small(datatype)));
        if !equal && d > tolerance.atol + tolerance.rtol * r.value.abs() {
            self.violations += 1;
        }
        self.max_ulp = self
            .max_ulp
            .max((grid(datatype, r) - grid(datatype, t)).abs());
        let (sr, st) = (r.value / self.scale_r, t.value / self.scale_t);
        let sd = d / self.scale_r.max(self.scale_t);
        self.dd += sd * sd;
        self.rr += sr * sr;
        self.tt += st * st;
        self.rt += sr * st;
    }

    fn finish(self, out: &mut Numbers, finite: u64) {
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 elements")]
        let n = finite as f64;
        out.max_abs = Some(self.max_abs);
        out.mean_abs = Some(self.sum_abs / n);
        out.max_rel = Some(self.max_rel);
        out.max_ulp = Some(u64::try_from(self.max_ulp).unwrap_or(u64::MAX));
        out.violations += self.violations;
        out.worst_index = (self.max_abs > 0.0).then_some(self.worst);
        let norm_r = self.rr.sqrt() * self.scale_r;
        let norm_t = self.tt.sqrt() * self.scale_t;
        let norm_d = self.dd.sqrt() * self.scale_r.max(self.scale_t);
        out.rel_l2 = match (norm_d == 0.0, norm_r == 0.0) {
            (true, _) => Some(0.0),
            (false, true) => None,
            (false, false) => Some(norm_d / norm_r),
        };
        out.cosine = Some(match (self.rr == 0.0, self.tt == 0.0) {
            (true, true) => 1.0,
            (true, false) | (false, true) => 0.0,
            (false, false) => self.rt / (self.rr.sqrt() * self.tt.sqrt()),
        });
        out.log_norm_ratio = (norm_r > 0.0 && norm_t > 0.0).then(|| (norm_t / norm_r).ln());
    }
}

/// Largest element, ties to the lowest index; none where any element is NaN.
fn top1(out: &mut Numbers, pairs: impl Iterator<Item = (Element, Element)>) {
    let mut reference = Top::default();
    let mut stage = Top::default();
    for (i, (r, t)) in pairs.enumerate() {
        reference.see(i, r.value);
        stage.see(i, t.value);
    }
    out.reference_top1 = reference.index();
    out.stage_top1 = stage.index();
    out.reference_tie = reference.tie();
    out.stage_tie = stage.tie();
    out.reference_margin = reference.margin();
}

#[derive(Default)]
struct Top {
    best: Option<(usize, f64)>,
    second: Option<f64>,
    nan: bool,
}

impl Top {
    fn see(&mut self, i: usize, v: f64) {
        self.nan |= v.is_nan();
        match self.best {
            Some((_, best)) if v <= best => {
                self.second = Some(self.second.map_or(v, |s| s.max(v)));
            }
            _ => {
                self.second = self.best.map(|(_, best)| best);
                self.best = Some((i, v));
            }
        }
    }

    fn index(&self) -> Option<u32> {
        self.best
            .filter(|_| !self.nan)
            .and_then(|(i, _)| u32::try_from(i).ok())
    }

    fn tie(&self) -> bool {
        !self.nan && self.best.is_some_and(|(_, b)| self.second == Some(b))
    }

    fn margin(&self) -> Option<f64> {
        match (self.best, self.second) {
            (Some((_, best)), Some(second)) if !self.nan => Some(best - second),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXACT: Tolerance = Tolerance {
        rtol: 0.0,
        atol: 0.0,
    };

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn compare(r: &[f32], t: &[f32], tolerance: Tolerance) -> Numbers {
        let (r, t, n) = (f32s(r), f32s(t), r.len());
        compare_item(n, (Datatype::Fp32, &r), (Datatype::Fp32, &t), tolerance)
    }

    #[test]
    fn huge_values_do_not_fool_the_cosine() {
        // Polygraphy 0.53 reports 1.0 here.
        let n = compare(&[1e20, 1e20], &[1e20, 0.0], EXACT);
        assert!((n.cosine.unwrap() - std::f64::consts::FRAC_1_SQRT_2).abs() < 1e-12);
        let big = |v: [f64; 2]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (r, t) = (big([1e300, 1e300]), big([1e300, -1e300]));
        let n = compare_item(2, (Datatype::Fp64, &r), (Datatype::Fp64, &t), EXACT);
        assert!(n.cosine.unwrap().abs() < 1e-12);
        assert!((n.rel_l2.unwrap() - 2f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn neighbours_are_one_ulp_apart_across_zero_and_types() {
        let up = f32::from_bits(1.0f32.to_bits() + 1);
        assert_eq!(compare(&[1.0], &[up], EXACT).max_ulp, Some(1));
        assert_eq!(compare(&[0.0], &[-0.0], EXACT).max_ulp, Some(0));
        let tiny = f32::from_bits(1);
        assert_eq!(compare(&[tiny], &[-tiny], EXACT).max_ulp, Some(2));
        assert!(!compare(&[0.0], &[-0.0], EXACT).bits_equal);
        assert_eq!(compare(&[0.0], &[-0.0], EXACT).violations, 0);
        // FP16 against FP32: in FP16's grid.
        let half = half::f16::from_f32(1.0).to_le_bytes();
        let n = compare_item(
            1,
            (Datatype::Fp32, &f32s(&[1.0001])),
            (Datatype::Fp16, &half),
            EXACT,
        );
        assert_eq!((n.max_ulp, n.violations), (Some(0), 1));
    }

    #[test]
    fn integers_are_compared_exactly() {
        let (a, b) = (i64::MAX.to_le_bytes(), (i64::MAX - 1).to_le_bytes());
        let n = compare_item(1, (Datatype::Int64, &a), (Datatype::Int64, &b), EXACT);
        assert_eq!(
            (n.max_abs, n.max_ulp, n.violations),
            (Some(1.0), Some(1), 1)
        );
    }

    #[test]
    fn classes_come_before_numbers() {
        let inf = f32::INFINITY;
        let n = compare(
            &[1.0, f32::NAN, inf, inf],
            &[1.5, f32::NAN, inf, -inf],
            EXACT,
        );
        assert_eq!((n.nonfinite_matched, n.nonfinite_mismatches), (2, 1));
        assert_eq!(
            (n.max_abs, n.worst_index, n.violations),
            (Some(0.5), Some(3), 2)
        );
        assert_eq!(n.stage_top1, None, "NaN is never right");
        let none = compare(&[f32::NAN], &[f32::NAN], EXACT);
        assert_eq!((none.max_abs, none.violations), (None, 0));
    }

    #[test]
    fn ties_go_to_the_lowest_index_and_are_counted() {
        let n = compare(&[1.0, 3.0, 3.0], &[3.0, 1.0, 2.0], EXACT);
        assert_eq!(
            (n.reference_top1, n.reference_tie, n.reference_margin),
            (Some(1), true, Some(0.0))
        );
        assert_eq!((n.stage_top1, n.stage_tie), (Some(0), false));
    }

    #[test]
    fn zeros_have_a_direction_only_together() {
        assert_eq!(compare(&[0.0], &[0.0], EXACT).cosine, Some(1.0));
        assert_eq!(compare(&[0.0], &[1.0], EXACT).cosine, Some(0.0));
        assert_eq!(compare(&[0.0], &[1.0], EXACT).rel_l2, None);
    }

    proptest! {
        #[test]
        fn an_item_equals_itself(values in prop::collection::vec(any::<f32>(), 0..50)) {
            let n = compare(&values, &values, EXACT);
            prop_assert!(n.bits_equal);
            prop_assert_eq!(n.violations, 0);
            prop_assert!(n.max_ulp.unwrap_or(0) == 0);
            prop_assert_eq!(n.reference_top1, n.stage_top1);
        }

        #[test]
        fn close_is_asymmetric_in_the_reference(r in -1e3f32..1e3, t in -1e3f32..1e3) {
            let tolerance = Tolerance { rtol: 0.1, atol: 0.01 };
            let n = compare(&[r], &[t], tolerance);
            let d = (f64::from(r) - f64::from(t)).abs();
            prop_assert_eq!(n.violations == 1, d > 0.01 + 0.1 * f64::from(r).abs());
        }
    }
}
