//! `outputs/*.parquet`: answers in the same `list<tensor>` column as a capture's.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow_array::builder::{StringBuilder, UInt64Builder};
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use ulid::Ulid;

use super::RunFileError;
use super::files::{RowReader, TableForm, TableReader, TableWriter};
use crate::capture::{Ulids, decode_tensors, encode_tensors, tensor_list};
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
        Field::new("outputs", tensor_list(payload), true),
        Field::new("error", DataType::Utf8, true),
    ]))
}

/// Payloads are views on both ways: bytes are neither copied into the writer nor out of the reader.
static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema(&DataType::BinaryView));

const FORM: TableForm = TableForm {
    repeated: &[
        "recorder",
        "outputs.list.item.name",
        "outputs.list.item.datatype",
        "outputs.list.item.payload",
        "outputs.list.item.message",
        "outputs.list.item.shape.list.item",
    ],
    payload: &["outputs.list.item.data"],
    ..TableForm::PLAIN
};

/// Answers are encoded once so many are buffered, or once they hold so many bytes.
const BATCH_ROWS: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;

/// Writes one file of answers, batch by batch: memory does not grow with the rows.
pub struct OutputWriter {
    table: TableWriter,
    rows: Vec<StoredAnswer>,
    bytes: usize,
}

impl OutputWriter {
    /// Begins a file; it is not there before [`Self::commit`].
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn create(path: &Path) -> Result<Self, RunFileError> {
        Ok(Self {
            table: TableWriter::create(path, &SCHEMA, &FORM)?,
            rows: Vec::new(),
            bytes: 0,
        })
    }

    /// Appends an answer.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn push(&mut self, row: StoredAnswer) -> Result<(), RunFileError> {
        let data = row.answer.iter().flatten().filter_map(|t| t.data.as_ref());
        self.bytes += data.map(Bytes::len).sum::<usize>();
        self.rows.push(row);
        if self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn commit(mut self) -> Result<(), RunFileError> {
        self.flush()?;
        self.table.commit()
    }

    fn flush(&mut self) -> Result<(), RunFileError> {
        let (mut recorder, mut seq, mut error) = (
            StringBuilder::new(),
            UInt64Builder::new(),
            StringBuilder::new(),
        );
        let mut text = [0; ulid::ULID_LEN];
        for row in &self.rows {
            recorder.append_value(row.recorder.array_to_str(&mut text));
            seq.append_value(row.seq);
            error.append_option(row.answer.as_ref().err());
        }
        let tensors = encode_tensors(self.rows.iter().map(|r| r.answer.as_deref().ok()))
            .map_err(|e| self.table.error(e))?;
        self.table.write(vec![
            Arc::new(recorder.finish()),
            Arc::new(seq.finish()),
            tensors,
            Arc::new(error.finish()),
        ])?;
        self.rows.clear();
        self.bytes = 0;
        Ok(())
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
        let table = TableReader::open(path, &SCHEMA, None)?;
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
    let column = |name: &str| batch.column_by_name(name).expect("read with SCHEMA");
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
