//! Committing run files: written beside, synced, renamed. A run file is whole or not there.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use serde::de::DeserializeOwned;

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

    fn io(action: &'static str, path: &Path, e: &std::io::Error) -> Self {
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

/// Commits a Parquet file of one batch.
pub(super) fn write_batch(path: &Path, batch: &RecordBatch) -> Result<(), RunFileError> {
    let properties = WriterProperties::builder()
        .set_created_by(concat!("inferdiff ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::SNAPPY)
        .build();
    commit(path, |file| {
        let write = || {
            let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties))?;
            writer.write(batch)?;
            writer.close()
        };
        write()
            .map(|_| ())
            .map_err(|e| RunFileError::new("write", path, e))
    })
}

/// Reads a Parquet file of a run whole, as `schema`.
pub(super) fn read_batches(
    path: &Path,
    schema: &SchemaRef,
) -> Result<Vec<RecordBatch>, RunFileError> {
    let bytes = std::fs::read(path).map_err(|e| RunFileError::io("read", path, &e))?;
    let options = ArrowReaderOptions::new().with_schema(Arc::clone(schema));
    let read = || {
        ParquetRecordBatchReaderBuilder::try_new_with_options(Bytes::from(bytes), options)?
            .with_batch_size(8192)
            .build()?
            .collect::<Result<Vec<_>, _>>()
            .map_err(parquet::errors::ParquetError::from)
    };
    read().map_err(|e| RunFileError::new("read", path, e))
}

fn commit(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), RunFileError>,
) -> Result<(), RunFileError> {
    let io = |e: std::io::Error| RunFileError::io("write", path, &e);
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let mut file = File::create(&temporary).map_err(io)?;
    let written = write(&mut file).and_then(|()| {
        file.sync_data().map_err(io)?;
        std::fs::rename(&temporary, path).map_err(io)?;
        File::open(folder).and_then(|d| d.sync_all()).map_err(io)
    });
    if written.is_err() {
        // The error that matters is the first one.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
