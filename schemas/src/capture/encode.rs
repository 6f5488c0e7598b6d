//! `Exchange → RecordBatch`, with its payloads or without.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryViewBuilder, BooleanBuilder, FixedSizeBinaryBuilder, Float64Builder, Int32Builder,
    Int64Builder, StringBuilder, TimestampNanosecondBuilder, UInt16Builder, UInt32Builder,
    UInt64Builder,
};
use arrow_array::{ArrayRef, ListArray, RecordBatch, StructArray};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields};
use bytes::Bytes;

use super::schema::{DESCRIBED, VIEWS, header_fields, message_fields, tensor_fields};
use crate::exchange::{Exchange, Field as HeaderField, Message};
use crate::tensor::Tensor;

/// Values up to this length are copied into the builder's own block: sharing a buffer costs an
/// allocation and keeps the whole network buffer alive, a copy of this size costs less.
const COPIED_BELOW: usize = 4096;

/// A builder of payloads. Each shared buffer ends the block of copied values before it, and a block is
/// allocated whole: blocks that grow (to 2 MiB, the default) would waste that much per shared value.
fn views() -> BinaryViewBuilder {
    const BLOCK: u32 = 16 * 1024;
    BinaryViewBuilder::new().with_fixed_block_size(BLOCK)
}

/// An exchange's digest of its inputs.
pub(super) type Digest = Option<[u8; 16]>;

/// The rows of `exchanges` in [`DESCRIBED`] (all but recorders), with the digests of their inputs.
pub(super) fn described(
    exchanges: &[Exchange],
    digests: &[Digest],
) -> Result<RecordBatch, ArrowError> {
    let tensors =
        |of: fn(&Exchange) -> Option<&[Tensor]>| described_tensors(exchanges.iter().map(of));
    let columns = columns(exchanges, digests, tensors, Vec::new())?;
    RecordBatch::try_new(DESCRIBED.clone(), columns)
}

/// The rows of `exchanges` in [`VIEWS`]. Payload bytes are shared, not copied (values of at least 4 KiB).
pub(super) fn whole(exchanges: &[Exchange]) -> Result<RecordBatch, ArrowError> {
    let bodies = vec![
        payloads(exchanges.iter().map(|e| e.request_body.as_ref()))?,
        payloads(exchanges.iter().map(|e| e.response_body.as_ref()))?,
    ];
    let sides = |of: fn(&Exchange) -> Option<&[Tensor]>| tensors(exchanges.iter().map(of));
    let digests: Vec<Digest> = exchanges.iter().map(Exchange::digest_of_inputs).collect();
    let mut columns = columns(exchanges, &digests, sides, bodies)?;
    let mut recorder = StringBuilder::new();
    let mut text = [0; ulid::ULID_LEN];
    for e in exchanges {
        recorder.append_value(e.recorder.array_to_str(&mut text));
    }
    columns.insert(0, Arc::new(recorder.finish()));
    RecordBatch::try_new(VIEWS.clone(), columns)
}

/// The columns in the order of the schema, but for the first, that of recorders; `bodies` where those of
/// payloads are among them.
fn columns(
    exchanges: &[Exchange],
    digests: &[Digest],
    tensors: impl Fn(fn(&Exchange) -> Option<&[Tensor]>) -> Result<ArrayRef, ArrowError>,
    bodies: Vec<ArrayRef>,
) -> Result<Vec<ArrayRef>, ArrowError> {
    let each = |f: fn(&Exchange) -> &str| -> ArrayRef {
        let mut b = StringBuilder::new();
        exchanges.iter().for_each(|e| b.append_value(f(e)));
        Arc::new(b.finish())
    };
    let maybe = |f: fn(&Exchange) -> Option<&str>| -> ArrayRef {
        let mut b = StringBuilder::new();
        exchanges.iter().for_each(|e| b.append_option(f(e)));
        Arc::new(b.finish())
    };
    macro_rules! column {
        ($builder:expr, $e:ident => $value:expr) => {{
            let mut b = $builder;
            for $e in exchanges {
                b.append_option($value);
            }
            Arc::new(b.finish()) as ArrayRef
        }};
    }
    let mut digest = FixedSizeBinaryBuilder::with_capacity(exchanges.len(), 16);
    for of_inputs in digests {
        match of_inputs {
            Some(d) => digest.append_value(d)?,
            None => digest.append_null(),
        }
    }
    let time = TimestampNanosecondBuilder::new().with_timezone("UTC");
    let mut columns: Vec<ArrayRef> = vec![
        column!(UInt64Builder::new(), e => Some(e.seq)),
        each(|e| &e.id),
        column!(UInt32Builder::new(), e => Some(e.part)),
        column!(BooleanBuilder::new(), e => Some(e.last)),
        column!(time, e => Some(e.arrived_at_ns)),
        column!(UInt64Builder::new(), e => e.first_byte_ns),
        column!(UInt64Builder::new(), e => Some(e.end_ns)),
        each(|e| &e.protocol),
        maybe(|e| e.model.as_deref()),
        maybe(|e| e.model_version.as_deref()),
        maybe(|e| e.client_request_id.as_deref()),
        maybe(|e| e.sequence_id.as_deref()),
        maybe(|e| e.traceparent.as_deref()),
        each(|e| &e.method),
        each(|e| &e.path),
        maybe(|e| e.query.as_deref()),
        column!(UInt16Builder::new(), e => e.status),
        column!(Int32Builder::new(), e => e.grpc_status),
        maybe(|e| e.grpc_message.as_deref()),
        each(|e| e.outcome.name()),
        maybe(|e| e.error.as_deref()),
        headers(exchanges.iter().map(|e| e.request_headers.as_slice()))?,
        headers(exchanges.iter().map(|e| e.response_headers.as_slice()))?,
        maybe(|e| e.parameters.as_deref()),
        names(exchanges.iter().map(|e| e.requested_outputs.as_deref()))?,
        Arc::new(digest.finish()),
        tensors(|e| e.inputs.as_deref())?,
        tensors(|e| e.outputs.as_deref())?,
        messages(exchanges.iter().map(|e| e.request_messages.as_deref()))?,
        messages(exchanges.iter().map(|e| e.response_messages.as_deref()))?,
    ];
    columns.extend(bodies);
    columns.push(maybe(|e| e.decode_error.as_deref()));
    columns.push(column!(Float64Builder::new(), e => Some(e.sample_rate)));
    Ok(columns)
}

/// A list column whose row `i` holds `lengths[i]` of the child's values; `None` is a null row.
fn list_of(
    item: DataType,
    lengths: &[Option<usize>],
    values: ArrayRef,
) -> Result<ArrayRef, ArrowError> {
    let offsets = OffsetBuffer::from_lengths(lengths.iter().map(|n| n.unwrap_or(0)));
    let nulls = NullBuffer::from_iter(lengths.iter().map(Option::is_some));
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    let item = Arc::new(Field::new("item", item, false));
    Ok(Arc::new(ListArray::try_new(item, offsets, values, nulls)?))
}

fn struct_of(fields: &Fields, columns: Vec<ArrayRef>) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(StructArray::try_new(
        fields.clone(),
        columns,
        None,
    )?))
}

fn headers<'a>(rows: impl Iterator<Item = &'a [HeaderField]>) -> Result<ArrayRef, ArrowError> {
    let (mut lengths, mut name, mut value) =
        (Vec::new(), StringBuilder::new(), StringBuilder::new());
    for row in rows {
        lengths.push(Some(row.len()));
        for (n, v) in row {
            name.append_value(n);
            value.append_value(v);
        }
    }
    let fields = header_fields();
    let values = struct_of(
        &fields,
        vec![Arc::new(name.finish()), Arc::new(value.finish())],
    )?;
    list_of(DataType::Struct(fields), &lengths, values)
}

fn names<'a>(rows: impl Iterator<Item = Option<&'a [String]>>) -> Result<ArrayRef, ArrowError> {
    let (mut lengths, mut name) = (Vec::new(), StringBuilder::new());
    for row in rows {
        lengths.push(row.map(<[_]>::len));
        row.into_iter().flatten().for_each(|n| name.append_value(n));
    }
    list_of(DataType::Utf8, &lengths, Arc::new(name.finish()))
}

fn messages<'a>(rows: impl Iterator<Item = Option<&'a [Message]>>) -> Result<ArrayRef, ArrowError> {
    let mut lengths = Vec::new();
    let (mut at, mut offset, mut length) = (
        UInt64Builder::new(),
        UInt64Builder::new(),
        UInt64Builder::new(),
    );
    let (mut id, mut error) = (StringBuilder::new(), StringBuilder::new());
    for row in rows {
        lengths.push(row.map(<[_]>::len));
        for m in row.into_iter().flatten() {
            at.append_value(m.at_ns);
            offset.append_value(m.offset);
            length.append_value(m.length);
            id.append_option(m.id.as_deref());
            error.append_option(m.error.as_deref());
        }
    }
    let fields = message_fields();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(at.finish()),
        Arc::new(offset.finish()),
        Arc::new(length.finish()),
        Arc::new(id.finish()),
        Arc::new(error.finish()),
    ];
    let values = struct_of(&fields, columns)?;
    list_of(DataType::Struct(fields), &lengths, values)
}

fn payloads<'a>(rows: impl Iterator<Item = Option<&'a Bytes>>) -> Result<ArrayRef, ArrowError> {
    let mut builder = views();
    for row in rows {
        append_payload(&mut builder, row)?;
    }
    Ok(Arc::new(builder.finish()))
}

fn append_payload(builder: &mut BinaryViewBuilder, data: Option<&Bytes>) -> Result<(), ArrowError> {
    match data {
        None => builder.append_null(),
        Some(data) if data.len() < COPIED_BELOW => builder.append_value(data),
        Some(data) => {
            let length = u32::try_from(data.len()).map_err(|_| {
                ArrowError::InvalidArgumentError(format!(
                    "a payload of {} bytes passed the 1 GiB cap",
                    data.len()
                ))
            })?;
            let block = builder.append_block(Buffer::from(data.clone()));
            builder.try_append_view(block, 0, length)?;
        }
    }
    Ok(())
}

/// Tensors with their data. Payload bytes are shared, not copied (values of at least 4 KiB).
fn tensors<'a>(
    rows: impl Iterator<Item = Option<&'a [Tensor]>> + Clone,
) -> Result<ArrayRef, ArrowError> {
    let mut data = views();
    for tensor in rows.clone().flatten().flatten() {
        append_payload(&mut data, tensor.data.as_ref())?;
    }
    let (lengths, mut columns) = descriptions(rows)?;
    columns.push(Arc::new(data.finish()));
    let fields = tensor_fields(Some(&DataType::BinaryView));
    let values = struct_of(&fields, columns)?;
    list_of(DataType::Struct(fields), &lengths, values)
}

/// Tensors without their data.
fn described_tensors<'a>(
    rows: impl Iterator<Item = Option<&'a [Tensor]>>,
) -> Result<ArrayRef, ArrowError> {
    let (lengths, columns) = descriptions(rows)?;
    let fields = tensor_fields(None);
    let values = struct_of(&fields, columns)?;
    list_of(DataType::Struct(fields), &lengths, values)
}

/// Tensors in each row (`None`: a null row), and a column for each field but the data.
type Descriptions = (Vec<Option<usize>>, Vec<ArrayRef>);

fn descriptions<'a>(
    rows: impl Iterator<Item = Option<&'a [Tensor]>>,
) -> Result<Descriptions, ArrowError> {
    let mut lengths = Vec::new();
    let (mut name, mut datatype, mut payload, mut parameters) = (
        StringBuilder::new(),
        StringBuilder::new(),
        StringBuilder::new(),
        StringBuilder::new(),
    );
    let mut message = UInt32Builder::new();
    let (mut ranks, mut dims) = (Vec::new(), Int64Builder::new());
    for row in rows {
        lengths.push(row.map(<[_]>::len));
        for t in row.into_iter().flatten() {
            name.append_value(&t.name);
            message.append_value(t.message);
            datatype.append_value(t.datatype.name());
            ranks.push(Some(t.shape.len()));
            dims.append_slice(&t.shape);
            payload.append_value(t.payload.name());
            parameters.append_option(t.parameters.as_deref());
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(name.finish()),
        Arc::new(message.finish()),
        Arc::new(datatype.finish()),
        list_of(DataType::Int64, &ranks, Arc::new(dims.finish()))?,
        Arc::new(payload.finish()),
        Arc::new(parameters.finish()),
    ];
    Ok((lengths, columns))
}
