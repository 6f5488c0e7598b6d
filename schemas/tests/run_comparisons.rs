//! Comparisons of a run come back as they were written.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::path::Path;

use inferdiff_schemas::run::comparison::{Comparison, ComparisonRow, Numbers, Outcome};
use inferdiff_schemas::run::{
    ComparisonBuffers, ComparisonColumns, ComparisonReader, ComparisonWriter,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use ulid::Ulid;

fn row(c: &Comparison) -> ComparisonRow<'_> {
    ComparisonRow {
        recorder: c.recorder,
        seq: c.seq,
        item: c.item,
        output: &c.output,
        outcome: c.outcome,
        error: c.error.as_deref(),
        datatype: &c.datatype,
        shape: &c.shape,
        production_equal: c.production_equal,
        rtol: c.rtol,
        atol: c.atol,
        numbers: Numbers {
            elements: c.elements,
            bits_equal: c.bits_equal,
            max_abs: c.max_abs,
            mean_abs: c.mean_abs,
            p50_abs: c.p50_abs,
            p99_abs: c.p99_abs,
            p999_abs: c.p999_abs,
            max_rel: c.max_rel,
            rel_l2: c.rel_l2,
            cosine: c.cosine,
            log_norm_ratio: c.log_norm_ratio,
            max_ulp: c.max_ulp,
            violations: c.violations,
            nonfinite_mismatches: c.nonfinite_mismatches,
            nonfinite_matched: c.nonfinite_matched,
            worst_index: c.worst_index,
            reference_top1: c.reference_top1,
            stage_top1: c.stage_top1,
            reference_margin: c.reference_margin,
            reference_tie: c.reference_tie,
            stage_tie: c.stage_tie,
        },
    }
}

/// Writes them twice, the second time into the memory of the first.
fn written(path: &Path, rows: &[Comparison]) -> Vec<Comparison> {
    let again = path.with_extension("again");
    let mut buffers = ComparisonBuffers::default();
    for path in [path, &again] {
        let mut writer = ComparisonWriter::create(path, buffers).unwrap();
        for c in rows {
            writer.push(&row(c)).unwrap();
        }
        assert!(!path.exists(), "it is there before it is whole");
        buffers = writer.commit().unwrap();
    }
    let bytes = std::fs::read(path).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    assert!(bytes == std::fs::read(again).unwrap());
    ComparisonReader::open(path, ComparisonColumns::All)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// Numbers of which many are the same, as those of a stage that changes nothing.
fn number() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        4 => Just(Some(0.0)),
        1 => Just(Some(-0.0)),
        1 => Just(Some(f64::INFINITY)),
        1 => Just(None),
        1 => any::<f64>().prop_filter("NaN is unequal to itself", |v| !v.is_nan()).prop_map(Some),
    ]
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 1 => 0_u64..5, 1 => any::<u64>()]
}

prop_compose! {
    fn comparison()(
        (seq, item) in (count(), any::<u32>()),
        output in "[a-c]{0,2}",
        outcome in prop::sample::select(&Outcome::ALL[..]),
        error in prop::option::of(".{0,8}"),
        shape in prop::collection::vec(0_i64..4, 0..3),
        numbers in prop::collection::vec(number(), 10),
        counts in prop::collection::vec(count(), 6),
        (worst_index, max_ulp) in (prop::option::of(count()), prop::option::of(count())),
        tops in prop::array::uniform2(prop::option::of(0_u32..3)),
        flags in prop::array::uniform3(any::<bool>()),
        production_equal in prop::option::of(any::<bool>()),
    ) -> Comparison {
        Comparison {
            recorder: Ulid::from_parts(seq % 3, 7),
            seq,
            item,
            output: output.into(),
            outcome,
            error,
            datatype: "FP32".into(),
            shape: shape.into(),
            elements: counts[0],
            bits_equal: flags[0],
            production_equal,
            max_abs: numbers[0],
            mean_abs: numbers[1],
            p50_abs: numbers[2],
            p99_abs: numbers[3],
            p999_abs: numbers[4],
            max_rel: numbers[5],
            rel_l2: numbers[6],
            cosine: numbers[7],
            log_norm_ratio: numbers[8],
            max_ulp,
            violations: counts[1],
            rtol: numbers[9].unwrap_or(0.25),
            atol: 1e-5,
            nonfinite_mismatches: counts[2],
            nonfinite_matched: counts[3],
            worst_index,
            reference_top1: tops[0],
            stage_top1: tops[1],
            reference_margin: numbers[1],
            reference_tie: flags[1],
            stage_tie: flags[2],
        }
    }
}

/// Zeros of both signs are equal, their bits are not.
fn bits(rows: &[Comparison]) -> String {
    format!("{rows:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_rows_come_back(rows in prop::collection::vec(comparison(), 0..40)) {
        let dir = tempfile::tempdir().unwrap();
        let read = written(&dir.path().join("a.parquet"), &rows);
        prop_assert_eq!(bits(&read), bits(&rows));
    }

    #[test]
    fn what_is_the_same_in_every_row_comes_back(
        one in comparison(),
        (count, other, at) in (1_usize..3000, comparison(), 0_usize..6000),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = vec![one; count];
        // In half of the cases one row is another.
        if let Some(row) = rows.get_mut(at) {
            *row = other;
        }
        prop_assert!(bits(&written(&dir.path().join("a.parquet"), &rows)) == bits(&rows));
    }
}

#[test]
fn long_errors_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let one = comparison().new_tree(&mut runner).unwrap().current();
    let failed = |seq: u64| Comparison {
        seq,
        error: Some(format!("{seq} failed ").repeat(100_000)),
        ..one.clone()
    };
    let rows: Vec<_> = (0..20).map(failed).collect();
    let path = dir.path().join("a.parquet");
    assert!(bits(&written(&path, &rows)) == bits(&rows));
}

#[test]
fn more_rows_than_a_row_group_holds_come_back() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let one = comparison().new_tree(&mut runner).unwrap().current();
    for count in [1024, 16_384, 40_000] {
        let dir = tempfile::tempdir().unwrap();
        let rows: Vec<_> = (0..count)
            .map(|seq| Comparison { seq, ..one.clone() })
            .collect();
        assert!(bits(&written(&dir.path().join("a.parquet"), &rows)) == bits(&rows));
    }
}
