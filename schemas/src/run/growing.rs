//! A Parquet file of a run that is written row group by row group.

use std::path::Path;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, ArrowSchemaConverter, encode_arrow_schema};
use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, KeyValue, RowGroupMetaData};
use parquet::schema::types::SchemaDescPtr;

use super::RunFileError;
use super::sink::Sink;
use super::unpublished::Unpublished;
use crate::columns::{MAGIC, Output, footer, row_group, signed};

/// A row group ends once its errors have so many bytes, or its descriptions of tensors: they are in memory
/// until then, in one page, and in that of who reads them. So many, too, where the same text repeats: readers
/// choose how much they read at a time by the bytes of the file.
pub(super) const LONG_TEXTS: usize = 4 << 20;

/// Memory of a file that was written, for the next one: fresh memory costs more than what goes there.
#[derive(Default)]
pub(super) struct Buffers {
    block: Vec<u8>,
    scratch: Vec<u8>,
}

/// The Parquet columns of a schema.
pub(super) fn parquet_columns(schema: &SchemaRef) -> SchemaDescPtr {
    let columns = ArrowSchemaConverter::new().convert(schema);
    Arc::new(columns.expect("every type of the schema has a Parquet type"))
}

/// The file; it is not there before [`Self::commit`].
pub(super) struct Growing {
    pub file: Sink,
    /// For a page.
    pub scratch: Vec<u8>,
    written: Vec<RowGroupMetaData>,
    /// What readers see, and the Parquet columns of it.
    stored: SchemaRef,
    columns: SchemaDescPtr,
    unpublished: Unpublished,
}

impl Growing {
    /// Begins a file of the schema `stored`.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn create(
        path: &Path,
        stored: &SchemaRef,
        columns: &SchemaDescPtr,
        buffers: Buffers,
    ) -> std::result::Result<Self, RunFileError> {
        let (file, unpublished) = Unpublished::begin(path)?;
        let mut file = Sink::new(file, buffers.block);
        let begun = file.append(MAGIC);
        begun.map_err(|e| unpublished.failed(&e))?;
        Ok(Self {
            file,
            scratch: buffers.scratch,
            written: Vec::new(),
            stored: stored.clone(),
            columns: columns.clone(),
            unpublished,
        })
    }

    /// An error of this file.
    pub fn error(&self, why: impl ToString) -> RunFileError {
        self.unpublished.error(why)
    }

    /// Writes a row group with the columns that `encode` appends, in their order.
    ///
    /// # Errors
    /// Of encoding and of the disk.
    pub fn row_group(
        &mut self,
        rows: usize,
        encode: impl FnOnce(&mut Sink, &mut Vec<u8>) -> Result<Vec<ColumnChunkMetaData>>,
    ) -> Result<()> {
        let start = self.file.position();
        let columns = encode(&mut self.file, &mut self.scratch)?;
        self.end(columns, rows, start)
    }

    /// Ends the row group of so many rows that began at `start`; its columns are in the file.
    ///
    /// # Errors
    /// A column is missing.
    pub fn end(
        &mut self,
        columns: Vec<ColumnChunkMetaData>,
        rows: usize,
        start: u64,
    ) -> Result<()> {
        let (rows, ordinal) = (signed(rows as u64), self.written.len());
        let group = row_group(&self.columns, columns, rows, ordinal, start);
        self.written.push(group?);
        Ok(())
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn commit(mut self) -> std::result::Result<Buffers, RunFileError> {
        let schema = encode_arrow_schema(&self.stored);
        let schema = KeyValue::new(ARROW_SCHEMA_META_KEY.to_owned(), schema);
        let footer = footer(&self.written, &self.columns, vec![schema]);
        let written = footer.and_then(|bytes| Ok(self.file.append(&bytes)?));
        written.map_err(|e| self.unpublished.error(e))?;
        let file = self.file.end();
        let (file, block) = file.map_err(|e| self.unpublished.failed(&e))?;
        self.unpublished.publish(&file)?;
        Ok(Buffers {
            block,
            scratch: self.scratch,
        })
    }
}

/// The columns of a row group, by the names and in the order of the Parquet schema that is given first.
macro_rules! columns {
    ($schema:ident: $($field:ident: $type:ty,)*) => {
        struct Columns {
            $($field: $type,)*
        }

        impl Default for Columns {
            fn default() -> Self {
                Self {
                    $($field: <$type>::new(),)*
                }
            }
        }

        impl Columns {
            /// Appends all of them to `out`. `scratch`: as theirs.
            fn encode(
                &mut self,
                out: &mut impl crate::columns::Output,
                scratch: &mut Vec<u8>,
            ) -> Result<Vec<ColumnChunkMetaData>, ParquetError> {
                let mut columns = $schema.columns().iter();
                Ok(vec![$({
                    let column = columns.next().expect("one for each of the schema");
                    debug_assert_eq!(column.path().parts()[0], stringify!($field));
                    self.$field.encode(column, out, scratch)?
                },)*])
            }
        }
    };
}

pub(super) use columns;
