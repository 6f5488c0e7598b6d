//! `requests.parquet`: what judging needs to know of each exchange, so that it works when the
//! capture is gone.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_array::{Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::SchemaDescPtr;
use ulid::Ulid;

use super::RunFileError;
use super::files::{RowReader, TableReader};
use super::growing::{Buffers, Growing, columns, parquet_columns};
use crate::Exchange;
use crate::capture::Ulids;
use crate::columns::{Column, Numbers, PlainTexts, Recorders, Texts};

/// One replayed exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestRow {
    /// Recorder.
    pub recorder: Ulid,
    /// Number.
    pub seq: u64,
    /// The client's id.
    pub client_request_id: Option<String>,
    /// Digest of the inputs.
    pub input_digest: Option<[u8; 16]>,
    /// Model.
    pub model: Option<String>,
    /// Version.
    pub model_version: Option<String>,
    /// Allow-listed request headers as a JSON list of pairs.
    pub request_headers: String,
    /// Probability with which it was sampled.
    pub sample_rate: f64,
    /// Arrival, ns since the Unix epoch.
    pub arrived_at_ns: i64,
    /// Inputs' shapes, `x[1,3,224,224];mask[1,128]`.
    pub shapes: String,
    /// The client's sequence, as text.
    pub sequence_id: Option<String>,
}

impl RequestRow {
    /// The row of an exchange.
    pub fn of(e: Exchange) -> Self {
        Self {
            shapes: shapes(&e),
            recorder: e.recorder,
            seq: e.seq,
            client_request_id: e.client_request_id,
            input_digest: e.input_digest,
            model: e.model,
            model_version: e.model_version,
            request_headers: match &e.request_headers[..] {
                [] => "[]".to_owned(),
                some => serde_json::to_string(some).expect("pairs of strings always serialise"),
            },
            sample_rate: e.sample_rate,
            arrived_at_ns: e.arrived_at_ns,
            sequence_id: e.sequence_id,
        }
    }

    /// The first request header of that name, ASCII case ignored.
    pub fn header(&self, name: &str) -> Option<String> {
        let headers: Vec<(String, String)> =
            serde_json::from_str(&self.request_headers).unwrap_or_default();
        headers
            .into_iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }
}

fn shapes(e: &Exchange) -> String {
    let mut text = String::with_capacity(32);
    for tensor in e.inputs.iter().flatten() {
        if !text.is_empty() {
            text.push(';');
        }
        text.push_str(&tensor.name);
        text.push('[');
        for (i, dimension) in tensor.shape.iter().enumerate() {
            if i > 0 {
                text.push(',');
            }
            write!(text, "{dimension}").expect("a String takes all");
        }
        text.push(']');
    }
    text
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("recorder", DataType::Utf8, false),
        Field::new("seq", DataType::UInt64, false),
        Field::new("client_request_id", DataType::Utf8, true),
        Field::new("input_digest", DataType::FixedSizeBinary(16), true),
        Field::new("model", DataType::Utf8, true),
        Field::new("model_version", DataType::Utf8, true),
        Field::new("request_headers", DataType::Utf8, false),
        Field::new("sample_rate", DataType::Float64, false),
        Field::new("arrived_at_ns", DataType::Int64, false),
        Field::new("shapes", DataType::Utf8, false),
        Field::new("sequence_id", DataType::Utf8, true),
    ]))
});

static COLUMNS: LazyLock<SchemaDescPtr> = LazyLock::new(|| parquet_columns(&SCHEMA));

columns! {
    COLUMNS:
    recorder: Recorders,
    seq: Numbers<u64>,
    client_request_id: PlainTexts,
    input_digest: Numbers<[u8; 16]>,
    model: Texts,
    model_version: Texts,
    request_headers: Texts,
    sample_rate: Numbers<f64>,
    arrived_at_ns: Numbers<i64>,
    shapes: Texts,
    sequence_id: Texts,
}

/// Rows of a row group, and bytes of its texts, at most: the writer holds it in memory.
const GROUP_ROWS: usize = 8 << 10;
const GROUP_BYTES: usize = 8 << 20;

/// Writes `requests.parquet`, row by row: memory does not grow with the rows.
pub struct RequestWriter {
    growing: Growing,
    columns: Columns,
    /// Of the row group.
    rows: usize,
}

impl RequestWriter {
    /// Begins a file; it is not there before [`Self::commit`].
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn create(path: &Path) -> Result<Self, RunFileError> {
        Ok(Self {
            growing: Growing::create(path, &SCHEMA, &COLUMNS, Buffers::default())?,
            columns: Columns::default(),
            rows: 0,
        })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn push(&mut self, row: &RequestRow) -> Result<(), RunFileError> {
        let c = &mut self.columns;
        c.recorder.append_value(row.recorder);
        c.seq.append_value(row.seq);
        c.client_request_id
            .append_option(row.client_request_id.as_deref());
        c.input_digest.append_option(row.input_digest);
        c.model.append_option(row.model.as_deref());
        c.model_version.append_option(row.model_version.as_deref());
        c.request_headers.append_value(&row.request_headers);
        c.sample_rate.append_value(row.sample_rate);
        c.arrived_at_ns.append_value(row.arrived_at_ns);
        c.shapes.append_value(&row.shapes);
        c.sequence_id.append_option(row.sequence_id.as_deref());
        self.rows += 1;
        let bytes = c.client_request_id.bytes()
            + c.request_headers.bytes()
            + c.shapes.bytes()
            + c.sequence_id.bytes();
        if self.rows >= GROUP_ROWS || bytes >= GROUP_BYTES {
            let ended = self.end_group();
            ended.map_err(|e| self.growing.error(e))?;
        }
        Ok(())
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn commit(mut self) -> Result<(), RunFileError> {
        let ended = self.end_group();
        ended.map_err(|e| self.growing.error(e))?;
        self.growing.commit().map(drop)
    }

    fn end_group(&mut self) -> Result<(), ParquetError> {
        match std::mem::take(&mut self.rows) {
            0 => Ok(()),
            rows => self
                .growing
                .row_group(rows, |out, scratch| self.columns.encode(out, scratch)),
        }
    }
}

/// What of the rows is read; the rest of a [`RequestRow`] is then empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestColumns {
    /// Recorder, number and sampling rate.
    Keys,
    /// These and the client's id.
    Ids,
    /// Everything.
    All,
}

impl RequestColumns {
    fn names(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Keys => Some(&["recorder", "seq", "sample_rate"]),
            Self::Ids => Some(&["recorder", "seq", "sample_rate", "client_request_id"]),
            Self::All => None,
        }
    }
}

/// Reads `requests.parquet` in the order of the capture, a few rows at a time.
pub struct RequestReader {
    rows: RowReader<RequestRow>,
    ulids: Ulids,
}

impl RequestReader {
    /// Opens `requests.parquet`.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn open(path: &Path, columns: RequestColumns) -> Result<Self, RunFileError> {
        let table = TableReader::open(path, &SCHEMA, columns.names())?;
        Ok(Self {
            rows: RowReader::new(table),
            ulids: Ulids::default(),
        })
    }
}

impl Iterator for RequestReader {
    type Item = Result<RequestRow, RunFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next(|batch| decode(batch, &mut self.ulids))
    }
}

fn decode(batch: &RecordBatch, ulids: &mut Ulids) -> Result<Vec<RequestRow>, String> {
    // A column that was not asked for is not there; those that are have SCHEMA's types.
    let texts = |name: &str| batch.column_by_name(name).map(|c| c.as_string::<i32>());
    let text = |array: Option<&StringArray>, i: usize| {
        let array = array.filter(|a| a.is_valid(i))?;
        Some(array.value(i).to_owned())
    };
    let key = |name: &str| batch.column_by_name(name).expect("keys are always read");
    let recorder = key("recorder").as_string::<i32>();
    let seq = key("seq").as_primitive::<UInt64Type>();
    let sample_rate = key("sample_rate").as_primitive::<Float64Type>();
    let client_request_id = texts("client_request_id");
    let digest = batch.column_by_name("input_digest");
    let digest = digest.map(|c| c.as_fixed_size_binary());
    let (model, model_version) = (texts("model"), texts("model_version"));
    let (headers, shapes) = (texts("request_headers"), texts("shapes"));
    let sequence_id = texts("sequence_id");
    let arrived_at_ns = batch.column_by_name("arrived_at_ns");
    let arrived_at_ns = arrived_at_ns.map(|c| c.as_primitive::<Int64Type>());
    let mut row = |i: usize| {
        Ok::<_, String>(RequestRow {
            recorder: ulids.parse(recorder.value(i)).map_err(|e| e.to_string())?,
            seq: seq.value(i),
            client_request_id: text(client_request_id, i),
            input_digest: digest.filter(|d| d.is_valid(i)).map(|d| {
                let bytes = d.value(i).try_into();
                bytes.expect("the column is 16 bytes wide")
            }),
            model: text(model, i),
            model_version: text(model_version, i),
            request_headers: text(headers, i).unwrap_or_default(),
            sample_rate: sample_rate.value(i),
            arrived_at_ns: arrived_at_ns.map_or(0, |a| a.value(i)),
            shapes: text(shapes, i).unwrap_or_default(),
            sequence_id: text(sequence_id, i),
        })
    };
    let mut rows = Vec::with_capacity(batch.num_rows());
    for i in 0..batch.num_rows() {
        rows.push(row(i)?);
    }
    Ok(rows)
}
