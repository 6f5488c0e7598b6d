//! Answers of a run come back as they were kept.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail loudly, and its numbers are small"
)]

mod common;

use std::path::Path;

use bytes::Bytes;
use common::any_exchange;
use inferdiff_schemas::run::outputs::{OutputBuffers, OutputReader, OutputWriter, StoredAnswer};
use inferdiff_schemas::{Datatype, Tensor};
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use proptest::prelude::*;
use ulid::Ulid;

/// Writes them twice, the second time into the memory of the first.
fn written(path: &Path, answers: &[StoredAnswer]) -> Vec<StoredAnswer> {
    let again = path.with_extension("again");
    let mut buffers = OutputBuffers::default();
    for path in [path, &again] {
        let mut writer = OutputWriter::create(path, buffers).unwrap();
        for answer in answers {
            writer.push(answer.clone()).unwrap();
        }
        assert!(!path.exists(), "it is there before it is whole");
        buffers = writer.commit().unwrap();
    }
    let bytes = std::fs::read(path).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    assert!(bytes == std::fs::read(again).unwrap());
    OutputReader::open(path)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn answer(seq: u64, bytes: usize) -> StoredAnswer {
    let data: Vec<u8> = (0..bytes).map(|i| (i as u64 * 7 + seq) as u8).collect();
    let shape = vec![bytes as i64];
    StoredAnswer {
        recorder: Ulid::from_parts(1, 1),
        seq,
        answer: Ok(vec![
            Tensor::inline("y", Datatype::Uint8, shape, Bytes::from(data)).unwrap(),
        ]),
    }
}

/// A tensor of rank 0 to 3, of few kinds: neighbours resemble each other in all or in a part.
fn described() -> impl Strategy<Value = Tensor> {
    let shape = prop::collection::vec(0..3_i64, 0..4);
    let parameters = prop::option::of(Just("{}".to_owned()));
    ("[ab]", 0..2_u32, shape, parameters).prop_map(|(name, message, shape, parameters)| {
        let elements = shape.iter().product::<i64>();
        let data = Bytes::from(vec![7; usize::try_from(elements).unwrap()]);
        Tensor {
            message,
            parameters,
            ..Tensor::inline(name, Datatype::Uint8, shape, data).unwrap()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn answers_come_back_whatever_repeats_in_them(
        runs in prop::collection::vec(
            (prop::option::of(prop::collection::vec(described(), 0..3)), 1..5_usize),
            0..20,
        ),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let rows = runs.iter().flat_map(|(tensors, times)| std::iter::repeat_n(tensors, *times));
        let answers: Vec<_> = rows.zip(0..).map(|(tensors, seq)| StoredAnswer {
            answer: tensors.clone().ok_or_else(|| "no".to_owned()),
            ..answer(seq, 0)
        }).collect();
        prop_assert_eq!(written(&dir.path().join("a.parquet"), &answers), answers);
    }

    #[test]
    fn any_answers_come_back(
        exchanges in prop::collection::vec(any_exchange(Ulid::from_parts(1, 1)), 0..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let answers: Vec<StoredAnswer> = exchanges.into_iter().map(|e| StoredAnswer {
            recorder: e.recorder,
            seq: e.seq,
            answer: e.outputs.ok_or_else(|| e.error.unwrap_or_default()),
        }).collect();
        prop_assert_eq!(written(&dir.path().join("a.parquet"), &answers), answers);
    }

    #[test]
    fn answers_of_any_size_come_back(
        sizes in prop::collection::vec(prop_oneof![0_usize..300, 10_000..40_000_usize, 200_000..900_000_usize], 1..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let answers: Vec<_> = sizes.iter().zip(0..).map(|(&n, seq)| answer(seq, n)).collect();
        prop_assert_eq!(written(&dir.path().join("a.parquet"), &answers), answers);
    }
}

#[test]
fn more_answers_than_a_row_group_holds_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let answers: Vec<_> = (0..70_000).map(|seq| answer(seq, 8)).collect();
    assert!(written(&dir.path().join("a.parquet"), &answers) == answers);
}

#[test]
fn answers_of_several_recorders_and_long_errors_come_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = |seq: u64| Ulid::from_parts(seq / 7 % 3, 1);
    let mut answers: Vec<_> = (0..100)
        .map(|seq| StoredAnswer {
            recorder: recorder(seq),
            ..answer(seq, 40)
        })
        .collect();
    for i in [0, 3, 50, 51, 99] {
        answers[i].answer = Err(format!("{i} failed ").repeat(200_000));
    }
    assert!(written(&dir.path().join("a.parquet"), &answers) == answers);
}

/// They come back, and are so many row groups at least.
fn several_row_groups(least: usize, answers: &[StoredAnswer]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    assert!(written(&path, answers) == answers);
    let file = std::fs::File::open(path).unwrap();
    let groups = SerializedFileReader::new(file).unwrap().num_row_groups();
    assert!((least..=12).contains(&groups), "{groups}");
}

#[test]
fn long_texts_end_a_row_group_also_where_they_repeat() {
    let text = "{}".repeat(200_000);
    let with = |seq: u64| {
        let mut row = answer(seq, 8);
        row.answer.as_mut().unwrap()[0].parameters = Some(text.clone());
        row
    };
    several_row_groups(4, &(0..60).map(with).collect::<Vec<_>>());
    let failed = |seq| StoredAnswer {
        answer: Err(text.clone()),
        ..answer(seq, 0)
    };
    several_row_groups(4, &(0..60).map(failed).collect::<Vec<_>>());
}

#[test]
fn many_tensors_end_a_row_group() {
    let many = |seq| StoredAnswer {
        answer: Ok(vec![answer(seq, 4).answer.unwrap().remove(0); 1000]),
        ..answer(seq, 0)
    };
    several_row_groups(2, &(0..600).map(many).collect::<Vec<_>>());
}

#[test]
fn a_writer_that_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer =
        OutputWriter::create(&dir.path().join("a.parquet"), OutputBuffers::default()).unwrap();
    writer.push(answer(0, 1 << 20)).unwrap();
    drop(writer);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
