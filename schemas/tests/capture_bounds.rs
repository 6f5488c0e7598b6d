//! What the checkpoints cost.

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
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use common::{accept, exchange, open_writer_on};
use inferdiff_schemas::capture::{Capture, Ledger, PAYLOAD_COLUMNS, WriterOptions};
use inferdiff_schemas::storage::{Disk, Entry, ReadFile, Storage, WriteFile};
use parquet::basic::Encoding;
use ulid::Ulid;

/// Counts what is written; syncs nothing, since this test is about bytes.
struct Counting(Arc<AtomicU64>);
struct CountingFile(Box<dyn WriteFile>, Arc<AtomicU64>);

impl WriteFile for CountingFile {
    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        self.1.fetch_add(buf.len() as u64, Relaxed);
        self.0.write_all(buf)
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
    fn is_linked(&self) -> io::Result<bool> {
        self.0.is_linked()
    }
}

impl Storage for Counting {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        Disk.create_dir(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(CountingFile(Disk.create(path)?, self.0.clone())))
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
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        Disk.list(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        Disk.free_bytes(path)
    }
}

#[test]
fn ten_thousand_one_row_checkpoints_stay_within_the_write_bound() {
    const CHECKPOINTS: u64 = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let recorder = Ulid::generate();
    let written = Arc::new(AtomicU64::new(0));
    let storage = Arc::new(Counting(written.clone()));
    let mut writer = open_writer_on(storage, dir.path(), recorder, WriterOptions::default());
    let mut ledger = Ledger::default();
    let mut data = 0;
    for seq in 0..CHECKPOINTS {
        let e = exchange(recorder, seq, Bytes::from(vec![1; 256]));
        data += 2 * 256;
        accept(&mut writer, &mut ledger, e);
        writer.checkpoint(&mut ledger).unwrap();
    }
    writer.close(&mut ledger, String::new()).unwrap();
    let bound = 4 * data + CHECKPOINTS * 64 * 1024;
    let written = written.load(Relaxed);
    println!(
        "{CHECKPOINTS} checkpoints of one row: {written} bytes written, {} a checkpoint, bound {bound}",
        written / CHECKPOINTS
    );
    assert!(written <= bound, "{written} bytes written, {bound} allowed");
}

#[test]
fn the_buffer_is_kept_while_it_fills_and_given_back_by_who_rests() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Ulid::generate();
    let options = WriterOptions {
        flush_bytes: 64 * 1024,
        flush_age: std::time::Duration::from_secs(3600),
        ..WriterOptions::default()
    };
    let mut writer = open_writer_on(Arc::new(Disk), dir.path(), recorder, options);
    let mut ledger = Ledger::default();
    let mut seq = 0;
    let mut add = |writer: &mut _, ledger: &mut _| {
        accept(
            writer,
            ledger,
            exchange(recorder, seq, Bytes::from(vec![1; 256])),
        );
        seq += 1;
    };
    let mut kept = Vec::new();
    for _ in 0..3 {
        while !writer.due(std::time::Instant::now()) {
            add(&mut writer, &mut ledger);
        }
        let rows = writer.buffered() as u64;
        writer.checkpoint(&mut ledger).unwrap();
        // All of it counts as held.
        assert!(writer.kept_bytes() >= rows * size_of::<inferdiff_schemas::Exchange>() as u64);
        kept.push(writer.kept_bytes());
    }
    assert_eq!(kept[1], kept[2]);
    add(&mut writer, &mut ledger);
    writer.checkpoint(&mut ledger).unwrap();
    assert_eq!(writer.kept_bytes(), 0);
    let all = ledger.recorded;
    writer.close(&mut ledger, String::new()).unwrap();
    assert_eq!(common::read_all(dir.path()).len() as u64, all);
}

#[test]
fn payload_columns_have_neither_dictionary_nor_statistics() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Ulid::generate();
    let mut writer = open_writer_on(
        Arc::new(Disk),
        dir.path(),
        recorder,
        WriterOptions::default(),
    );
    let mut ledger = Ledger::default();
    let mut e = exchange(recorder, 0, Bytes::from(vec![1; 64]));
    e.request_body = Some(Bytes::from_static(b"raw"));
    e.response_body = Some(Bytes::from_static(b"raw"));
    accept(&mut writer, &mut ledger, e);
    writer.close(&mut ledger, String::new()).unwrap();
    let capture = Capture::open(Arc::new(Disk), dir.path()).unwrap();
    let footer = capture.segments()[0].metadata().unwrap();
    let columns = footer.row_group(0).columns();
    let found: Vec<_> = columns
        .iter()
        .filter(|c| PAYLOAD_COLUMNS.contains(&c.column_path().string().as_str()))
        .collect();
    assert_eq!(
        found.len(),
        PAYLOAD_COLUMNS.len(),
        "a wrong leaf path is silently ignored"
    );
    for column in found {
        assert!(
            column.dictionary_page_offset().is_none(),
            "{}",
            column.column_path()
        );
        assert!(column.statistics().is_none(), "{}", column.column_path());
        let dictionary = [Encoding::RLE_DICTIONARY, Encoding::PLAIN_DICTIONARY];
        assert!(
            !column.encodings().any(|e| dictionary.contains(&e)),
            "{}",
            column.column_path()
        );
    }
}
