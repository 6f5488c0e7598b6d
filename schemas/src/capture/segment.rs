//! One growing Parquet file.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use parquet::errors::ParquetError;
use ulid::Ulid;

use super::buffer::Buffer;
use super::encrypted::Encrypted;
use super::footer::{self, FooterNote};
use super::key::CaptureKey;

use super::row_group::RowGroups;
use super::span::Hasher;
use super::turns::Turns;
use super::{CaptureError, Layout, Ledger};
use crate::Exchange;
use crate::columns::Output;
use crate::storage::{Storage, WriteFile};

/// Bytes hashed and then written while they are still in the processor's cache.
const BLOCK: usize = 256 * 1024;

/// The file, and the digest of what was written since the last footer.
struct Sink {
    file: Box<dyn WriteFile>,
    hash: Hasher,
    written: u64,
    turns: Turns,
    /// Nothing more is written: what follows a cut would follow rows that were given up.
    closed: bool,
}

impl Sink {
    /// A footer: no span's digest has it in it, it has one of its own.
    fn end_span(&mut self, footer: &[u8]) -> io::Result<()> {
        self.file.write_all(footer)?;
        self.written += footer.len() as u64;
        Ok(())
    }
}

impl Output for Sink {
    fn position(&self) -> u64 {
        self.written
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.closed {
            return Err(io::Error::other("the segment has ended"));
        }
        for block in bytes.chunks(BLOCK) {
            self.hash.update(block);
            self.file.write_all(block)?;
            self.written += block.len() as u64;
            self.pause();
        }
        Ok(())
    }

    fn pause(&mut self) {
        self.turns.end_one();
    }

    fn end_piece(&mut self) {
        self.hash.end_piece();
    }
}

/// What makes row groups of exchanges.
enum Rows {
    /// Complete at every checkpoint.
    Plain(Box<RowGroups>),
    /// Complete when it is committed, and then at its end.
    Encrypted(Box<Encrypted>),
}

/// A growing segment: complete at every checkpoint.
pub(super) struct Segment {
    pub opened: Instant,
    /// As of the last commit.
    pub row_groups: usize,
    /// Bytes as of the last commit.
    pub durable: u64,
    /// Bytes as of the last checkpoint.
    checkpointed: u64,
    /// Nothing can follow.
    pub ended: bool,
    /// Payload bytes so far.
    payload: u64,
    /// Bytes of the last row group and of the last footer.
    last_group: u64,
    last_footer: u64,
    path: PathBuf,
    sealed_path: PathBuf,
    rows: Rows,
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
        key: Option<&CaptureKey>,
    ) -> Result<Self, CaptureError> {
        let (path, sealed) = (layout.open(id), layout.sealed(id));
        let segment = Self::create_as(storage, path, sealed, recorder, id, key)?;
        storage
            .sync_dir(layout.root())
            .map_err(CaptureError::io("sync", layout.root()))?;
        Ok(segment)
    }

    /// Creates a segment at `path` that [`Self::seal`] will name `sealed_path`; encrypted where
    /// there is a key.
    pub fn create_as(
        storage: &dyn Storage,
        path: PathBuf,
        sealed_path: PathBuf,
        recorder: Ulid,
        id: Ulid,
        key: Option<&CaptureKey>,
    ) -> Result<Self, CaptureError> {
        let file = storage
            .create(&path)
            .map_err(CaptureError::io("create", &path))?;
        let sink = Sink {
            file,
            hash: Hasher::default(),
            written: 0,
            turns: Turns::NONE,
            closed: false,
        };
        let rows = match key {
            Some(key) => Encrypted::new(key).map(|rows| Rows::Encrypted(Box::new(rows))),
            None => RowGroups::new().map(|rows| Rows::Plain(Box::new(rows))),
        };
        let rows = rows.map_err(|e| CaptureError::damaged(&path, e))?;
        Ok(Self {
            opened: Instant::now(),
            row_groups: 0,
            durable: 0,
            checkpointed: 0,
            ended: false,
            payload: 0,
            last_group: 0,
            last_footer: 0,
            sealed_path,
            path,
            rows,
            sink,
            note: FooterNote::new(recorder, id),
        })
    }

    /// Writes the exchanges as one row group, then (not encrypted) a complete footer, with turns for
    /// others in between. They count when they are committed.
    ///
    /// After an error the segment must be abandoned: its writer never recovers.
    pub fn checkpoint(
        &mut self,
        buffer: &Buffer,
        ledger: &Ledger,
        turns: Turns,
    ) -> Result<(), CaptureError> {
        self.sink.turns = turns;
        self.row_group(buffer.exchanges())?;
        let end = self.sink.written;
        let span = self.sink.hash.end_span(self.checkpointed);
        self.note.digests.push(span);
        self.note.ledger.clone_from(ledger);
        if let Rows::Plain(rows) = &self.rows {
            let footer = footer::write(rows.written(), &self.note, end)
                .map_err(|e| CaptureError::damaged(&self.path, e))?;
            self.sink
                .end_span(&footer)
                .map_err(CaptureError::io("write", &self.path))?;
            self.last_footer = footer.len() as u64;
        }
        self.payload += buffer.payload;
        self.last_group = end - self.checkpointed;
        self.checkpointed = self.sink.written;
        Ok(())
    }

    fn row_group(&mut self, exchanges: &[Exchange]) -> Result<(), CaptureError> {
        let written = match &mut self.rows {
            Rows::Plain(rows) => rows.append(&mut self.sink, exchanges),
            Rows::Encrypted(rows) => rows
                .row_group(exchanges)
                .and_then(|bytes| Ok(self.sink.append(&bytes)?)),
        };
        written.map_err(|e| match e {
            ParquetError::External(e) => match e.downcast::<io::Error>() {
                Ok(e) => CaptureError::io("write", &self.path)(*e),
                Err(e) => CaptureError::damaged(&self.path, e),
            },
            e => CaptureError::damaged(&self.path, e),
        })
    }

    /// Makes the checkpoints so far count. An encrypted segment ends with it.
    ///
    /// After an error the segment must be abandoned.
    pub fn commit(&mut self, sync: bool) -> Result<(), CaptureError> {
        if let Rows::Encrypted(rows) = &mut self.rows
            && !std::mem::replace(&mut self.ended, true)
        {
            let footer = rows.footer(&self.note);
            let footer = footer.map_err(|e| CaptureError::damaged(&self.path, e))?;
            self.sink
                .end_span(&footer)
                .map_err(CaptureError::io("write", &self.path))?;
        }
        if sync {
            self.sync()?;
        }
        self.row_groups = self.note.digests.len();
        self.durable = self.sink.written;
        Ok(())
    }

    /// False where the file was removed under us: what is written into it is lost.
    pub fn is_linked(&self) -> bool {
        self.sink.file.is_linked().unwrap_or(false)
    }

    /// Makes what was written durable.
    pub fn sync(&mut self) -> Result<(), CaptureError> {
        self.sink
            .file
            .sync()
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
    pub fn seal(&mut self, storage: &dyn Storage, layout: &Layout) -> Result<(), CaptureError> {
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
    pub fn abandon(&mut self, storage: &dyn Storage, layout: &Layout) -> Result<(), CaptureError> {
        self.sink.closed = true;
        self.sink
            .file
            .truncate(self.durable)
            .map_err(CaptureError::io("truncate", &self.path))?;
        self.seal(storage, layout)
    }
}
