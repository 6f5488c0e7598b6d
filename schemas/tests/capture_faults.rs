//! A storage that fails: exchanges are dropped and counted, recording resumes by itself.

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

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use bytes::Bytes;
use common::{accept, exchange, open_writer_on};
use inferdiff_schemas::capture::{Capture, Ledger, WriterOptions, verify};
use inferdiff_schemas::storage::{Disk, Entry, ReadFile, Storage, WriteFile};
use proptest::prelude::*;
use ulid::Ulid;

/// What fails, and after how many more bytes.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The write that crosses the limit is cut short and fails, as on a full disk.
    Write,
    /// Syncs fail.
    Sync,
    /// Nothing can be created.
    Create,
}

/// A disk that fails while `left` is not negative and used up.
#[derive(Clone)]
struct Faulty {
    fault: Fault,
    left: Arc<AtomicI64>,
}

impl Faulty {
    fn full(&self) -> bool {
        self.left.load(SeqCst) == 0
    }
}

struct FaultyFile(Box<dyn WriteFile>, Faulty);

fn failed() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left (injected)")
}

impl WriteFile for FaultyFile {
    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        let left = self.1.left.load(SeqCst);
        if matches!(self.1.fault, Fault::Write) && left >= 0 && (buf.len() as i64) > left {
            self.0.write_all(&buf[..left as usize])?;
            self.1.left.store(0, SeqCst);
            return Err(failed());
        }
        self.0.write_all(buf)
    }
    fn sync(&mut self) -> io::Result<()> {
        if matches!(self.1.fault, Fault::Sync) && self.1.full() {
            Err(failed())
        } else {
            self.0.sync()
        }
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}

impl Storage for Faulty {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        Disk.create_dir(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let segment = path.extension().is_some_and(|e| e == "open");
        if segment && matches!(self.fault, Fault::Create) && self.full() {
            return Err(failed());
        }
        Ok(Box::new(FaultyFile(Disk.create(path)?, self.clone())))
    }
    fn open_locked(&self, path: &Path) -> io::Result<Option<Box<dyn WriteFile>>> {
        Disk.open_locked(path)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        Disk.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        Disk.sync_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        Disk.list(path)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_fails_the_books_balance_and_recording_resumes(
        fault in prop::sample::select(vec![Fault::Write, Fault::Sync, Fault::Create]),
        healthy in 0u64..4,
        broken in 1u64..4,
        room in 0i64..12_000,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Ulid::generate();
        let left = Arc::new(AtomicI64::new(-1));
        let storage = Arc::new(Faulty { fault, left: left.clone() });
        let options = WriterOptions { max_row_groups: 3, ..Default::default() };
        let mut writer = open_writer_on(storage, dir.path(), recorder, options);
        let mut ledger = Ledger::default();
        let mut seq = 0;
        let mut step = |writer: &mut _, ledger: &mut Ledger| {
            for _ in 0..2 {
                accept(writer, ledger, exchange(recorder, seq, Bytes::from(vec![5; 3000])));
                seq += 1;
            }
            let result = writer.checkpoint(ledger);
            prop_assert!(ledger.balances(), "{:?}", ledger);
            Ok(result.is_ok())
        };
        for _ in 0..healthy {
            prop_assert!(step(&mut writer, &mut ledger)?);
        }
        left.store(if matches!(fault, Fault::Write) { room } else { 0 }, SeqCst);
        for _ in 0..broken {
            step(&mut writer, &mut ledger)?;
        }
        left.store(-1, SeqCst);
        // The first checkpoint after the fault may still find the segment's writer broken.
        step(&mut writer, &mut ledger)?;
        prop_assert!(step(&mut writer, &mut ledger)?, "recording did not resume");
        writer.close(&mut ledger, "now".into()).unwrap();
        prop_assert_eq!(ledger.in_flight, 0);
        // What a failed seal left behind is recovered by the next recorder.
        common::open_writer(dir.path(), Ulid::generate(), WriterOptions::default())
            .close(&mut Ledger::default(), "now".into())
            .unwrap();
        let report = verify(&Capture::open(Arc::new(Disk), dir.path()).unwrap()).unwrap();
        prop_assert!(report.ok, "{:?}", report.problems);
        prop_assert_eq!(report.exchanges, ledger.recorded);
    }
}
