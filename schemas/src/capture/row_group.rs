//! `[Exchange] → row group`: descriptions through the general Parquet writer, payloads before it.

use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::writer::SerializedFileWriter;

use super::encode;
use super::pages::{ChunkWriter, INPUTS, Output, Slot, signed, slots};
use super::schema::{COLUMNS, DESCRIBED, PAYLOAD_COLUMNS, properties};
use super::turns::TURN;
use crate::Exchange;

/// Encodes the row groups of one file.
pub(super) struct RowGroups {
    /// Writes into memory; what it wrote is moved to the file after each row group.
    described: SerializedFileWriter<Vec<u8>>,
    columns: ArrowRowGroupWriterFactory,
    /// Bytes moved so far: the offset in the writer's own view at which its memory begins.
    moved: u64,
    gathered: Vec<u8>,
    written: Vec<RowGroupMetaData>,
}

impl RowGroups {
    /// Of a file of which nothing is written yet.
    pub fn new() -> Result<Self> {
        let memory = Vec::new();
        let writer = ArrowWriter::try_new(memory, DESCRIBED.clone(), Some(properties()))?;
        let (described, columns) = writer.into_serialized_writer()?;
        Ok(Self {
            described,
            columns,
            moved: 0,
            gathered: Vec::new(),
            written: Vec::new(),
        })
    }

    /// The row groups written.
    pub fn written(&self) -> &[RowGroupMetaData] {
        &self.written
    }

    /// Appends `exchanges` (one at least) to `out` as one row group: payloads first, and
    /// meanwhile the digests of inputs that have none yet; then the described columns, so that who reads no
    /// payload reads one piece of the file.
    ///
    /// # Errors
    /// Of encoding, and of `out` as `ParquetError::External`. After one, the file must be given up.
    pub fn append(&mut self, out: &mut impl Output, exchanges: &[Exchange]) -> Result<()> {
        let start = out.position();
        let mut digests = Vec::with_capacity(exchanges.len());
        let mut payloads = Vec::with_capacity(PAYLOAD_COLUMNS.len());
        let mut entries: Vec<Slot<'_>> = Vec::new();
        for column in COLUMNS.columns() {
            let leaf = column.path().string();
            if !PAYLOAD_COLUMNS.contains(&leaf.as_str()) {
                continue;
            }
            let mut chunk = ChunkWriter::new(out, column.clone(), &mut self.gathered);
            for exchanges in exchanges.chunks(TURN) {
                for exchange in exchanges {
                    slots(&leaf, exchange, &mut entries);
                    entries.drain(..).try_for_each(|entry| chunk.push(entry))?;
                    if leaf == INPUTS {
                        // The page before them is written by now, theirs comes next: large ones are
                        // still in the caches when they are hashed again and written.
                        digests.push(exchange.digest_of_inputs());
                    }
                }
                chunk.pause();
            }
            payloads.push(chunk.end()?);
        }
        let shift = self.describe(out, exchanges, &digests)?;
        let described = self.described.flushed_row_groups().last();
        let described = described.ok_or_else(|| broken("it wrote no row group"))?;
        let mut columns = described.columns().iter();
        let mut group = RowGroupMetaData::builder(COLUMNS.clone())
            .set_num_rows(described.num_rows())
            .set_ordinal(i32::try_from(self.written.len()).expect("a segment has 32 row groups"))
            .set_file_offset(signed(start));
        let mut uncompressed = 0;
        let mut payloads = payloads.into_iter().peekable();
        for column in COLUMNS.columns() {
            let is_it = |chunk: &ColumnChunkMetaData| chunk.column_path() == column.path();
            let chunk = if let Some(payload) = payloads.next_if(is_it) {
                payload
            } else {
                let chunk = columns.next().filter(|chunk| is_it(chunk));
                shifted(chunk.ok_or_else(|| broken(&column.path().string()))?, shift)?
            };
            uncompressed += chunk.uncompressed_size();
            group = group.add_column_metadata(chunk);
        }
        self.written
            .push(group.set_total_byte_size(uncompressed).build()?);
        Ok(())
    }

    /// Appends the described columns; how far they lie behind where their writer believes them to be.
    fn describe(
        &mut self,
        out: &mut impl Output,
        exchanges: &[Exchange],
        digests: &[encode::Digest],
    ) -> Result<i64> {
        let start = out.position();
        let mut columns = self.columns.create_column_writers(self.written.len())?;
        for (exchanges, digests) in exchanges.chunks(TURN).zip(digests.chunks(TURN)) {
            let batch = encode::described(exchanges, digests)?;
            let mut leaves = columns.iter_mut();
            for (field, column) in DESCRIBED.fields().iter().zip(batch.columns()) {
                for leaf in compute_leaves(field, column)? {
                    let writer = leaves.next().ok_or_else(|| broken(field.name()))?;
                    writer.write(&leaf)?;
                }
            }
            out.pause();
        }
        let mut group = self.described.next_row_group()?;
        for column in columns {
            column.close()?.append_to_row_group(&mut group)?;
            out.pause();
        }
        group.close()?;
        // The writer buffers: what it holds must reach the memory before that is moved.
        self.described.flush()?;
        let ends = self.chunk_ends()?;
        let memory = self.described.inner_mut();
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
        let group = self.described.flushed_row_groups().last();
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
