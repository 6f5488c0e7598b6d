//! The kernels against the same definitions written down once more, element by element and without
//! any care for speed.

use half::{bf16, f16};
use inferdiff_schemas::Datatype;
use inferdiff_schemas::run::comparison::Numbers;
use inferdiff_schemas::run::ladder::Tolerance;
use proptest::prelude::*;

use super::{Comparer, Level};

/// f64 and, for integers, the exact value.
type Value = (f64, Option<i128>);

fn values(datatype: Datatype, data: &[u8]) -> Vec<Value> {
    let size = datatype.size().unwrap();
    let integer = |v: i128| (v as f64, Some(v));
    data.chunks_exact(size)
        .map(|b| match datatype {
            Datatype::Bool => integer((b[0] != 0).into()),
            Datatype::Uint8 => integer(b[0].into()),
            Datatype::Uint16 => integer(u16::from_le_bytes(b.try_into().unwrap()).into()),
            Datatype::Uint32 => integer(u32::from_le_bytes(b.try_into().unwrap()).into()),
            Datatype::Uint64 => integer(u64::from_le_bytes(b.try_into().unwrap()).into()),
            Datatype::Int8 => integer(b[0].cast_signed().into()),
            Datatype::Int16 => integer(i16::from_le_bytes(b.try_into().unwrap()).into()),
            Datatype::Int32 => integer(i32::from_le_bytes(b.try_into().unwrap()).into()),
            Datatype::Int64 => integer(i64::from_le_bytes(b.try_into().unwrap()).into()),
            Datatype::Fp16 => (f16::from_le_bytes(b.try_into().unwrap()).to_f64(), None),
            Datatype::Bf16 => (bf16::from_le_bytes(b.try_into().unwrap()).to_f64(), None),
            Datatype::Fp32 => (f32::from_le_bytes(b.try_into().unwrap()).into(), None),
            Datatype::Fp64 => (f64::from_le_bytes(b.try_into().unwrap()), None),
            Datatype::Bytes => unreachable!("not numeric"),
        })
        .collect()
}

/// Steps between two finite values on the grid of `datatype`, by counting places from zero.
fn steps(datatype: Datatype, r: Value, t: Value) -> u64 {
    let place = |(value, exact): Value| -> i128 {
        let magnitude: i128 = match datatype {
            Datatype::Fp64 => value.abs().to_bits().into(),
            Datatype::Fp32 => (value.abs() as f32).to_bits().into(),
            Datatype::Fp16 => f16::from_f64(value.abs()).to_bits().into(),
            Datatype::Bf16 => bf16::from_f64(value.abs()).to_bits().into(),
            _ => return exact.unwrap_or(value as i128),
        };
        if value < 0.0 { -magnitude } else { magnitude }
    };
    u64::try_from((place(r) - place(t)).unsigned_abs()).unwrap_or(u64::MAX)
}

fn significant_bits(datatype: Datatype) -> u32 {
    match datatype {
        Datatype::Bf16 => 8,
        Datatype::Fp16 => 11,
        Datatype::Fp32 => 24,
        Datatype::Fp64 => 53,
        _ => 64,
    }
}

fn top(values: &[Value]) -> (Option<u32>, bool, Option<f64>) {
    if values.is_empty() || values.iter().any(|v| v.0.is_nan()) {
        return (None, false, None);
    }
    let mut sorted: Vec<f64> = values.iter().map(|v| v.0).collect();
    sorted.sort_by(|a, b| b.partial_cmp(a).unwrap());
    let index = values.iter().position(|v| v.0 == sorted[0]).unwrap();
    let tie = sorted.len() > 1 && sorted[1] == sorted[0];
    let margin = (sorted.len() > 1).then(|| if tie { 0.0 } else { sorted[0] - sorted[1] });
    (u32::try_from(index).ok(), tie, margin)
}

/// Percentiles are exact here.
fn plain(reference: (Datatype, &[u8]), stage: (Datatype, &[u8]), tolerance: Tolerance) -> Numbers {
    let (r, t) = (values(reference.0, reference.1), values(stage.0, stage.1));
    let grid = if significant_bits(stage.0) < significant_bits(reference.0) {
        stage.0
    } else {
        reference.0
    };
    let small = match grid {
        Datatype::Fp64 => 2f64.powi(-42),
        Datatype::Fp32 => 2f64.powi(-14),
        Datatype::Fp16 => 2f64.powi(-11),
        Datatype::Bf16 => 2f64.powi(-8),
        _ => 1.0,
    };
    let mut out = Numbers {
        elements: r.len() as u64,
        bits_equal: reference == stage,
        ..Numbers::default()
    };
    (out.reference_top1, out.reference_tie, out.reference_margin) = top(&r);
    (out.stage_top1, out.stage_tie, _) = top(&t);
    let mut finite = Vec::new();
    for (i, (r, t)) in r.iter().zip(&t).enumerate() {
        if r.0.is_finite() && t.0.is_finite() {
            finite.push((i as u64, *r, *t));
        } else if r.0 == t.0 || r.0.is_nan() && t.0.is_nan() {
            out.nonfinite_matched += 1;
        } else {
            out.nonfinite_mismatches += 1;
            out.worst_index.get_or_insert(i as u64);
        }
    }
    out.violations = out.nonfinite_mismatches;
    if finite.is_empty() {
        return out;
    }
    let difference = |r: Value, t: Value| match (r.1, t.1) {
        (Some(r), Some(t)) => (r - t).unsigned_abs() as f64,
        _ => (r.0 - t.0).abs(),
    };
    let mut d: Vec<f64> = finite.iter().map(|(_, r, t)| difference(*r, *t)).collect();
    let largest = d.iter().copied().fold(0.0, f64::max);
    if out.worst_index.is_none() && largest > 0.0 {
        out.worst_index = d.iter().position(|v| *v == largest).map(|at| finite[at].0);
    }
    let n = d.len() as f64;
    out.max_abs = Some(largest);
    out.mean_abs = Some(d.iter().sum::<f64>() / n);
    let relative = finite.iter().zip(&d);
    out.max_rel = relative
        .map(|((_, r, _), d)| d / r.0.abs().max(small))
        .reduce(f64::max);
    let beyond = finite
        .iter()
        .zip(&d)
        .filter(|((_, r, _), d)| **d > 0.0 && **d > tolerance.atol + tolerance.rtol * r.0.abs());
    out.violations += beyond.count() as u64;
    out.max_ulp = finite.iter().map(|(_, r, t)| steps(grid, *r, *t)).max();
    let largest_of = |side: fn(&(u64, Value, Value)) -> f64| {
        let most = finite
            .iter()
            .map(side)
            .fold(0.0, |m: f64, v| m.max(v.abs()));
        if most > 0.0 { most } else { 1.0 }
    };
    let (scale_r, scale_t) = (largest_of(|p| p.1.0), largest_of(|p| p.2.0));
    let scale_d = scale_r.max(scale_t);
    let sum = |f: &dyn Fn(f64, f64, f64) -> f64| -> f64 {
        let all = finite.iter().zip(&d);
        all.map(|((_, r, t), d)| f(r.0 / scale_r, t.0 / scale_t, d / scale_d))
            .sum()
    };
    let norm_d = sum(&|_, _, d| d * d).sqrt() * scale_d;
    let (unit_r, unit_t) = (sum(&|r, _, _| r * r).sqrt(), sum(&|_, t, _| t * t).sqrt());
    out.rel_l2 = match (norm_d, unit_r) {
        (0.0, _) => Some(0.0),
        (_, 0.0) => None,
        _ => Some(norm_d / (unit_r * scale_r)),
    };
    out.cosine = Some(match (unit_r, unit_t) {
        (0.0, 0.0) => 1.0,
        (0.0, _) | (_, 0.0) => 0.0,
        _ => sum(&|r, t, _| r * t) / (unit_r * unit_t),
    });
    if unit_r > 0.0 && unit_t > 0.0 {
        out.log_norm_ratio = Some(((unit_t * scale_t) / (unit_r * scale_r)).ln());
    }
    d.sort_by(f64::total_cmp);
    let rank = |per_mille: usize| Some(d[(d.len() * per_mille).div_ceil(1000).max(1) - 1]);
    (out.p50_abs, out.p99_abs, out.p999_abs) = (rank(500), rank(990), rank(999));
    out
}

/// Sums in another order: close, and exact where nothing was summed.
fn agrees(name: &str, got: Option<f64>, wanted: Option<f64>) -> Result<(), TestCaseError> {
    let close = match (got, wanted) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a == b
                || a.is_nan() && b.is_nan()
                || (a - b).abs() <= 1e-11 * a.abs().max(b.abs()).max(1e-3)
        }
        _ => false,
    };
    prop_assert!(close, "{name}: {got:?}, plainly {wanted:?}");
    Ok(())
}

fn within_an_eighth(name: &str, got: Option<f64>, exact: Option<f64>) -> Result<(), TestCaseError> {
    let close = match (got, exact) {
        (None, None) => true,
        // Below the normal numbers of FP64 buckets are wider than an eighth of an octave.
        (Some(a), Some(b)) => a == b || a.max(b) < 1e-300 || (a / b).log2().abs() <= 0.125,
        _ => false,
    };
    prop_assert!(close, "{name}: {got:?}, plainly {exact:?}");
    Ok(())
}

fn check(
    reference: (Datatype, &[u8]),
    stage: (Datatype, &[u8]),
    tolerance: Tolerance,
) -> Result<(), TestCaseError> {
    let wanted = plain(reference, stage, tolerance);
    let elements = usize::try_from(wanted.elements).unwrap();
    let mut first = None;
    for level in Level::available() {
        let mut comparer = Comparer::at(level);
        let got = comparer.item(elements, reference, stage, tolerance);
        let again = comparer.item(elements, reference, stage, tolerance);
        // Debug text, because NaN equals itself in it.
        let text = format!("{got:?}");
        prop_assert_eq!(&text, &format!("{again:?}"), "buffers remember");
        let first = first.get_or_insert_with(|| text.clone());
        prop_assert_eq!(&text, &*first, "{} differs", level.name());
        agrees("mean_abs", got.mean_abs, wanted.mean_abs)?;
        agrees("rel_l2", got.rel_l2, wanted.rel_l2)?;
        agrees("cosine", got.cosine, wanted.cosine)?;
        agrees("log_norm_ratio", got.log_norm_ratio, wanted.log_norm_ratio)?;
        within_an_eighth("p50", got.p50_abs, wanted.p50_abs)?;
        within_an_eighth("p99", got.p99_abs, wanted.p99_abs)?;
        within_an_eighth("p999", got.p999_abs, wanted.p999_abs)?;
        let exact = Numbers {
            mean_abs: got.mean_abs,
            rel_l2: got.rel_l2,
            cosine: got.cosine,
            log_norm_ratio: got.log_norm_ratio,
            p50_abs: got.p50_abs,
            p99_abs: got.p99_abs,
            p999_abs: got.p999_abs,
            ..wanted
        };
        prop_assert_eq!(text, format!("{exact:?}"), "against the plain one");
    }
    Ok(())
}

const NUMERIC: [Datatype; 13] = [
    Datatype::Bool,
    Datatype::Uint8,
    Datatype::Uint16,
    Datatype::Uint32,
    Datatype::Uint64,
    Datatype::Int8,
    Datatype::Int16,
    Datatype::Int32,
    Datatype::Int64,
    Datatype::Fp16,
    Datatype::Bf16,
    Datatype::Fp32,
    Datatype::Fp64,
];

/// Any bits: NaN of every payload, infinities, denormals and huge values come by themselves.
fn any_bits(n: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), n * 8)
}

/// Ordinary values in every datatype, as a model gives them.
fn ordinary(datatype: Datatype, values: &[f64]) -> Vec<u8> {
    let each = values.iter();
    match datatype {
        Datatype::Fp16 => each.flat_map(|v| f16::from_f64(*v).to_le_bytes()).collect(),
        Datatype::Bf16 => each
            .flat_map(|v| bf16::from_f64(*v).to_le_bytes())
            .collect(),
        Datatype::Fp32 => each.flat_map(|v| (*v as f32).to_le_bytes()).collect(),
        Datatype::Fp64 => each.flat_map(|v| v.to_le_bytes()).collect(),
        _ => {
            let size = datatype.size().unwrap();
            let bytes = |v: &f64| ((v * 100.0) as i64).to_le_bytes()[..size].to_vec();
            each.flat_map(bytes).collect()
        }
    }
}

fn tolerances() -> impl Strategy<Value = Tolerance> {
    (
        prop_oneof![Just(0.0), Just(1e-3)],
        prop_oneof![Just(0.0), Just(1e-5), Just(1.0)],
    )
        .prop_map(|(rtol, atol)| Tolerance { rtol, atol })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bits_of_any_two_datatypes(
        (r, t) in (0usize..1100).prop_flat_map(|n| (any_bits(n), any_bits(n))),
        reference in prop::sample::select(&NUMERIC[..]),
        stage in prop::sample::select(&NUMERIC[..]),
        same in any::<bool>(),
        tolerance in tolerances(),
    ) {
        let stage = if same { reference } else { stage };
        let n = r.len() / 8;
        let cut = |d: Datatype, bytes: &'_ [u8]| bytes[..n * d.size().unwrap()].to_vec();
        check((reference, &cut(reference, &r)), (stage, &cut(stage, &t)), tolerance)?;
    }

    #[test]
    fn values_that_lie_close(
        pairs in prop::collection::vec((-4.0..4.0f64, -1e-3..1e-3f64), 0..1100),
        holes in prop::collection::vec((0usize..1100, prop_oneof![
            Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(0.0), Just(-0.0),
            Just(1e-42), Just(5e-324),
        ], any::<bool>(), any::<bool>()), 0..6),
        reference in prop::sample::select(&NUMERIC[..]),
        stage in prop::sample::select(&NUMERIC[..]),
        same in any::<bool>(),
        tolerance in tolerances(),
    ) {
        let stage = if same { reference } else { stage };
        let mut r: Vec<f64> = pairs.iter().map(|p| p.0).collect();
        let mut t: Vec<f64> = pairs.iter().map(|p| p.0 + p.1).collect();
        for (at, value, in_r, in_t) in holes.into_iter().filter(|h| h.0 < pairs.len()) {
            if in_r { r[at] = value; }
            if in_t { t[at] = value; }
        }
        let (r, t) = (ordinary(reference, &r), ordinary(stage, &t));
        check((reference, &r), (stage, &t), tolerance)?;
        check((reference, &r), (reference, &r), tolerance)?;
    }
}

#[test]
fn every_length_of_the_last_step_and_every_datatype() {
    let tolerance = Tolerance {
        rtol: 1e-3,
        atol: 1e-5,
    };
    for datatype in NUMERIC {
        for n in (0..40).chain(500..530).chain([1023, 1024, 1025]) {
            let r: Vec<f64> = (0..n)
                .map(|i| f64::from(i * 7919 % 1000) / 100.0 - 5.0)
                .collect();
            let t: Vec<f64> = r.iter().map(|v| v * 1.01 + 1e-4).collect();
            let (r, t) = (ordinary(datatype, &r), ordinary(datatype, &t));
            check((datatype, &r), (datatype, &t), tolerance).unwrap();
        }
    }
}

#[test]
fn every_half_precision_value_widens_as_the_library_does() {
    let tolerance = Tolerance {
        rtol: 0.0,
        atol: 0.0,
    };
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let reversed: Vec<u8> = (0..=u16::MAX).rev().flat_map(u16::to_le_bytes).collect();
    for datatype in [Datatype::Fp16, Datatype::Bf16] {
        check((datatype, &all), (datatype, &reversed), tolerance).unwrap();
    }
}
