//! A storage that fails: exchanges are dropped and counted by reason, recording resumes by itself.

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
use common::{accept, exchange, open_writer_on};
use inferdiff_schemas::capture::{
    Capture, CaptureWriter, Ledger, SyncPolicy, WriterOptions, verify,
};
use inferdiff_schemas::storage::{Disk, Fault, Faulty, Simulated, Storage};
use proptest::prelude::*;
use ulid::Ulid;

/// One recorder, and what it did so far.
struct Recording {
    recorder: Ulid,
    writer: CaptureWriter,
    ledger: Ledger,
    seq: u64,
}

impl Recording {
    fn start(storage: Arc<dyn Storage>, dir: &Path, options: WriterOptions) -> Self {
        let recorder = Ulid::generate();
        Self {
            recorder,
            writer: open_writer_on(storage, dir, recorder, options),
            ledger: Ledger::default(),
            seq: 0,
        }
    }

    /// Two exchanges and a checkpoint; true where it went well.
    fn step(&mut self) -> bool {
        for _ in 0..2 {
            let e = exchange(self.recorder, self.seq, Bytes::from(vec![5; 3000]));
            accept(&mut self.writer, &mut self.ledger, e);
            self.seq += 1;
        }
        let well = self.writer.checkpoint(&mut self.ledger).is_ok();
        assert!(self.ledger.balances(), "{:?}", self.ledger);
        well
    }

    /// Ends it, lets another recorder recover what a failed seal left, and checks everything.
    fn end(mut self, dir: &Path) -> Ledger {
        self.writer.close(&mut self.ledger, "now".into()).unwrap();
        assert_eq!(self.ledger.in_flight, 0);
        common::open_writer(dir, Ulid::generate(), WriterOptions::default())
            .close(&mut Ledger::default(), "now".into())
            .unwrap();
        let report = verify(&Capture::open(Arc::new(Disk), dir).unwrap()).unwrap();
        assert!(report.ok, "{:?}", report.problems);
        assert_eq!(report.exchanges, self.ledger.recorded);
        self.ledger
    }
}

fn small_segments() -> WriterOptions {
    WriterOptions {
        max_row_groups: 3,
        ..WriterOptions::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_fails_the_books_balance_and_recording_resumes(
        fault in prop::sample::select(vec![
            "write=enospc,after=ROOM", "write=eio,after=ROOM", "sync=eio", "sync=enospc",
            "create=enospc", "create=erofs", "create=emfile", "rename=eio", "rename=erofs",
            "sync_dir=eio", "truncate=eio",
        ]),
        also in prop::sample::select(vec!["", "truncate=eio", "rename=eio", "write=eio"]),
        healthy in 0u64..4,
        broken in 1u64..4,
        room in 0i64..12_000,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let storage = Faulty::new(Arc::new(Disk));
        let mut recording = Recording::start(Arc::new(storage.clone()), dir.path(), small_segments());
        for _ in 0..healthy {
            prop_assert!(recording.step());
        }
        for text in [fault, also].into_iter().filter(|t| !t.is_empty()) {
            storage.arm(text.replace("ROOM", &room.to_string()).parse().unwrap());
        }
        for _ in 0..broken {
            recording.step();
        }
        storage.heal();
        // The first checkpoint after the fault may still find the segment's writer broken.
        recording.step();
        prop_assert!(recording.step(), "recording did not resume");
        recording.end(dir.path());
    }
}

#[test]
fn drops_are_counted_by_reason() {
    for (fault, reason) in [
        ("write=enospc,after=100,times=1", "disk_full"),
        ("write=edquot,times=1", "disk_full"),
        ("create=erofs,times=1,name=.open", "read_only"),
        ("write=eio,after=4000,times=1", "write_error"),
        ("sync=eio,times=1,name=.open", "write_error"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let storage = Faulty::new(Arc::new(Disk));
        let mut recording =
            Recording::start(Arc::new(storage.clone()), dir.path(), small_segments());
        storage.arm(fault.parse::<Fault>().unwrap());
        assert!(!recording.step(), "{fault}");
        assert_eq!(storage.failed(), 1, "{fault}");
        assert!(recording.step(), "{fault}: recording did not resume");
        let ledger = recording.end(dir.path());
        let counted: Vec<_> = ledger.dropped.iter().collect();
        assert_eq!(counted, [(&reason.to_owned(), &2)], "{fault}");
        assert_eq!(ledger.recorded, 2, "{fault}");
    }
}

#[test]
fn a_directory_that_vanishes_is_made_again_and_costs_nothing_more() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("capture");
    let mut recording = Recording::start(Arc::new(Disk), &dir, WriterOptions::default());
    assert!(recording.step());
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(
        recording.step(),
        "the exchanges after it went went into a new segment"
    );
    recording
        .writer
        .close(&mut recording.ledger, "now".into())
        .unwrap();
    assert!(recording.ledger.dropped.is_empty());
    let capture = Capture::open(Arc::new(Disk), &dir).unwrap();
    let report = verify(&capture).unwrap();
    assert_eq!(report.exchanges, 2, "those written after it went");
    assert!(
        report.problems[0]
            .contains("4 exchanges should be on disk (recorded 4, removed since 0), 2 are"),
        "{:?}",
        report.problems
    );
}

#[test]
fn after_a_failed_sync_nothing_since_the_last_good_one_is_trusted() {
    for sync in [SyncPolicy::Checkpoint, SyncPolicy::Seal] {
        let disk = Simulated::new();
        let dir = Path::new("/capture");
        let options = WriterOptions {
            sync,
            max_row_groups: 2,
            ..WriterOptions::default()
        };
        let mut recording = Recording::start(Arc::new(disk.clone()), dir, options);
        if sync == SyncPolicy::Checkpoint {
            assert!(recording.step());
        } else {
            // Nothing is synced before the segment is sealed, by its second checkpoint.
            assert!(recording.step());
        }
        disk.fail_syncs(1);
        assert!(!recording.step(), "{sync:?}");
        assert!(recording.step());
        recording
            .writer
            .close(&mut recording.ledger, "now".into())
            .unwrap();
        // Whatever was not made durable is lost.
        disk.reboot(&mut |n| usize::from(n == 3));
        let report = verify(&Capture::open(Arc::new(disk), dir).unwrap()).unwrap();
        assert!(report.ok, "{sync:?}: {:?}", report.problems);
        assert_eq!(report.exchanges, recording.ledger.recorded, "{sync:?}");
        let lost = if sync == SyncPolicy::Checkpoint { 2 } else { 4 };
        assert_eq!(recording.ledger.dropped["write_error"], lost, "{sync:?}");
    }
}
