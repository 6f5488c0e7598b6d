//! The described columns of row groups, through the general Parquet writer.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::SchemaDescPtr;

use super::footer::{MAGIC, row_group};
use super::pages::Output;
use super::signed;

/// The row groups of one file: takes their described columns, and puts their metadata together.
pub(crate) struct Described {
    /// Writes into memory; what it wrote is moved to the file after each row group.
    writer: SerializedFileWriter<Vec<u8>>,
    factory: ArrowRowGroupWriterFactory,
    fields: SchemaRef,
    /// All columns, those of payloads too.
    columns: SchemaDescPtr,
    /// Bytes moved so far: the offset in the writer's own view at which its memory begins.
    moved: u64,
    written: Vec<RowGroupMetaData>,
}

impl Described {
    /// Of a file of which nothing is written yet, with the columns `fields` among `columns`.
    pub fn new(
        fields: SchemaRef,
        columns: SchemaDescPtr,
        properties: WriterProperties,
    ) -> Result<Self> {
        let writer = ArrowWriter::try_new(Vec::new(), fields.clone(), Some(properties))?;
        let (mut writer, factory) = writer.into_serialized_writer()?;
        // It goes to the file's begin, before the first payload.
        writer.flush()?;
        let memory = writer.inner_mut();
        debug_assert_eq!(memory.as_slice(), MAGIC);
        memory.clear();
        Ok(Self {
            writer,
            factory,
            fields,
            columns,
            moved: MAGIC.len() as u64,
            written: Vec::new(),
        })
    }

    /// The row groups written.
    pub fn written(&self) -> &[RowGroupMetaData] {
        &self.written
    }

    /// What stands before the first row group.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn begin_file(&self, out: &mut impl Output) -> Result<()> {
        if out.position() == 0 {
            out.append(MAGIC)?;
        }
        Ok(())
    }

    /// The columns of the next row group.
    ///
    /// # Errors
    /// Of the general writer.
    pub fn begin(&self) -> Result<RowGroupColumns> {
        let columns = self.factory.create_column_writers(self.written.len())?;
        let fields = self.fields.clone();
        Ok(RowGroupColumns { fields, columns })
    }

    /// Appends the columns of the row group that began at `start`; its `payloads` stand there already, in
    /// the order of their columns.
    ///
    /// # Errors
    /// Of encoding, and of `out` as `ParquetError::External`. After one, the file must be given up.
    pub fn end(
        &mut self,
        out: &mut impl Output,
        columns: RowGroupColumns,
        payloads: Vec<ColumnChunkMetaData>,
        start: u64,
    ) -> Result<()> {
        let shift = self.append(out, columns)?;
        let described = self.writer.flushed_row_groups().last();
        let described = described.ok_or_else(|| broken("it wrote no row group"))?;
        let mut columns = described.columns().iter();
        let mut payloads = payloads.into_iter().peekable();
        let mut chunks = Vec::new();
        for column in self.columns.columns() {
            let is_it = |chunk: &ColumnChunkMetaData| chunk.column_path() == column.path();
            let chunk = if let Some(payload) = payloads.next_if(is_it) {
                payload
            } else {
                let chunk = columns.next().filter(|chunk| is_it(chunk));
                shifted(chunk.ok_or_else(|| broken(&column.path().string()))?, shift)?
            };
            chunks.push(chunk);
        }
        let rows = described.num_rows();
        let group = row_group(&self.columns, chunks, rows, self.written.len(), start);
        self.written.push(group?);
        Ok(())
    }

    /// Appends the columns; how far they lie behind where their writer believes them to be.
    fn append(&mut self, out: &mut impl Output, columns: RowGroupColumns) -> Result<i64> {
        let start = out.position();
        let mut group = self.writer.next_row_group()?;
        for column in columns.columns {
            column.close()?.append_to_row_group(&mut group)?;
            out.pause();
        }
        group.close()?;
        // The writer buffers: what it holds must reach the memory before that is moved.
        self.writer.flush()?;
        let ends = self.chunk_ends()?;
        let memory = self.writer.inner_mut();
        let mut from = 0;
        for end in ends.into_iter().chain([memory.len()]) {
            let chunk = memory.get(from..end);
            out.append(chunk.ok_or_else(|| broken("chunks are not in the order of columns"))?)?;
            out.end_piece();
            from = end;
        }
        let shift = signed(start) - signed(self.moved);
        self.moved += memory.len() as u64;
        memory.clear();
        Ok(shift)
    }

    /// Where the chunks of the newest row group end in the writer's memory.
    fn chunk_ends(&self) -> Result<Vec<usize>> {
        let group = self.writer.flushed_row_groups().last();
        let group = group.ok_or_else(|| broken("it wrote no row group"))?;
        let end = |chunk: &ColumnChunkMetaData| {
            let (start, length) = chunk.byte_range();
            (start + length).checked_sub(self.moved)
        };
        let ends = group.columns().iter().map(|chunk| {
            let end = end(chunk).and_then(|end| usize::try_from(end).ok());
            end.ok_or_else(|| broken("a chunk lies before its row group"))
        });
        ends.collect()
    }
}

/// The described columns of one row group, batch by batch, in memory until it ends.
pub(crate) struct RowGroupColumns {
    fields: SchemaRef,
    columns: Vec<ArrowColumnWriter>,
}

impl RowGroupColumns {
    /// Appends rows.
    ///
    /// # Errors
    /// Of encoding.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut leaves = self.columns.iter_mut();
        for (field, column) in self.fields.fields().iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, column)? {
                let writer = leaves.next().ok_or_else(|| broken(field.name()))?;
                writer.write(&leaf)?;
            }
        }
        Ok(())
    }
}

/// The chunk as it lies in the file.
fn shifted(chunk: &ColumnChunkMetaData, by: i64) -> Result<ColumnChunkMetaData> {
    let (data, dictionary) = (chunk.data_page_offset(), chunk.dictionary_page_offset());
    chunk
        .clone()
        .into_builder()
        .set_data_page_offset(data + by)
        .set_dictionary_page_offset(dictionary.map(|at| at + by))
        .build()
}

fn broken(what: &str) -> ParquetError {
    ParquetError::General(format!("the Parquet writer left out a column: {what}"))
}
