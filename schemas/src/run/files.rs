//! Committing run files: written beside, synced, renamed. A run file is whole or not there.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::unpublished::Unpublished;
use crate::storage::{Chunks, DiskRead, ReadFile, batch_rows};

/// Why a file of a run could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {why}")]
pub struct RunFileError {
    /// `read` or `write`.
    pub action: &'static str,
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub why: String,
    /// The file is not there (and nothing else is wrong).
    pub missing: bool,
}

impl RunFileError {
    pub(super) fn new(action: &'static str, path: &Path, why: impl ToString) -> Self {
        Self {
            action,
            path: path.to_owned(),
            why: why.to_string(),
            missing: false,
        }
    }

    pub(super) fn io(action: &'static str, path: &Path, e: &std::io::Error) -> Self {
        let missing = e.kind() == std::io::ErrorKind::NotFound;
        Self {
            missing,
            ..Self::new(action, path, e)
        }
    }
}

/// Reads a JSON file of a run.
///
/// # Errors
/// [`RunFileError`].
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RunFileError> {
    let bytes = std::fs::read(path).map_err(|e| RunFileError::io("read", path, &e))?;
    serde_json::from_slice(&bytes).map_err(|e| RunFileError::new("read", path, e))
}

/// Commits a JSON file of a run.
///
/// # Errors
/// [`RunFileError`].
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), RunFileError> {
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(|e| RunFileError::new("write", path, e))?;
    bytes.push(b'\n');
    commit(path, |file| {
        file.write_all(&bytes)
            .map_err(|e| RunFileError::io("write", path, &e))
    })
}

/// Reads a Parquet file of a run as `schema`, or some columns of it, a few rows at a time.
pub(super) struct TableReader {
    path: PathBuf,
    batches: ParquetRecordBatchReader,
}

/// Bytes and rows of a batch: the data of a batch stays within the caches.
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_ROWS: u64 = 4096;

impl TableReader {
    /// `columns`: only these; `None` = all.
    pub fn open(
        path: &Path,
        schema: &SchemaRef,
        columns: Option<&[&str]>,
    ) -> Result<Self, RunFileError> {
        let file = File::open(path).map_err(|e| RunFileError::io("read", path, &e))?;
        let file = DiskRead::once(file).map_err(|e| RunFileError::io("read", path, &e))?;
        let length = file.len();
        let mut chunks = Chunks::new(Arc::new(file), length);
        let options = ArrowReaderOptions::new().with_schema(Arc::clone(schema));
        let open = || {
            // A short file is read whole.
            chunks.hold([(0, length)])?;
            let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(chunks, options)?;
            let rows = batch_rows(builder.metadata(), BATCH_BYTES, BATCH_ROWS);
            let builder = builder.with_batch_size(rows);
            match columns {
                None => builder.build(),
                Some(names) => {
                    let names = names.iter().copied();
                    let mask = ProjectionMask::columns(builder.parquet_schema(), names);
                    builder.with_projection(mask).build()
                }
            }
        };
        let batches = open().map_err(|e| RunFileError::new("read", path, e))?;
        Ok(Self {
            path: path.to_owned(),
            batches,
        })
    }

    /// An error of this file.
    pub fn error(&self, why: impl ToString) -> RunFileError {
        RunFileError::new("read", &self.path, why)
    }
}

impl Iterator for TableReader {
    type Item = Result<RecordBatch, RunFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        Some(batch.map_err(|e| self.error(e)))
    }
}

/// The rows of a table one by one, decoded a few at a time: they stay within the caches.
pub(super) struct RowReader<T> {
    table: TableReader,
    /// What is left to decode of a batch.
    batch: Option<(RecordBatch, usize)>,
    rows: std::vec::IntoIter<T>,
}

/// Rows that are decoded at a time.
const FEW: usize = 256;

impl<T> RowReader<T> {
    pub fn new(table: TableReader) -> Self {
        Self {
            table,
            batch: None,
            rows: Vec::new().into_iter(),
        }
    }

    /// The next row.
    pub fn next(
        &mut self,
        mut decode: impl FnMut(&RecordBatch) -> Result<Vec<T>, String>,
    ) -> Option<Result<T, RunFileError>> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            match self.few(&mut decode)? {
                Ok(rows) => self.rows = rows.into_iter(),
                Err(e) => return Some(Err(e)),
            }
        }
    }

    /// The next rows that nobody has decoded.
    pub fn few(
        &mut self,
        mut decode: impl FnMut(&RecordBatch) -> Result<Vec<T>, String>,
    ) -> Option<Result<Vec<T>, RunFileError>> {
        let (batch, from) = match self.batch.take() {
            Some(left) => left,
            None => match self.table.next()? {
                Ok(batch) => (batch, 0),
                Err(e) => return Some(Err(e)),
            },
        };
        let end = batch.num_rows().min(from + FEW);
        let rows = decode(&batch.slice(from, end - from));
        self.batch = (end < batch.num_rows()).then_some((batch, end));
        Some(rows.map_err(|e| self.table.error(e)))
    }
}

fn commit(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), RunFileError>,
) -> Result<(), RunFileError> {
    let (mut file, unpublished) = Unpublished::begin(path)?;
    write(&mut file)?;
    unpublished.publish(&file)
}
