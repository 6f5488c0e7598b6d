//! `requests.parquet`: what judging needs to know of each exchange, so that it works when the
//! capture is gone.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow_array::builder::{
    FixedSizeBinaryBuilder, Float64Builder, Int64Builder, StringBuilder, UInt64Builder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use ulid::Ulid;

use super::RunFileError;
use super::files::{TableReader, write_batch};
use crate::Exchange;
use crate::capture::Ulids;

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
            request_headers: serde_json::to_string(&e.request_headers)
                .expect("pairs of strings always serialise"),
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
    let mut text = String::new();
    for tensor in e.inputs.iter().flatten() {
        if !text.is_empty() {
            text.push(';');
        }
        text.push_str(&tensor.name);
        text.push('[');
        for (i, dimension) in tensor.shape.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(text, "{comma}{dimension}").expect("a String takes all");
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

/// Commits `requests.parquet`.
///
/// # Errors
/// [`RunFileError`].
pub fn write_requests(path: &Path, rows: &[RequestRow]) -> Result<(), RunFileError> {
    let fail = |e: arrow_schema::ArrowError| RunFileError::new("write", path, e);
    macro_rules! column {
        ($builder:ty, $r:ident => $value:expr) => {{
            let mut b = <$builder>::new();
            for $r in rows {
                b.append_option($value);
            }
            Arc::new(b.finish()) as ArrayRef
        }};
    }
    let mut digest = FixedSizeBinaryBuilder::new(16);
    for r in rows {
        match &r.input_digest {
            Some(d) => digest.append_value(d).map_err(fail)?,
            None => digest.append_null(),
        }
    }
    let mut recorders = StringBuilder::new();
    for r in rows {
        let mut text = [0; ulid::ULID_LEN];
        recorders.append_value(r.recorder.array_to_str(&mut text));
    }
    let columns = vec![
        Arc::new(recorders.finish()) as ArrayRef,
        column!(UInt64Builder, r => Some(r.seq)),
        column!(StringBuilder, r => r.client_request_id.as_deref()),
        Arc::new(digest.finish()) as ArrayRef,
        column!(StringBuilder, r => r.model.as_deref()),
        column!(StringBuilder, r => r.model_version.as_deref()),
        column!(StringBuilder, r => Some(&r.request_headers)),
        column!(Float64Builder, r => Some(r.sample_rate)),
        column!(Int64Builder, r => Some(r.arrived_at_ns)),
        column!(StringBuilder, r => Some(&r.shapes)),
        column!(StringBuilder, r => r.sequence_id.as_deref()),
    ];
    write_batch(
        path,
        &RecordBatch::try_new(SCHEMA.clone(), columns).map_err(fail)?,
    )
}

/// Reads `requests.parquet`.
///
/// # Errors
/// [`RunFileError`].
pub fn read_requests(path: &Path) -> Result<Vec<RequestRow>, RunFileError> {
    let mut rows = Vec::new();
    let mut ulids = Ulids::default();
    for batch in TableReader::open(path, &SCHEMA)? {
        let batch = batch?;
        rows.reserve(batch.num_rows());
        let column = |name: &str| batch.column_by_name(name).expect("read with SCHEMA");
        let texts = |name: &str| column(name).as_string::<i32>();
        let text =
            |array: &StringArray, i: usize| array.is_valid(i).then(|| array.value(i).to_owned());
        let digest = column("input_digest").as_fixed_size_binary();
        let (recorder, client_request_id) = (texts("recorder"), texts("client_request_id"));
        let (model, model_version) = (texts("model"), texts("model_version"));
        let (headers, shapes) = (texts("request_headers"), texts("shapes"));
        let sequence_id = texts("sequence_id");
        let seq = column("seq").as_primitive::<UInt64Type>();
        let sample_rate = column("sample_rate").as_primitive::<Float64Type>();
        let arrived_at_ns = column("arrived_at_ns").as_primitive::<Int64Type>();
        for i in 0..batch.num_rows() {
            rows.push(RequestRow {
                recorder: ulids
                    .parse(recorder.value(i))
                    .map_err(|e| RunFileError::new("read", path, e))?,
                seq: seq.value(i),
                client_request_id: text(client_request_id, i),
                input_digest: digest.is_valid(i).then(|| {
                    digest
                        .value(i)
                        .try_into()
                        .expect("the column is 16 bytes wide")
                }),
                model: text(model, i),
                model_version: text(model_version, i),
                request_headers: headers.value(i).to_owned(),
                sample_rate: sample_rate.value(i),
                arrived_at_ns: arrived_at_ns.value(i),
                shapes: shapes.value(i).to_owned(),
                sequence_id: text(sequence_id, i),
            });
        }
    }
    Ok(rows)
}
