//! One growing Parquet file.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use parquet::arrow::ArrowWriter;
use ulid::Ulid;

use super::footer::{self, FooterNote, SpanDigest};
use super::schema::{VIEWS, properties};
use super::writer::payload;
use super::{CaptureError, Layout, Ledger, encode};
use crate::Exchange;
use crate::storage::{Storage, WriteFile};
use crate::xxh3::Hash64;

/// What the Parquet writer writes through: it hashes every byte on its way to the storage.
#[derive(Clone)]
struct Sink(Arc<Mutex<SinkState>>);

struct SinkState {
    file: Box<dyn WriteFile>,
    hash: Hash64,
    written: u64,
    /// Nothing more is written: the Parquet writer flushes what it still holds when it is dropped,
    /// which must not reach a file that was cut.
    closed: bool,
}

impl Sink {
    fn with<T>(&self, f: impl FnOnce(&mut SinkState) -> T) -> T {
        // Nothing panics while holding it, and a poisoned file is judged by its own errors.
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl io::Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.with(|s| {
            if s.closed {
                return Err(io::Error::other("the segment has ended"));
            }
            s.file.write_all(buf)?;
            s.hash.update(buf);
            s.written += buf.len() as u64;
            Ok(buf.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A growing segment: complete at every checkpoint.
pub(super) struct Segment {
    pub opened: Instant,
    pub row_groups: usize,
    /// Bytes as of the last checkpoint that was written (and synced, where asked).
    pub durable: u64,
    /// Payload bytes so far.
    payload: u64,
    /// Bytes of the last row group and of the last footer.
    last_group: u64,
    last_footer: u64,
    path: PathBuf,
    sealed_path: PathBuf,
    writer: ArrowWriter<Sink>,
    sink: Sink,
    note: FooterNote,
}

impl Segment {
    /// Creates `_<ulid>.parquet.open`, locked, its name durable: what is synced into a file that
    /// no name leads to after a power cut is lost.
    pub fn create(
        storage: &dyn Storage,
        layout: &Layout,
        recorder: Ulid,
        id: Ulid,
    ) -> Result<Self, CaptureError> {
        let segment = Self::create_as(storage, layout.open(id), layout.sealed(id), recorder, id)?;
        storage
            .sync_dir(layout.root())
            .map_err(CaptureError::io("sync", layout.root()))?;
        Ok(segment)
    }

    /// Creates a segment at `path` that [`Self::seal`] will name `sealed_path`.
    pub fn create_as(
        storage: &dyn Storage,
        path: PathBuf,
        sealed_path: PathBuf,
        recorder: Ulid,
        id: Ulid,
    ) -> Result<Self, CaptureError> {
        let file = storage
            .create(&path)
            .map_err(CaptureError::io("create", &path))?;
        let sink = Sink(Arc::new(Mutex::new(SinkState {
            file,
            hash: Hash64::new(),
            written: 0,
            closed: false,
        })));
        let writer = ArrowWriter::try_new(sink.clone(), VIEWS.clone(), Some(properties()))
            .map_err(|e| CaptureError::damaged(&path, e))?;
        Ok(Self {
            opened: Instant::now(),
            row_groups: 0,
            durable: 0,
            payload: 0,
            last_group: 0,
            last_footer: 0,
            sealed_path,
            path,
            writer,
            sink,
            note: FooterNote::new(recorder, id),
        })
    }

    /// Writes the exchanges as one row group, then a complete footer, then syncs.
    ///
    /// After an error the segment must be abandoned: its writer never recovers.
    pub fn checkpoint(
        &mut self,
        exchanges: &[Exchange],
        ledger: &Ledger,
        sync: bool,
    ) -> Result<(), CaptureError> {
        let damaged = |e: &dyn std::fmt::Display| CaptureError::damaged(&self.path, e);
        let batch = encode::encode(exchanges).map_err(|e| damaged(&e))?;
        let io_error = CaptureError::io("write", &self.path);
        let parquet = |e: parquet::errors::ParquetError| match e {
            parquet::errors::ParquetError::External(e) => match e.downcast::<io::Error>() {
                Ok(e) => io_error(*e),
                Err(e) => CaptureError::damaged(&self.path, e),
            },
            e => CaptureError::damaged(&self.path, e),
        };
        let flushed = self.writer.write(&batch).and_then(|()| self.writer.flush());
        // The writer buffers: what it holds must reach the file before its digest is taken.
        if let Err(e) = flushed.and_then(|()| Ok(self.writer.sync()?)) {
            return Err(parquet(e));
        }
        let start = self.writer.bytes_written() as u64;
        let (end, xxh3) = self.sink.with(|s| {
            let xxh3 = s.hash.digest();
            s.hash = Hash64::new();
            (s.written, xxh3)
        });
        debug_assert_eq!(
            start, end,
            "the Parquet writer and the file agree on the offset"
        );
        self.note.digests.push(SpanDigest {
            start: self.durable,
            end,
            xxh3,
        });
        self.note.ledger.clone_from(ledger);
        let footer = footer::write(self.writer.flushed_row_groups(), &self.note, start)
            .map_err(|e| CaptureError::damaged(&self.path, e))?;
        let write = CaptureError::io("write", &self.path);
        if let Err(e) = self
            .writer
            .write_all(&footer)
            .and_then(|()| self.writer.sync())
        {
            return Err(write(e));
        }
        if sync {
            self.sync()?;
        }
        self.row_groups += 1;
        self.payload += exchanges.iter().map(payload).sum::<u64>();
        self.last_group = end - self.durable;
        self.last_footer = footer.len() as u64;
        self.durable = self.sink.with(|s| {
            s.hash = Hash64::new();
            s.written
        });
        Ok(())
    }

    /// False where the file was removed under us: what is written into it is lost.
    pub fn is_linked(&self) -> bool {
        self.sink.with(|s| s.file.is_linked()).unwrap_or(false)
    }

    /// Makes what was written durable.
    pub fn sync(&self) -> Result<(), CaptureError> {
        self.sink
            .with(|s| s.file.sync())
            .map_err(CaptureError::io("sync", &self.path))
    }

    /// Removes the file.
    pub fn discard(self, storage: &dyn Storage) -> Result<(), CaptureError> {
        storage
            .remove(&self.path)
            .map_err(CaptureError::io("remove", &self.path))
    }

    /// True when one more footer could break the write bound (4 × the data + 64 KiB a checkpoint).
    ///
    /// A footer repeats all earlier row groups, so footers grow while small row groups do not: the
    /// segment must end before their sum outgrows what the data pays for.
    pub fn footers_outgrow_data(&self) -> bool {
        let groups = self.row_groups as u64;
        let next = self.last_group + self.last_footer + self.last_footer / groups.max(1);
        // A row group repeats its payload once; what else it and the footers take must fit into
        // the checkpoints' share.
        self.durable + next > 4 * self.payload + 64 * 1024 * (groups + 1)
    }

    /// Gives the complete file its final name. A segment without a checkpoint is removed.
    pub fn seal(&self, storage: &dyn Storage, layout: &Layout) -> Result<(), CaptureError> {
        if self.row_groups == 0 {
            storage
                .remove(&self.path)
                .map_err(CaptureError::io("remove", &self.path))?;
        } else {
            self.sync()?;
            storage
                .rename(&self.path, &self.sealed_path)
                .map_err(CaptureError::io("rename", &self.path))?;
        }
        storage
            .sync_dir(layout.root())
            .map_err(CaptureError::io("sync", layout.root()))
    }

    /// Ends a segment whose writer failed: cut to the last checkpoint, then sealed as it is.
    pub fn abandon(&self, storage: &dyn Storage, layout: &Layout) -> Result<(), CaptureError> {
        self.sink
            .with(|s| {
                s.closed = true;
                s.file.truncate(self.durable)
            })
            .map_err(CaptureError::io("truncate", &self.path))?;
        self.seal(storage, layout)
    }
}
