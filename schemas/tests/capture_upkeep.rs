//! Merging, retention and deletion: no row is lost, none is there twice, the books balance.

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
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use common::{accept, exchange, open_writer, read_all};
use inferdiff_schemas::Exchange;
use inferdiff_schemas::capture::{
    Capture, Ledger, MergeOptions, Report, Retention, Step, Upkeep, WriterOptions, verify,
};
use inferdiff_schemas::storage::{Disk, Storage};
use ulid::Ulid;

/// A recorder that wrote `segments` segments of two rows and stopped.
fn record(dir: &Path, segments: u64) -> Ulid {
    let recorder = Ulid::generate();
    let options = WriterOptions {
        max_row_groups: 1,
        ..WriterOptions::default()
    };
    let mut writer = open_writer(dir, recorder, options);
    let mut ledger = Ledger::default();
    for seq in 0..2 * segments {
        let payload = Bytes::from(vec![seq as u8; 500 + seq as usize]);
        accept(&mut writer, &mut ledger, exchange(recorder, seq, payload));
        if seq % 2 == 1 {
            writer.checkpoint(&mut ledger).unwrap();
        }
    }
    writer.close(&mut ledger, "now".into()).unwrap();
    recorder
}

fn upkeep(dir: &Path) -> Upkeep {
    Upkeep::lock(Arc::new(Disk), dir).unwrap().unwrap()
}

fn whole(dir: &Path) -> Report {
    let report = verify(&Capture::open(Arc::new(Disk), dir).unwrap()).unwrap();
    assert!(report.ok, "{:?}", report.problems);
    report
}

fn go(_: Step) -> bool {
    true
}

#[test]
fn merging_keeps_every_row_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let first = record(dir.path(), 5);
    let second = record(dir.path(), 4);
    let before = read_all(dir.path());
    let merged = upkeep(dir.path())
        .merge(&MergeOptions::default(), &mut go)
        .unwrap();
    assert_eq!((merged.replaced, merged.written), (9, 2), "one a recorder");
    assert_eq!(read_all(dir.path()), before);
    let report = whole(dir.path());
    assert_eq!(report.segments, 2);
    for recorder in [first, second] {
        let books = report
            .recorders
            .iter()
            .find(|b| b.recorder == recorder.to_string());
        assert_eq!(books.unwrap().on_disk, books.unwrap().ledger.recorded);
    }
    let names: Vec<_> = Disk.list(dir.path()).unwrap();
    let strangers = names
        .iter()
        .filter(|e| e.name.ends_with(".new") || e.name.contains("journal"));
    assert_eq!(strangers.count(), 0, "nothing is left of the merge");
}

#[test]
fn a_merge_that_is_stopped_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 6);
    let before = Disk.list(dir.path()).unwrap();
    let mut calls = 0;
    let merged = upkeep(dir.path())
        .merge(&MergeOptions::default(), &mut |_| {
            calls += 1;
            calls < 4
        })
        .unwrap();
    assert!(merged.stopped && merged.written == 0);
    let names = |entries: &[inferdiff_schemas::storage::Entry]| {
        let all = entries.iter().map(|e| e.name.clone());
        all.filter(|n| n != "_upkeep.lock").collect::<Vec<_>>()
    };
    assert_eq!(names(&Disk.list(dir.path()).unwrap()), names(&before));
}

#[test]
fn a_damaged_segment_is_never_merged_into_whole_ones() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 9);
    let capture = Capture::open(Arc::new(Disk), dir.path()).unwrap();
    let damaged = capture.segments()[4].clone();
    let mut bytes = std::fs::read(&damaged.path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&damaged.path, bytes).unwrap();
    let merged = upkeep(dir.path())
        .merge(&MergeOptions::default(), &mut go)
        .unwrap();
    assert_eq!(merged.damaged, [damaged.id.to_string()]);
    assert_eq!((merged.replaced, merged.written), (8, 2));
    let report = verify(&Capture::open(Arc::new(Disk), dir.path()).unwrap()).unwrap();
    assert!(!report.ok, "the damage is still told");
    assert_eq!(report.segments, 3);
}

#[test]
fn retention_takes_the_oldest_first_and_counts_them() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = record(dir.path(), 5);
    let capture = Capture::open(Arc::new(Disk), dir.path()).unwrap();
    let sizes: Vec<u64> = capture.segments().iter().map(|s| s.bytes).collect();
    let keep = Retention {
        max_bytes: Some(sizes[2..].iter().sum()),
        max_age: None,
    };
    let retired = upkeep(dir.path()).retain(&keep, 0).unwrap();
    assert_eq!((retired.segments, retired.exchanges), (2, 4));
    let seqs: Vec<u64> = read_all(dir.path()).iter().map(|e| e.seq).collect();
    assert_eq!(seqs, [4, 5, 6, 7, 8, 9]);
    let report = whole(dir.path());
    assert_eq!(report.recorders[0].ledger.removed["retention"], 4);
    // By age: rows arrived at 1.7e18 + seq ns; after 6 ns the rows up to seq 5 are too old.
    let keep = Retention {
        max_age: Some(Duration::from_nanos(6)),
        max_bytes: None,
    };
    let now = 1_700_000_000_000_000_000 + 12;
    let retired = upkeep(dir.path()).retain(&keep, now).unwrap();
    assert_eq!((retired.segments, retired.exchanges), (1, 2));
    assert_eq!(read_all(dir.path())[0].seq, 6);
    assert_eq!(
        whole(dir.path()).recorders[0].ledger.removed["retention"],
        6
    );
    assert_eq!(recorder.to_string(), report.recorders[0].recorder);
}

#[test]
fn deletion_reaches_every_sealed_segment_and_says_what_still_grows() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 3);
    let recorder = record(dir.path(), 3);
    let live = Ulid::generate();
    let mut writer = open_writer(dir.path(), live, WriterOptions::default());
    let mut ledger = Ledger::default();
    for seq in 0..4 {
        let e = exchange(live, seq, Bytes::from_static(b"abc"));
        accept(&mut writer, &mut ledger, e);
    }
    writer.checkpoint(&mut ledger).unwrap();
    let matches = |e: &Exchange| e.client_request_id.as_deref() == Some("r3");
    let deleted = upkeep(dir.path()).delete(&matches, &mut go).unwrap();
    assert_eq!(
        (deleted.exchanges, deleted.segments, deleted.growing),
        (2, 2, 1)
    );
    whole(dir.path());
    let left = read_all(dir.path());
    assert_eq!(left.iter().filter(|e| matches(e)).count(), 1);
    assert_eq!(left.len(), 14);
    writer.close(&mut ledger, "now".into()).unwrap();
    let deleted = upkeep(dir.path()).delete(&matches, &mut go).unwrap();
    assert_eq!((deleted.exchanges, deleted.growing), (1, 0));
    let report = whole(dir.path());
    let books = |r: Ulid| {
        let found = report
            .recorders
            .iter()
            .find(|b| b.recorder == r.to_string());
        found.unwrap().clone()
    };
    assert_eq!((books(recorder).on_disk, books(live).on_disk), (5, 3));
    assert_eq!(books(live).gaps, [(3, 3)]);
    assert_eq!(books(live).ledger.removed["deleted"], 1);
    // Nothing of them is left in any file.
    for entry in Disk.list(dir.path()).unwrap().iter().filter(|e| !e.is_dir) {
        let bytes = std::fs::read(dir.path().join(&entry.name)).unwrap();
        assert!(!bytes.windows(2).any(|w| w == b"r3"), "{}", entry.name);
    }
}

#[test]
fn two_upkeeps_never_run_at_once() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 1);
    let held = upkeep(dir.path());
    assert!(Upkeep::lock(Arc::new(Disk), dir.path()).unwrap().is_none());
    drop(held);
    assert!(Upkeep::lock(Arc::new(Disk), dir.path()).unwrap().is_some());
}

#[test]
fn a_reader_sees_every_row_once_while_segments_are_written_merged_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let sent = 60;
    record(dir.path(), sent / 2);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at in 0..6 {
                let small = MergeOptions {
                    max_bytes: 40_000 << at,
                    ..MergeOptions::default()
                };
                upkeep(dir.path()).merge(&small, &mut go).unwrap();
            }
            done.store(true, Relaxed);
        });
        let mut looks = 0;
        while !done.load(Relaxed) || looks == 0 {
            let seqs: Vec<u64> = read_all(dir.path()).iter().map(|e| e.seq).collect();
            assert_eq!(seqs, (0..sent).collect::<Vec<_>>());
            looks += 1;
        }
        println!("{looks} looks");
    });
    assert!(
        Capture::open(Arc::new(Disk), dir.path())
            .unwrap()
            .segments()
            .len()
            < 10
    );
}

#[test]
fn an_open_capture_is_read_to_its_end_although_its_segments_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 8);
    let capture = Capture::open(Arc::new(Disk), dir.path()).unwrap();
    upkeep(dir.path())
        .merge(&MergeOptions::default(), &mut go)
        .unwrap();
    let mut rows = 0;
    for segment in capture.segments() {
        assert!(!segment.path.exists());
        rows += capture
            .read(segment, 0, inferdiff_schemas::capture::Projection::Full)
            .unwrap()
            .len();
    }
    assert_eq!(rows, 16);
}

#[test]
fn a_damaged_last_footer_hides_one_checkpoint_and_strangers_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Ulid::generate();
    let mut writer = open_writer(dir.path(), recorder, WriterOptions::default());
    let mut ledger = Ledger::default();
    for seq in 0..3 {
        let e = exchange(recorder, seq, Bytes::from_static(b"abc"));
        accept(&mut writer, &mut ledger, e);
        writer.checkpoint(&mut ledger).unwrap();
    }
    writer.close(&mut ledger, "now".into()).unwrap();
    std::fs::write(dir.path().join("README.txt"), "hello").unwrap();
    let path = Capture::open(Arc::new(Disk), dir.path())
        .unwrap()
        .segments()[0]
        .path
        .clone();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let capture = Capture::open(Arc::new(Disk), dir.path()).unwrap();
    let report = verify(&capture).unwrap();
    assert_eq!((report.ok, report.rows), (false, 2));
    assert!(
        report.problems[0].contains("does not end with a footer"),
        "{:?}",
        report.problems
    );
    assert_eq!(report.foreign, ["README.txt"]);
    assert_eq!(report.recorders[0].gaps, [(2, 2)]);
    let one = MergeOptions {
        fan_in: 2,
        any_size: true,
        ..MergeOptions::default()
    };
    record(dir.path(), 1);
    assert_eq!(upkeep(dir.path()).merge(&one, &mut go).unwrap().written, 0);
}

#[test]
fn a_clock_that_goes_backwards_and_repeated_client_ids_confuse_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Ulid::generate();
    let mut writer = open_writer(dir.path(), recorder, WriterOptions::default());
    let mut ledger = Ledger::default();
    let mut sent = Vec::new();
    for seq in 0..6 {
        let e = Exchange {
            arrived_at_ns: 1_700_000_000_000_000_000 - 3_600_000_000_000 * seq as i64,
            client_request_id: Some(["a", "b"][seq as usize % 2].to_owned()),
            ..exchange(recorder, seq, Bytes::from_static(b"x"))
        };
        sent.push(e.clone());
        accept(&mut writer, &mut ledger, e);
        writer.checkpoint(&mut ledger).unwrap();
    }
    writer.close(&mut ledger, "now".into()).unwrap();
    assert_eq!(
        read_all(dir.path()),
        sent,
        "in order of arrival, not of the clock"
    );
    whole(dir.path());
    // Youngest by the clock is the first one: nothing leaves before it is old.
    let keep = Retention {
        max_age: Some(Duration::from_secs(1)),
        ..Retention::default()
    };
    let kept = upkeep(dir.path()).retain(&keep, 1_700_000_000_000_000_000);
    assert_eq!(kept.unwrap().exchanges, 0);
    let deleted = upkeep(dir.path())
        .delete(&|e| e.client_request_id.as_deref() == Some("a"), &mut go)
        .unwrap();
    assert_eq!(deleted.exchanges, 3, "every exchange that had the id");
    let left = read_all(dir.path());
    assert_eq!(left.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 3, 5]);
    whole(dir.path());
}

#[test]
fn merging_says_what_it_holds_before_it_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 5);
    let sizes: u64 = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    let mut steps = Vec::new();
    upkeep(dir.path())
        .merge(&MergeOptions::default(), &mut |step| {
            steps.push(step);
            true
        })
        .unwrap();
    assert_eq!(steps.len(), 6, "before each row group, and at the end");
    assert!(steps[..5].iter().all(|s| s.held > 0 && s.held < 3 * sizes));
    assert_eq!((steps[0].moved, steps[5].held), (0, 0));
    assert!(steps.iter().map(|s| s.moved).sum::<u64>() > 5 * 1000);
}
