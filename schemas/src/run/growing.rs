//! A Parquet file of a run that is written piece by piece, some columns by the general writer.

use std::path::Path;

use arrow_schema::SchemaRef;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema};
use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, KeyValue};
use parquet::schema::types::SchemaDescPtr;

use super::RunFileError;
use super::files::TableForm;
use super::sink::Sink;
use super::unpublished::Unpublished;
use crate::columns::{Described, Output, RowGroupColumns, footer};

/// A row group ends once its errors have so many bytes: they are in memory until then, and in one page.
pub(super) const LONG_ERRORS: usize = 4 << 20;

/// The file; it is not there before [`Self::commit`].
pub(super) struct Growing {
    pub file: Sink,
    described: Described,
    /// What readers see, and the Parquet columns of it.
    stored: SchemaRef,
    columns: SchemaDescPtr,
    unpublished: Unpublished,
}

impl Growing {
    /// Begins a file of the schema `stored`, of which the general writer makes the columns `described`.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn create(
        path: &Path,
        stored: &SchemaRef,
        columns: &SchemaDescPtr,
        described: &SchemaRef,
        form: &TableForm,
    ) -> std::result::Result<Self, RunFileError> {
        let (file, unpublished) = Unpublished::begin(path)?;
        let mut file = Sink::new(file);
        let described = Described::new(described.clone(), columns.clone(), form.properties());
        let begun = described.and_then(|d| d.begin_file(&mut file).map(|()| d));
        Ok(Self {
            file,
            described: begun.map_err(|e| unpublished.error(e))?,
            stored: stored.clone(),
            columns: columns.clone(),
            unpublished,
        })
    }

    /// An error of this file.
    pub fn error(&self, why: impl ToString) -> RunFileError {
        self.unpublished.error(why)
    }

    /// The described columns of the next row group.
    ///
    /// # Errors
    /// Of the general writer.
    pub fn begin(&self) -> Result<RowGroupColumns> {
        self.described.begin()
    }

    /// Ends the row group that began at `start`; `others` are in the file, in the order of their columns.
    ///
    /// # Errors
    /// Of encoding and of the disk.
    pub fn end(
        &mut self,
        described: RowGroupColumns,
        others: Vec<ColumnChunkMetaData>,
        start: u64,
    ) -> Result<()> {
        self.described.end(&mut self.file, described, others, start)
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn commit(mut self) -> std::result::Result<(), RunFileError> {
        let schema = encode_arrow_schema(&self.stored);
        let schema = KeyValue::new(ARROW_SCHEMA_META_KEY.to_owned(), schema);
        let footer = footer(self.described.written(), &self.columns, vec![schema]);
        let written = footer.and_then(|bytes| Ok(self.file.append(&bytes)?));
        written.map_err(|e| self.unpublished.error(e))?;
        let file = self.file.end();
        let file = file.map_err(|e| self.unpublished.failed(&e))?;
        self.unpublished.publish(&file)
    }
}
