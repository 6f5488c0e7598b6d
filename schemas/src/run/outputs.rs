//! `outputs/*.parquet`: answers in the same `list<tensor>` column as a capture's.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::schema::types::{ColumnDescPtr, SchemaDescPtr};
use ulid::Ulid;

use super::RunFileError;
use super::files::{RowReader, TableReader};
use super::growing::{Buffers, Growing, LONG_TEXTS, parquet_columns};
use crate::capture::{Ulids, decode_tensors, tensor_list};
use crate::columns::{
    Chunk, Column, Descriptions, Numbers, Pages, Piece, Recorders, Texts, tensor_slots,
};
use crate::tensor::Tensor;

/// What a stage answered to one exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAnswer {
    /// Recorder of the exchange.
    pub recorder: Ulid,
    /// Number of the exchange.
    pub seq: u64,
    /// Outputs, or the stage's own words for why there are none.
    pub answer: Result<Vec<Tensor>, String>,
}

fn schema(payload: &DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("recorder", DataType::Utf8, false),
        Field::new("seq", DataType::UInt64, false),
        Field::new("outputs", tensor_list(Some(payload)), true),
        Field::new("error", DataType::Utf8, true),
    ]))
}

/// What readers see.
static STORED: LazyLock<SchemaRef> = LazyLock::new(|| schema(&DataType::LargeBinary));

/// What our own reader reads: payloads are views of the file's pages.
static VIEWS: LazyLock<SchemaRef> = LazyLock::new(|| schema(&DataType::BinaryView));

static COLUMNS: LazyLock<SchemaDescPtr> = LazyLock::new(|| parquet_columns(&STORED));

fn column(path: &str) -> &'static ColumnDescPtr {
    let mut columns = COLUMNS.columns().iter();
    columns
        .find(|c| c.path().string() == path)
        .expect("it is in the schema")
}

/// Answers are written once so many are held, or once they hold so many bytes: still in the second-level
/// cache, most of them.
const BATCH_ROWS: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

/// A row group ends once it has so many rows,
const GROUP_ROWS: usize = 1 << 16;

/// or so many bytes of payloads: some readers take no more than 2 GiB in one
/// column.
const GROUP_BYTES: u64 = 512 << 20;

/// Bytes of a column of one recorder, at most: two page headers, the text, and one run.
const ROOM: usize = 128;

/// Writes one file of answers: payloads go to it a page at a time, and what describes them is in memory
/// until the row group ends.
pub struct OutputWriter {
    growing: Growing,
    group: Option<Group>,
    columns: Columns,
    gathered: Vec<u8>,
    rows: Vec<StoredAnswer>,
    bytes: usize,
}

/// Memory of a writer, for the next one.
#[derive(Default)]
pub struct OutputBuffers {
    file: Buffers,
    columns: Columns,
    gathered: Vec<u8>,
    rows: Vec<StoredAnswer>,
}

/// A row group that grows: of one recorder, so that the first column's length hardly depends on the rows.
struct Group {
    /// Room for the first column, which must lie first (see [`crate::capture`]'s row groups) and is known
    /// last.
    start: u64,
    of: Ulid,
    payloads: Chunk,
    rows: usize,
}

/// What is known of a row group's rows once it ends: which exchange each answers, with what, or why not.
struct Columns {
    recorder: Recorders,
    seq: Numbers<u64>,
    tensors: Descriptions,
    error: Texts,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            recorder: Recorders::new(),
            seq: Numbers::new(),
            tensors: Descriptions::new(),
            error: Texts::new(),
        }
    }
}

impl Columns {
    fn push(&mut self, row: &StoredAnswer) {
        self.recorder.append_value(row.recorder);
        self.seq.append_value(row.seq);
        self.tensors.append_option(row.answer.as_deref().ok());
        let error = row.answer.as_ref().err();
        self.error.append_option(error.map(String::as_str));
    }
}

impl OutputWriter {
    /// Begins a file; it is not there before [`Self::commit`].
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn create(path: &Path, buffers: OutputBuffers) -> Result<Self, RunFileError> {
        Ok(Self {
            growing: Growing::create(path, &STORED, &COLUMNS, buffers.file)?,
            group: None,
            columns: buffers.columns,
            gathered: buffers.gathered,
            rows: buffers.rows,
            bytes: 0,
        })
    }

    /// Appends an answer.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn push(&mut self, row: StoredAnswer) -> Result<(), RunFileError> {
        let other = |group: &Group| group.of != row.recorder;
        let ended = match &self.group {
            _ if self.rows.last().is_some_and(|r| r.recorder != row.recorder) => {
                self.flush().and_then(|()| self.end_group())
            }
            Some(group) if self.rows.is_empty() && other(group) => self.end_group(),
            _ => Ok(()),
        };
        ended.map_err(|e| self.growing.error(e))?;
        self.bytes += match &row.answer {
            Ok(tensors) => tensors.iter().map(bytes).sum(),
            Err(why) => why.len(),
        };
        self.rows.push(row);
        if self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
            let written = self.flush();
            written.map_err(|e| self.growing.error(e))?;
        }
        Ok(())
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn commit(mut self) -> Result<OutputBuffers, RunFileError> {
        let written = self.flush().and_then(|()| self.end_group());
        written.map_err(|e| self.growing.error(e))?;
        Ok(OutputBuffers {
            file: self.growing.commit()?,
            columns: self.columns,
            gathered: self.gathered,
            rows: self.rows,
        })
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        let Some(first) = self.rows.first() else {
            return Ok(());
        };
        let group = match &mut self.group {
            Some(group) => group,
            none => none.insert(Group::begin(&mut self.growing, first.recorder)?),
        };
        self.gathered
            .reserve(self.bytes.min(BATCH_BYTES) + 16 * self.rows.len());
        let file = &mut self.growing.file;
        let mut pages = Pages::new(file, &mut group.payloads, &mut self.gathered);
        let mut entries = Vec::new();
        for row in &self.rows {
            tensor_slots(row.answer.as_deref().ok(), &mut entries);
            entries.drain(..).try_for_each(|entry| pages.push(entry))?;
            self.columns.push(row);
        }
        pages.end()?;
        group.rows += self.rows.len();
        self.rows.clear();
        self.bytes = 0;
        if group.rows >= GROUP_ROWS
            || self.columns.error.bytes() >= LONG_TEXTS
            || self.columns.tensors.bytes() >= LONG_TEXTS
            || group.payloads.bytes(&self.growing.file) >= GROUP_BYTES
        {
            self.end_group()?;
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), ParquetError> {
        let Some(group) = self.group.take() else {
            return Ok(());
        };
        let (columns, file) = (&mut self.columns, &mut self.growing.file);
        let scratch = &mut self.growing.scratch;
        let payloads = group.payloads.end(file)?;
        let mut first = Piece::at(group.start);
        let recorder = column("recorder");
        let recorder = columns.recorder.encode(recorder, &mut first, scratch)?;
        assert!(
            first.bytes.len() <= ROOM,
            "a column of one recorder is short"
        );
        file.fill(group.start, &first.bytes)?;
        let of_tensors = |name: &str| column(&format!("outputs.list.item.{name}"));
        let mut chunks = vec![recorder, columns.seq.encode(column("seq"), file, scratch)?];
        chunks.extend(columns.tensors.encode(of_tensors, file, scratch)?);
        chunks.push(payloads);
        chunks.push(columns.error.encode(column("error"), file, scratch)?);
        self.growing.end(chunks, group.rows, group.start)
    }
}

/// Of what of a tensor can be long.
fn bytes(tensor: &Tensor) -> usize {
    let parameters = tensor.parameters.as_ref().map_or(0, String::len);
    parameters + tensor.data.as_ref().map_or(0, Bytes::len)
}

impl Group {
    fn begin(growing: &mut Growing, of: Ulid) -> std::io::Result<Self> {
        let payload = column("outputs.list.item.data");
        Ok(Self {
            start: growing.file.leave(&[0; ROOM])?,
            of,
            payloads: Chunk::begin(payload.clone(), &growing.file),
            rows: 0,
        })
    }
}

/// Reads one file of answers in the order they were written, a few at a time.
pub struct OutputReader {
    rows: RowReader<StoredAnswer>,
}

impl OutputReader {
    /// Opens a file of answers.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn open(path: &Path) -> Result<Self, RunFileError> {
        let table = TableReader::open(path, &VIEWS, None)?;
        Ok(Self {
            rows: RowReader::new(table),
        })
    }
}

impl Iterator for OutputReader {
    type Item = Result<StoredAnswer, RunFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next(decode)
    }
}

fn decode(batch: &RecordBatch) -> Result<Vec<StoredAnswer>, String> {
    let column = |name: &str| batch.column_by_name(name).expect("read with VIEWS");
    let (recorder, error) = (column("recorder").as_string::<i32>(), column("error"));
    let (seq, error) = (column("seq"), error.as_string::<i32>());
    let seq = seq.as_primitive::<UInt64Type>();
    let outputs = decode_tensors(batch, "outputs")?;
    let mut ulids = Ulids::default();
    let answer = |(i, outputs): (usize, Option<Vec<Tensor>>)| {
        let why = || error.is_valid(i).then(|| error.value(i).to_owned());
        Ok(StoredAnswer {
            recorder: ulids.parse(recorder.value(i)).map_err(|e| e.to_string())?,
            seq: seq.value(i),
            answer: outputs.ok_or_else(|| why().unwrap_or_default()),
        })
    };
    outputs.into_iter().enumerate().map(answer).collect()
}
