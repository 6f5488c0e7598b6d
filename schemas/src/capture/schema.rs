//! The Arrow schema of a capture's rows and the Parquet properties of each column.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::{ColumnPath, SchemaDescPtr};

use crate::columns::CREATED_BY;

/// Leaf paths of the columns that carry payload bytes, as a Parquet footer spells them.
pub const PAYLOAD_COLUMNS: [&str; 4] = [
    "inputs.list.item.data",
    "outputs.list.item.data",
    "request_body",
    "response_body",
];

/// The schema that readers see: payloads are `large_binary`.
pub static STORED: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(schema(Some(&DataType::LargeBinary))));

/// The schema that our own reader reads and encrypted segments are written with: payloads are views,
/// so that the bytes of the file are handed to the engine without a copy.
pub(super) static VIEWS: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(schema(Some(&DataType::BinaryView))));

/// What goes through the general Parquet writer: all columns but that of recorders, which is the first, and
/// those of payloads, which [`super::row_group`] writes.
pub(super) static DESCRIBED: LazyLock<SchemaRef> = LazyLock::new(|| {
    let all = schema(None);
    let rest = all.fields().iter().skip(1).cloned();
    Arc::new(Schema::new(rest.collect::<Fields>()))
});

/// The Parquet columns of [`STORED`].
pub(super) static COLUMNS: LazyLock<SchemaDescPtr> = LazyLock::new(|| {
    let columns = ArrowSchemaConverter::new().convert(&STORED);
    Arc::new(columns.expect("every type of the schema has a Parquet type"))
});

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, false)))
}

/// With `data` of type `payload`, or without it.
pub(super) fn tensor_fields(payload: Option<&DataType>) -> Fields {
    let data = payload.map(|payload| Field::new("data", payload.clone(), true));
    let described = [
        Field::new("name", DataType::Utf8, false),
        Field::new("message", DataType::UInt32, false),
        Field::new("datatype", DataType::Utf8, false),
        Field::new("shape", list(DataType::Int64), false),
        Field::new("payload", DataType::Utf8, false),
        Field::new("parameters", DataType::Utf8, true),
    ];
    described.into_iter().chain(data).collect()
}

/// The type of `inputs` and `outputs`, payloads as `payload` or left out.
pub(crate) fn tensor_list(payload: Option<&DataType>) -> DataType {
    list(DataType::Struct(tensor_fields(payload)))
}

pub(super) fn message_fields() -> Fields {
    Fields::from(vec![
        Field::new("at_ns", DataType::UInt64, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("length", DataType::UInt64, false),
        Field::new("id", DataType::Utf8, true),
        Field::new("error", DataType::Utf8, true),
    ])
}

pub(super) fn header_fields() -> Fields {
    Fields::from(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, false),
    ])
}

fn schema(payload: Option<&DataType>) -> Schema {
    let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let tensors = || tensor_list(payload);
    let body = |name| payload.map(|payload| Field::new(name, payload.clone(), true));
    let messages = || list(DataType::Struct(message_fields()));
    let headers = || list(DataType::Struct(header_fields()));
    let described = [
        Field::new("recorder", DataType::Utf8, false),
        Field::new("seq", DataType::UInt64, false),
        Field::new("id", DataType::Utf8, false),
        Field::new("part", DataType::UInt32, false),
        Field::new("last", DataType::Boolean, false),
        Field::new("arrived_at", time, false),
        Field::new("first_byte_ns", DataType::UInt64, true),
        Field::new("end_ns", DataType::UInt64, false),
        Field::new("protocol", DataType::Utf8, false),
        Field::new("model", DataType::Utf8, true),
        Field::new("model_version", DataType::Utf8, true),
        Field::new("client_request_id", DataType::Utf8, true),
        Field::new("sequence_id", DataType::Utf8, true),
        Field::new("traceparent", DataType::Utf8, true),
        Field::new("method", DataType::Utf8, false),
        Field::new("path", DataType::Utf8, false),
        Field::new("query", DataType::Utf8, true),
        Field::new("status", DataType::UInt16, true),
        Field::new("grpc_status", DataType::Int32, true),
        Field::new("grpc_message", DataType::Utf8, true),
        Field::new("outcome", DataType::Utf8, false),
        Field::new("error", DataType::Utf8, true),
        Field::new("request_headers", headers(), false),
        Field::new("response_headers", headers(), false),
        Field::new("parameters", DataType::Utf8, true),
        Field::new("requested_outputs", list(DataType::Utf8), true),
        Field::new("input_digest", DataType::FixedSizeBinary(16), true),
        Field::new("inputs", tensors(), true),
        Field::new("outputs", tensors(), true),
        Field::new("request_messages", messages(), true),
        Field::new("response_messages", messages(), true),
    ];
    let rest = [
        Field::new("decode_error", DataType::Utf8, true),
        Field::new("sample_rate", DataType::Float64, false),
    ];
    let bodies = [body("request_body"), body("response_body")];
    let all = described
        .into_iter()
        .chain(bodies.into_iter().flatten())
        .chain(rest);
    Schema::new(all.collect::<Fields>())
}

/// Writer properties: payloads plain, without dictionary, statistics or compression; the rest
/// dictionary-encoded and Snappy-compressed, which every reader knows.
///
/// No page index: a checkpoint footer is written while the file still grows, and the index would
/// have to be repeated in each. Row groups end only where a checkpoint ends them.
pub(super) fn properties() -> WriterProperties {
    let base = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_statistics_truncate_length(Some(32))
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(None)
        .set_max_row_group_bytes(None);
    // Bounds are of use where a reader prunes by them; elsewhere they only make footers longer,
    // and every footer repeats those of all earlier row groups.
    let pruned_by = [
        "recorder",
        "seq",
        "arrived_at",
        "model",
        "client_request_id",
        "status",
    ];
    let builder = leaf_paths().into_iter().fold(base, |b, leaf| {
        if pruned_by.contains(&leaf.as_str()) {
            b
        } else {
            b.set_column_statistics_enabled(path(&leaf), EnabledStatistics::None)
        }
    });
    // Unique in each row: a dictionary would only be built and thrown away.
    let builder = [
        "id",
        "client_request_id",
        "seq",
        "arrived_at",
        "end_ns",
        "first_byte_ns",
    ]
    .into_iter()
    .fold(builder, |b, leaf| {
        b.set_column_dictionary_enabled(path(leaf), false)
    });
    PAYLOAD_COLUMNS
        .into_iter()
        .fold(builder, plain_payload)
        .build()
}

fn plain_payload(builder: WriterPropertiesBuilder, leaf: &str) -> WriterPropertiesBuilder {
    builder
        .set_column_dictionary_enabled(path(leaf), false)
        .set_column_statistics_enabled(path(leaf), EnabledStatistics::None)
        .set_column_compression(path(leaf), Compression::UNCOMPRESSED)
}

fn path(leaf: &str) -> ColumnPath {
    ColumnPath::from(leaf.split('.').map(str::to_owned).collect::<Vec<_>>())
}

/// The leaf paths of the schema in the order of the Parquet columns.
pub fn leaf_paths() -> Vec<String> {
    fn walk(prefix: &str, field: &Field, out: &mut Vec<String>) {
        let name = if prefix.is_empty() {
            field.name().clone()
        } else {
            format!("{prefix}.{}", field.name())
        };
        match field.data_type() {
            DataType::List(item) => walk(&format!("{name}.list"), item, out),
            DataType::Struct(fields) => fields.iter().for_each(|f| walk(&name, f, out)),
            _ => out.push(name),
        }
    }
    let mut out = Vec::new();
    STORED.fields().iter().for_each(|f| walk("", f, &mut out));
    out
}
