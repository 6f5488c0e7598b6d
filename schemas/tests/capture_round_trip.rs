//! What is written is what is read.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a test may fail loudly, and its numbers are small"
)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{accept, any_exchange, exchange, open_writer, read_all};
use inferdiff_schemas::capture::{
    Capture, CaptureError, Ledger, Projection, WriterOptions, verify,
};
use inferdiff_schemas::digest::input_digest;
use inferdiff_schemas::storage::Disk;
use inferdiff_schemas::{Datatype, Exchange, Tensor};
use proptest::prelude::*;
use ulid::Ulid;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_exchanges_survive_any_checkpoints(
        batches in prop::collection::vec(
            prop::collection::vec(any_exchange(Ulid::from_parts(1, 1)), 1..4), 1..4),
        row_groups in 1usize..4,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = WriterOptions { max_row_groups: row_groups, ..Default::default() };
        let mut writer = open_writer(dir.path(), Ulid::from_parts(1, 1), options);
        let mut ledger = Ledger::default();
        for batch in &batches {
            for e in batch {
                accept(&mut writer, &mut ledger, e.clone());
            }
            writer.checkpoint(&mut ledger).unwrap();
            prop_assert!(ledger.balances());
        }
        writer.close(&mut ledger, "2026-01-01T00:00:01Z".into()).unwrap();
        prop_assert_eq!(ledger.in_flight, 0);
        let mut expected: Vec<_> = batches.into_iter().flatten().collect();
        let mut read = read_all(dir.path());
        // Segments sort by ULID, which within one millisecond is not their order of writing.
        let key = |e: &Exchange| format!("{e:?}");
        expected.sort_by_key(key);
        read.sort_by_key(key);
        prop_assert_eq!(read, expected);
    }
}

#[test]
fn a_growing_segment_is_whole_at_every_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Ulid::generate();
    let mut writer = open_writer(dir.path(), recorder, WriterOptions::default());
    let mut ledger = Ledger::default();
    for seq in 0..10 {
        accept(
            &mut writer,
            &mut ledger,
            exchange(recorder, seq, Bytes::from(vec![7; 5000])),
        );
        writer.checkpoint(&mut ledger).unwrap();
        let all = read_all(dir.path());
        assert_eq!(all.len() as u64, seq + 1);
        let report = verify(&Capture::open(Arc::new(Disk), dir.path()).unwrap()).unwrap();
        assert!(report.ok, "{:?}", report.problems);
    }
}

#[test]
fn payloads_of_every_size_fill_one_row_group() {
    const MIB: usize = 1 << 20;
    let recorder = Ulid::from_parts(1, 1);
    let tensor = |name: usize, bytes: usize| {
        let data: Vec<u8> = (0..bytes).map(|i| (i * 7 + name) as u8).collect();
        let shape = vec![i64::try_from(bytes).unwrap()];
        Tensor::inline(name.to_string(), Datatype::Uint8, shape, data.into()).unwrap()
    };
    // Rows that end a page, rows that share one, and one that is longer than a page may become.
    let sizes: [Option<Vec<usize>>; 12] = [
        None,
        Some(vec![]),
        Some(vec![0]),
        Some(vec![700_000, 0, 700_000]),
        Some(vec![16_383, 16_384, 1]),
        Some(vec![MIB - 4]),
        Some(vec![MIB - 5, 3]),
        None,
        Some(vec![33 * MIB, 33 * MIB, 5]),
        Some(vec![1; 3000]),
        Some(vec![]),
        Some(vec![300_000; 9]),
    ];
    let exchanges: Vec<Exchange> = (0..)
        .zip(&sizes)
        .map(|(seq, sizes)| {
            let sizes = sizes.as_ref();
            let inputs: Option<Vec<Tensor>> =
                sizes.map(|s| s.iter().enumerate().map(|(i, n)| tensor(i, *n)).collect());
            let body = inputs.as_ref().and_then(|i| i.first()?.data.clone());
            Exchange {
                input_digest: inputs.as_deref().map(input_digest),
                response_body: (seq % 2 == 0).then_some(body).flatten(),
                inputs,
                ..exchange(recorder, seq, Bytes::new())
            }
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open_writer(dir.path(), recorder, WriterOptions::default());
    let mut ledger = Ledger::default();
    for e in &exchanges {
        accept(&mut writer, &mut ledger, e.clone());
    }
    writer.close(&mut ledger, String::new()).unwrap();
    // Not by `assert_eq!`: nobody wants to read 70 MB.
    assert!(read_all(dir.path()) == exchanges);
    let capture = Capture::open(Arc::new(Disk), dir.path()).unwrap();
    assert_eq!(capture.segments()[0].row_groups, 1);
    let report = verify(&capture).unwrap();
    assert!(report.ok, "{:?}", report.problems);
}

#[test]
fn inputs_without_a_digest_get_theirs_when_they_are_written() {
    let recorder = Ulid::from_parts(1, 2);
    let data = |i: u8| Bytes::from(vec![i; 200_000]);
    let inputs =
        |i: u8| vec![Tensor::inline("x", Datatype::Uint8, vec![200_000], data(i)).unwrap()];
    let mut exchanges: Vec<Exchange> = (0..9u8)
        .map(|i| Exchange {
            input_digest: None,
            inputs: Some(inputs(i)),
            ..exchange(recorder, i.into(), Bytes::new())
        })
        .collect();
    // One has its own, which stays (as where a tensor was taken out); one was not decoded.
    exchanges[3].input_digest = Some([7; 16]);
    exchanges[5].inputs = None;
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open_writer(dir.path(), recorder, WriterOptions::default());
    let mut ledger = Ledger::default();
    for e in &exchanges {
        accept(&mut writer, &mut ledger, e.clone());
    }
    writer.close(&mut ledger, String::new()).unwrap();
    let digests: Vec<_> = read_all(dir.path())
        .iter()
        .map(|e| e.input_digest)
        .collect();
    let expected: Vec<_> = (0..9u8).map(|i| Some(input_digest(&inputs(i)))).collect();
    for (i, (got, expected)) in digests.iter().zip(expected).enumerate() {
        match i {
            3 => assert_eq!(*got, Some([7; 16])),
            5 => assert_eq!(*got, None),
            _ => assert_eq!(*got, expected, "{i}"),
        }
    }
}

#[test]
fn projections_leave_out_what_they_say_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Ulid::generate();
    let mut writer = open_writer(dir.path(), recorder, WriterOptions::default());
    let mut ledger = Ledger::default();
    accept(
        &mut writer,
        &mut ledger,
        exchange(recorder, 0, Bytes::from_static(b"abc")),
    );
    writer.close(&mut ledger, String::new()).unwrap();
    let capture = Capture::open(Arc::new(Disk), dir.path()).unwrap();
    let read = |p| {
        capture
            .read(&capture.segments()[0], 0, p)
            .unwrap()
            .remove(0)
    };
    let (keys, shapes, full) = (
        read(Projection::Keys),
        read(Projection::Shapes),
        read(Projection::Full),
    );
    assert_eq!(keys.inputs, None);
    assert_eq!(keys.client_request_id, full.client_request_id);
    let shaped = &shapes.inputs.unwrap()[0];
    assert_eq!(
        (shaped.shape.as_slice(), &shaped.data),
        ([1, 3].as_slice(), &None)
    );
    assert_eq!(
        full.inputs.unwrap()[0].data.as_deref(),
        Some(b"abc".as_slice())
    );
}

#[test]
fn a_flipped_bit_is_named_and_its_neighbours_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Ulid::generate();
    let mut writer = open_writer(dir.path(), recorder, WriterOptions::default());
    let mut ledger = Ledger::default();
    for seq in 0..3u8 {
        let payload = Bytes::from(vec![seq + 1; 6000]);
        accept(
            &mut writer,
            &mut ledger,
            exchange(recorder, seq.into(), payload),
        );
        writer.checkpoint(&mut ledger).unwrap();
    }
    writer.close(&mut ledger, String::new()).unwrap();
    let capture = Capture::open(Arc::new(Disk), dir.path()).unwrap();
    let segment = &capture.segments()[0];
    let mut bytes = std::fs::read(&segment.path).unwrap();
    let at = bytes.windows(64).position(|w| w == [2u8; 64]).unwrap();
    bytes[at] ^= 4;
    std::fs::write(&segment.path, bytes).unwrap();
    let report = verify(&capture).unwrap();
    assert!(!report.ok);
    assert!(
        report.problems[0].contains("row group 1"),
        "{:?}",
        report.problems
    );
    assert_eq!(report.rows, 3, "the rows themselves are still read");
}

#[test]
fn a_newer_format_and_a_missing_capture_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Capture::open(Arc::new(Disk), dir.path()).err().unwrap();
    assert!(matches!(missing, CaptureError::NotACapture { .. }));
    std::fs::write(
        dir.path().join("_capture.json"),
        r#"{"format": 99, "shape": "unknown"}"#,
    )
    .unwrap();
    let newer = Capture::open(Arc::new(Disk), dir.path()).err().unwrap();
    assert!(newer.to_string().contains("newer inferdiff"), "{newer}");
    std::fs::write(dir.path().join("_capture.json"), "{").unwrap();
    let broken = Capture::open(Arc::new(Disk), dir.path()).err().unwrap();
    assert!(matches!(broken, CaptureError::Damaged { .. }));
}
