//! What a kill leaves behind is cut back to the last checkpoint, at whatever byte it came.

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

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::{accept, capture_meta, exchange, open_writer, read_all, recorder_meta};
use inferdiff_schemas::capture::{Capture, CaptureWriter, Layout, Ledger, WriterOptions, verify};
use inferdiff_schemas::storage::Disk;
use ulid::Ulid;

/// A complete capture as a payload: its own segment, magic and footer included.
fn parquet_payload() -> Bytes {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Ulid::generate();
    let mut writer = open_writer(dir.path(), recorder, WriterOptions::default());
    let mut ledger = Ledger::default();
    accept(
        &mut writer,
        &mut ledger,
        exchange(recorder, 0, Bytes::from_static(b"inner")),
    );
    writer.close(&mut ledger, String::new()).unwrap();
    let capture = Capture::open(Arc::new(Disk), dir.path()).unwrap();
    std::fs::read(&capture.segments()[0].path).unwrap().into()
}

/// Writes `n` checkpoints of one row, returns the growing file's bytes and the length of the file
/// after each checkpoint. The writer is leaked: as after a kill, nothing is sealed.
fn growing(dir: &Path, recorder: Ulid, n: u64) -> (Ulid, Vec<u8>, Vec<usize>) {
    let payload = parquet_payload();
    let mut writer = open_writer(dir, recorder, WriterOptions::default());
    let mut ledger = Ledger::default();
    let mut lengths = Vec::new();
    for seq in 0..n {
        accept(
            &mut writer,
            &mut ledger,
            exchange(recorder, seq, payload.clone()),
        );
        writer.checkpoint(&mut ledger).unwrap();
        let capture = Capture::open(Arc::new(Disk), dir).unwrap();
        lengths.push(usize::try_from(capture.segments()[0].bytes).unwrap());
    }
    let capture = Capture::open(Arc::new(Disk), dir).unwrap();
    let segment = &capture.segments()[0];
    let bytes = std::fs::read(&segment.path).unwrap();
    (segment.id, bytes, lengths)
}

/// Opens the capture as a new recorder would, which recovers.
fn recover(dir: &Path) -> Vec<inferdiff_schemas::capture::Recovered> {
    let meta = recorder_meta(Ulid::generate());
    let options = WriterOptions::default();
    let (writer, recovered) =
        CaptureWriter::open(Arc::new(Disk), dir, capture_meta(), meta, options).unwrap();
    writer.close(&mut Ledger::default(), "now".into()).unwrap();
    recovered
}

/// Recovers the first `cut` bytes and returns the sequence numbers that came back.
fn recover_cut(segment: Ulid, bytes: &[u8], cut: usize) -> Vec<u64> {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    std::fs::create_dir_all(layout.recorders()).unwrap();
    std::fs::write(layout.meta(), serde_json::to_vec(&capture_meta()).unwrap()).unwrap();
    std::fs::write(layout.open(segment), &bytes[..cut]).unwrap();
    recover(dir.path());
    read_all(dir.path()).iter().map(|e| e.seq).collect()
}

#[test]
fn a_segment_cut_anywhere_comes_back_to_its_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (segment, bytes, lengths) = growing(dir.path(), Ulid::generate(), 3);
    // Every byte around the checkpoints' borders, and a stride through the rest.
    let near = |cut: usize| lengths.iter().any(|&l| cut.abs_diff(l) <= 24);
    for cut in (0..=bytes.len()).filter(|&c| near(c) || c % 257 == 0 || c < 8) {
        let whole = lengths.iter().filter(|&&l| l <= cut).count() as u64;
        let expected: Vec<u64> = (0..whole).collect();
        assert_eq!(
            recover_cut(segment, &bytes, cut),
            expected,
            "cut at {cut} of {lengths:?}"
        );
    }
}

#[test]
fn a_payload_that_is_a_segment_itself_does_not_fool_recovery() {
    let dir = tempfile::tempdir().unwrap();
    let (segment, bytes, lengths) = growing(dir.path(), Ulid::generate(), 2);
    // Cut right behind the inner file's footer, inside the second row group: the bytes end with a
    // perfectly valid footer that is not ours.
    let magic = |w: &[u8]| w == b"PAR1";
    let inner = bytes[lengths[0]..].windows(4).rposition(magic).unwrap();
    let last_inner = bytes[lengths[0]..lengths[0] + inner]
        .windows(4)
        .rposition(magic)
        .unwrap()
        + 4
        + lengths[0];
    assert!(last_inner < lengths[1]);
    assert_eq!(recover_cut(segment, &bytes, last_inner), [0]);
}

#[test]
fn a_live_neighbour_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Ulid::generate();
    let mut writer = open_writer(dir.path(), recorder, WriterOptions::default());
    let mut ledger = Ledger::default();
    accept(
        &mut writer,
        &mut ledger,
        exchange(recorder, 0, Bytes::from_static(b"a")),
    );
    writer.checkpoint(&mut ledger).unwrap();
    assert_eq!(recover(dir.path()), []);
    accept(
        &mut writer,
        &mut ledger,
        exchange(recorder, 1, Bytes::from_static(b"b")),
    );
    writer.close(&mut ledger, "now".into()).unwrap();
    let report = verify(&Capture::open(Arc::new(Disk), dir.path()).unwrap()).unwrap();
    assert!(report.ok, "{:?}", report.problems);
    assert_eq!(report.exchanges, 2);
}

#[test]
fn a_crashed_recorder_gets_the_books_of_its_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Ulid::generate();
    let mut writer = open_writer(dir.path(), recorder, WriterOptions::default());
    let mut ledger = Ledger::default();
    accept(
        &mut writer,
        &mut ledger,
        exchange(recorder, 0, Bytes::from_static(b"a")),
    );
    writer.checkpoint(&mut ledger).unwrap();
    let lock = Layout::new(dir.path()).recorder_lock(recorder);
    drop(writer); // The locks go, the files stay: as after a kill.
    assert!(lock.exists());
    let recovered = recover(dir.path());
    assert_eq!((recovered[0].rows, recovered[0].action), (1, "sealed"));
    let capture = Capture::open(Arc::new(Disk), dir.path()).unwrap();
    let report = verify(&capture).unwrap();
    assert!(report.ok, "{:?}", report.problems);
    let crashed = report
        .recorders
        .iter()
        .find(|b| b.recorder == recorder.to_string())
        .unwrap();
    assert_eq!(
        (crashed.state, crashed.ledger.recorded, crashed.on_disk),
        ("crashed", 1, 1)
    );
}
