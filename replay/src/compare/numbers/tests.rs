//! Values that are easy to get wrong, one by one.

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
    Comparer::default().item(n, (Datatype::Fp32, &r), (Datatype::Fp32, &t), tolerance)
}

#[test]
fn huge_values_do_not_fool_the_cosine() {
    // Polygraphy 0.53 reports 1.0 here.
    let n = compare(&[1e20, 1e20], &[1e20, 0.0], EXACT);
    assert!((n.cosine.unwrap() - std::f64::consts::FRAC_1_SQRT_2).abs() < 1e-12);
    let big = |v: [f64; 2]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let (r, t) = (big([1e300, 1e300]), big([1e300, -1e300]));
    let n = Comparer::default().item(2, (Datatype::Fp64, &r), (Datatype::Fp64, &t), EXACT);
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
    let n = Comparer::default().item(
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
    let n = Comparer::default().item(1, (Datatype::Int64, &a), (Datatype::Int64, &b), EXACT);
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
