//! Encrypted captures: footer and every column, merged, recovered, damaged, under the wrong key.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail loudly, and its numbers are small"
)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use common::{accept, exchange, open_writer, open_writer_on};
use inferdiff_schemas::Exchange;
use inferdiff_schemas::capture::{
    Capture, CaptureError, CaptureKey, Ledger, MergeOptions, Projection, Report, Retention, Upkeep,
    WriterOptions, verify,
};
use inferdiff_schemas::storage::{Disk, Faulty, Storage};
use parquet::file::column_crypto_metadata::ColumnCryptoMetaData;
use ulid::Ulid;

const CANARY: &[u8] = b"canary-52f1 canary-52f1 canary-52f1";

fn key(byte: u8) -> CaptureKey {
    CaptureKey::new(vec![byte; 32]).unwrap()
}

fn options() -> WriterOptions {
    WriterOptions {
        encryption: Some(key(7)),
        ..WriterOptions::default()
    }
}

/// `checkpoints` checkpoints of two exchanges; what was sent.
fn record(dir: &Path, checkpoints: u64) -> Vec<Exchange> {
    let recorder = Ulid::generate();
    let mut writer = open_writer(dir, recorder, options());
    let mut ledger = Ledger::default();
    let mut sent = Vec::new();
    for seq in 0..2 * checkpoints {
        let e = exchange(recorder, seq, Bytes::from(CANARY.repeat(seq as usize + 1)));
        sent.push(e.clone());
        accept(&mut writer, &mut ledger, e);
        if seq % 2 == 1 {
            writer.checkpoint(&mut ledger).unwrap();
        }
    }
    writer.close(&mut ledger, "now".into()).unwrap();
    assert_eq!(ledger.recorded, 2 * checkpoints);
    sent
}

fn open(dir: &Path) -> Capture {
    Capture::open_with_key(Arc::new(Disk), dir, Some(&key(7))).unwrap()
}

fn rows(capture: &Capture) -> Vec<Exchange> {
    let mut all = Vec::new();
    for segment in capture.segments() {
        for group in 0..segment.row_groups {
            all.extend(capture.read(segment, group, Projection::Full).unwrap());
        }
    }
    all
}

fn whole(dir: &Path) -> Report {
    let report = verify(&open(dir)).unwrap();
    assert!(report.ok, "{:?}", report.problems);
    report
}

fn upkeep(dir: &Path) -> Upkeep {
    let upkeep = Upkeep::lock(Arc::new(Disk), dir).unwrap().unwrap();
    upkeep.with_key(Some(key(7)))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let paths = entries.map(|e| e.unwrap().path());
    paths
        .filter(|p| p.to_string_lossy().contains(".parquet"))
        .collect()
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|w| w == what)
}

/// Every column of every row group says that it is encrypted with the footer's key, and nothing of
/// the rows, the schema or the books can be read in the file.
fn nothing_is_in_the_clear(dir: &Path) -> usize {
    let mut columns = 0;
    for segment in open(dir).segments() {
        assert!(segment.is_encrypted);
        for group in segment.metadata().unwrap().row_groups() {
            for column in group.columns() {
                let crypto = column.crypto_metadata();
                let path = column.column_path();
                assert_eq!(
                    crypto,
                    Some(&ColumnCryptoMetaData::ENCRYPTION_WITH_FOOTER_KEY),
                    "{path}"
                );
                columns += 1;
            }
        }
    }
    for file in files(dir) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.starts_with(b"PARE") && bytes.ends_with(b"PARE"));
        for text in [
            &CANARY[..11],
            b"client_request_id",
            b"inferdiff.ledger",
            b"r0",
            b"request_body",
        ] {
            // Two bytes alone may come up by chance.
            assert!(text.len() < 3 || !holds(&bytes, text), "{file:?}");
        }
    }
    columns
}

#[test]
fn footer_and_every_column_are_encrypted_and_come_back_by_value() {
    let dir = tempfile::tempdir().unwrap();
    let sent = record(dir.path(), 5);
    let capture = open(dir.path());
    assert_eq!(capture.segments().len(), 5, "each checkpoint is a segment");
    assert_eq!(rows(&capture), sent);
    whole(dir.path());
    let leaves = inferdiff_schemas::capture::leaf_paths().len();
    assert_eq!(nothing_is_in_the_clear(dir.path()), 5 * leaves);
}

#[test]
fn merging_deleting_and_retention_work_and_keep_everything_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let sent = record(dir.path(), 6);
    let merged = upkeep(dir.path())
        .merge(&MergeOptions::default(), &mut |_| true)
        .unwrap();
    assert_eq!((merged.replaced, merged.written), (6, 1));
    assert_eq!(rows(&open(dir.path())), sent);
    assert!(nothing_is_in_the_clear(dir.path()) > 0);
    whole(dir.path());

    let gone = |e: &Exchange| e.seq == 3;
    let deleted = upkeep(dir.path()).delete(&gone, &mut |_| true).unwrap();
    assert_eq!(deleted.exchanges, 1);
    assert_eq!(rows(&open(dir.path())).len(), sent.len() - 1);
    assert!(nothing_is_in_the_clear(dir.path()) > 0);
    whole(dir.path());

    let keep = Retention {
        max_bytes: Some(0),
        ..Retention::default()
    };
    assert_eq!(upkeep(dir.path()).retain(&keep, 0).unwrap().exchanges, 11);
    assert!(files(dir.path()).is_empty());
    assert_eq!(
        whole(dir.path()).recorders[0]
            .ledger
            .removed
            .values()
            .sum::<u64>(),
        12
    );
}

#[test]
fn without_the_key_nothing_is_read_and_nothing_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 4);
    let before = files(dir.path());
    let none = Capture::open(Arc::new(Disk), dir.path()).err().unwrap();
    assert!(matches!(none, CaptureError::NoKey { .. }), "{none}");
    assert!(none.to_string().contains("--encryption-key"), "{none}");
    let wrong = Capture::open_with_key(Arc::new(Disk), dir.path(), Some(&key(8)));
    let wrong = wrong.err().unwrap().to_string();
    for part in [key(7).id(), key(8).id(), "recorded with"] {
        assert!(wrong.contains(part), "{wrong}");
    }
    let upkeep = Upkeep::lock(Arc::new(Disk), dir.path()).unwrap().unwrap();
    assert!(upkeep.recover().unwrap().is_empty());
    assert!(
        upkeep
            .merge(&MergeOptions::default(), &mut |_| true)
            .is_err()
    );
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_cut_file_is_whole_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 1);
    let sealed = files(dir.path()).pop().unwrap();
    let bytes = std::fs::read(&sealed).unwrap();
    let name = sealed.file_name().unwrap().to_string_lossy().into_owned();
    let growing = dir.path().join(format!("_{name}.open"));
    let torn = growing.with_extension("torn");
    std::fs::remove_file(&sealed).unwrap();
    // Before the footer one place is like another; in it the length and the tags matter.
    let footer = bytes.len()
        - 8
        - usize::try_from(u32::from_le_bytes(
            bytes[bytes.len() - 8..][..4].try_into().unwrap(),
        ))
        .unwrap();
    let cuts = (0..footer)
        .step_by(97)
        .chain(1..6)
        .chain((footer..bytes.len() - 9).step_by(11))
        .chain(bytes.len() - 9..=bytes.len());
    for cut in cuts {
        std::fs::write(&growing, &bytes[..cut]).unwrap();
        let capture = open(dir.path());
        assert_eq!(capture.segments().len(), usize::from(cut == bytes.len()));
        let done = upkeep(dir.path()).recover().unwrap();
        let action = match cut {
            0..=4 => "removed",
            _ if cut == bytes.len() => "sealed",
            _ => "set_aside",
        };
        assert_eq!(done[0].action, action, "cut at {cut}");
        assert_eq!(torn.exists(), action == "set_aside");
        let _ = std::fs::remove_file(&torn);
    }
    whole(dir.path());
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let sent = record(dir.path(), 1);
    let sealed = files(dir.path()).pop().unwrap();
    let bytes = std::fs::read(&sealed).unwrap();
    let step = bytes.len() / 400;
    for at in (0..bytes.len()).step_by(step) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(&sealed, &flipped).unwrap();
        match Capture::open_with_key(Arc::new(Disk), dir.path(), Some(&key(7))) {
            // The wrapped key names another one.
            Err(e) => assert!(e.needs_key(), "{at}: {e}"),
            Ok(capture) => {
                assert!(!verify(&capture).unwrap().ok, "a flip at {at} is not found");
                for segment in capture.segments() {
                    if let Ok(read) = capture.read(segment, 0, Projection::Full) {
                        assert_eq!(read, sent, "a flip at {at} gives other values");
                    }
                }
            }
        }
    }
}

#[test]
fn a_failing_disk_costs_its_checkpoint_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new(Arc::new(Disk));
    disk.arm(
        "write=enospc,after=20000,times=1,name=.open"
            .parse()
            .unwrap(),
    );
    let storage: Arc<dyn Storage> = Arc::new(disk);
    let recorder = Ulid::generate();
    let mut writer = open_writer_on(storage, dir.path(), recorder, options());
    let mut ledger = Ledger::default();
    for seq in 0..8 {
        let e = exchange(recorder, seq, Bytes::from_static(CANARY));
        accept(&mut writer, &mut ledger, e);
        let _ = writer.checkpoint(&mut ledger);
    }
    writer.close(&mut ledger, "now".into()).unwrap();
    assert_eq!((ledger.recorded, ledger.dropped["disk_full"]), (7, 1));
    let seqs: Vec<u64> = rows(&open(dir.path())).iter().map(|e| e.seq).collect();
    assert_eq!(seqs.len(), 7);
    whole(dir.path());
}
