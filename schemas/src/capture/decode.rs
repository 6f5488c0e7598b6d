//! `RecordBatch → Exchange`: the reader's half of `encode`.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, BinaryViewArray, LargeBinaryArray, RecordBatch, StructArray};
use arrow_buffer::Buffer;
use arrow_data::{ByteView, MAX_INLINE_VIEW_LEN};
use bytes::Bytes;
use ulid::Ulid;

use super::Projection;
use crate::exchange::{Exchange, Field, Message, Outcome};
use crate::tensor::{Datatype, Payload, Tensor};

/// Columns may be missing where a projection left them out; a missing nullable column reads as
/// null, so the caller must know what it asked for.
pub(super) fn decode(batch: &RecordBatch, projection: Projection) -> Result<Vec<Exchange>, String> {
    let texts = |name| Text::of(batch, name);
    let (recorder, outcome) = (texts("recorder")?, texts("outcome")?);
    // Without value where the projection leaves them out.
    let tensors_only = projection == Projection::Tensors;
    let few = tensors_only || projection == Projection::Requests;
    let (id, protocol, method, path) = (
        texts("id")?.or_empty(few),
        texts("protocol")?.or_empty(tensors_only),
        texts("method")?.or_empty(few),
        texts("path")?.or_empty(few),
    );
    let (model, version, client_id, sequence, trace) = (
        texts("model")?,
        texts("model_version")?,
        texts("client_request_id")?,
        texts("sequence_id")?,
        texts("traceparent")?,
    );
    let (query, grpc_message, error, parameters, decode_error) = (
        texts("query")?,
        texts("grpc_message")?,
        texts("error")?,
        texts("parameters")?,
        texts("decode_error")?,
    );
    let mut inputs = tensors(batch, "inputs")?;
    let mut outputs = tensors(batch, "outputs")?;
    let mut request_messages = messages(batch, "request_messages")?;
    let mut response_messages = messages(batch, "response_messages")?;
    let mut request_headers = headers(batch, "request_headers")?;
    let mut response_headers = headers(batch, "response_headers")?;
    let mut requested = names(batch, "requested_outputs")?;
    let request_body = Blob::of(batch.column_by_name("request_body"))?;
    let response_body = Blob::of(batch.column_by_name("response_body"))?;
    let digest = batch
        .column_by_name("input_digest")
        .and_then(|c| c.as_fixed_size_binary_opt());
    let last = batch
        .column_by_name("last")
        .and_then(|c| c.as_boolean_opt())
        .ok_or("column `last` is missing")?;
    let seq = numbers::<UInt64Type>(batch, "seq")?;
    let part = numbers::<UInt32Type>(batch, "part")?;
    let arrived = numbers::<TimestampNanosecondType>(batch, "arrived_at")?;
    let first_byte = numbers::<UInt64Type>(batch, "first_byte_ns")?;
    let end = numbers::<UInt64Type>(batch, "end_ns")?;
    let status = numbers::<UInt16Type>(batch, "status")?;
    let grpc_status = numbers::<Int32Type>(batch, "grpc_status")?;
    let sample_rate = numbers::<Float64Type>(batch, "sample_rate")?;
    let (no_time, no_end) = (tensors_only.then_some(0), tensors_only.then_some(0));
    let no_rate = tensors_only.then_some(1.0);
    let mut ulids = Ulids::default();
    each(batch.num_rows(), |i| {
        Ok(Exchange {
            recorder: ulids
                .parse(recorder.need(i)?)
                .map_err(|e| format!("row {i}: recorder is no ULID: {e}"))?,
            seq: need(&seq, i, "seq")?,
            id: id.need(i)?.to_owned(),
            part: need(&part, i, "part")?,
            last: last.value(i),
            arrived_at_ns: or(no_time, &arrived, i, "arrived_at")?,
            first_byte_ns: first_byte[i],
            end_ns: or(no_end, &end, i, "end_ns")?,
            protocol: protocol.need(i)?.to_owned(),
            model: model.get(i),
            model_version: version.get(i),
            client_request_id: client_id.get(i),
            sequence_id: sequence.get(i),
            traceparent: trace.get(i),
            method: method.need(i)?.to_owned(),
            path: path.need(i)?.to_owned(),
            query: query.get(i),
            status: status[i],
            grpc_status: grpc_status[i],
            grpc_message: grpc_message.get(i),
            outcome: Outcome::from_name(outcome.need(i)?)
                .ok_or_else(|| format!("row {i}: unknown outcome"))?,
            error: error.get(i),
            request_headers: std::mem::take(&mut request_headers[i]),
            response_headers: std::mem::take(&mut response_headers[i]),
            parameters: parameters.get(i),
            requested_outputs: requested[i].take(),
            input_digest: digest
                .filter(|d| d.is_valid(i))
                .and_then(|d| d.value(i).try_into().ok()),
            inputs: inputs[i].take(),
            outputs: outputs[i].take(),
            request_messages: request_messages[i].take(),
            response_messages: response_messages[i].take(),
            request_body: request_body.get(i),
            response_body: response_body.get(i),
            decode_error: decode_error.get(i),
            sample_rate: or(no_rate, &sample_rate, i, "sample_rate")?,
        })
    })
}

/// The rows of a batch, or the first error. Collecting results knows no length beforehand, and exchanges
/// are large to move.
fn each<T>(rows: usize, mut row: impl FnMut(usize) -> Result<T, String>) -> Result<Vec<T>, String> {
    let mut out = Vec::with_capacity(rows);
    for i in 0..rows {
        out.push(row(i)?);
    }
    Ok(out)
}

/// Parses each run of equal texts once: neighbours are mostly of one recorder.
#[derive(Default)]
pub(crate) struct Ulids {
    last: Option<(String, Ulid)>,
}

impl Ulids {
    pub fn parse(&mut self, text: &str) -> Result<Ulid, ulid::DecodeError> {
        match &self.last {
            Some((known, ulid)) if known == text => Ok(*ulid),
            _ => {
                let ulid = Ulid::from_string(text)?;
                self.last = Some((text.to_owned(), ulid));
                Ok(ulid)
            }
        }
    }
}

struct Text<'a> {
    name: &'static str,
    array: Option<&'a arrow_array::StringArray>,
    /// A column that is not there reads as empty.
    or_empty: bool,
}

impl<'a> Text<'a> {
    fn of(batch: &'a RecordBatch, name: &'static str) -> Result<Self, String> {
        Self::from(batch.column_by_name(name), name)
    }

    fn from(column: Option<&'a ArrayRef>, name: &'static str) -> Result<Self, String> {
        let array = match column {
            None => None,
            Some(c) => Some(c.as_string_opt().ok_or_else(|| wrong_type(name, c))?),
        };
        Ok(Self {
            name,
            array,
            or_empty: false,
        })
    }

    fn or_empty(self, or_empty: bool) -> Self {
        Self { or_empty, ..self }
    }

    fn at(&self, i: usize) -> Option<&'a str> {
        self.array.filter(|a| a.is_valid(i)).map(|a| a.value(i))
    }

    fn get(&self, i: usize) -> Option<String> {
        self.at(i).map(str::to_owned)
    }

    fn need(&self, i: usize) -> Result<&'a str, String> {
        if self.or_empty && self.array.is_none() {
            return Ok("");
        }
        self.at(i)
            .ok_or_else(|| format!("row {i}: column `{}` is null or missing", self.name))
    }
}

/// A payload column whose values share its buffers.
struct Blob<'a> {
    array: Option<(Payloads<'a>, Vec<Bytes>)>,
}

/// Our own segments are read as views into the pages; others as their footer says.
enum Payloads<'a> {
    Views(&'a BinaryViewArray),
    Large(&'a LargeBinaryArray),
}

impl<'a> Blob<'a> {
    fn of(column: Option<&'a ArrayRef>) -> Result<Self, String> {
        let Some(column) = column else {
            return Ok(Self { array: None });
        };
        let shared = |buffer: &Buffer| Bytes::from_owner(buffer.clone());
        let array = if let Some(views) = column.as_binary_view_opt() {
            let buffers = views.data_buffers().iter().map(shared).collect();
            (Payloads::Views(views), buffers)
        } else if let Some(large) = column.as_binary_opt::<i64>() {
            (Payloads::Large(large), vec![shared(large.values())])
        } else {
            return Err(wrong_type("payload", column));
        };
        Ok(Self { array: Some(array) })
    }

    fn get(&self, i: usize) -> Option<Bytes> {
        match self.array.as_ref()? {
            (Payloads::Views(views), buffers) => views.is_valid(i).then(|| {
                let view = ByteView::from(views.views()[i]);
                let (at, length) = (view.offset as usize, view.length as usize);
                if view.length <= MAX_INLINE_VIEW_LEN {
                    Bytes::copy_from_slice(views.value(i))
                } else {
                    buffers[view.buffer_index as usize].slice(at..at + length)
                }
            }),
            (Payloads::Large(large), buffers) => large.is_valid(i).then(|| {
                let offset = |i: usize| {
                    usize::try_from(large.value_offsets()[i])
                        .expect("Arrow offsets are never negative")
                };
                buffers[0].slice(offset(i)..offset(i + 1))
            }),
        }
    }
}

fn wrong_type(name: &str, column: &ArrayRef) -> String {
    format!(
        "column `{name}` has the unexpected type {}",
        column.data_type()
    )
}

fn numbers<T: ArrowPrimitiveType>(
    batch: &RecordBatch,
    name: &str,
) -> Result<Vec<Option<T::Native>>, String> {
    match batch.column_by_name(name) {
        None => Ok(vec![None; batch.num_rows()]),
        Some(c) => Ok(c
            .as_primitive_opt::<T>()
            .ok_or_else(|| wrong_type(name, c))?
            .iter()
            .collect()),
    }
}

fn need<T: Copy>(values: &[Option<T>], i: usize, name: &str) -> Result<T, String> {
    or(None, values, i, name)
}

/// As [`need`], with a value for where there is none.
fn or<T: Copy>(
    missing: Option<T>,
    values: &[Option<T>],
    i: usize,
    name: &str,
) -> Result<T, String> {
    let value = values[i].or(missing);
    value.ok_or_else(|| format!("row {i}: column `{name}` is null or missing"))
}

/// Converts the children of the list rows (those of these rows alone: a slice of a batch shares the
/// children of all of it), and gives each row its own; null rows and missing columns give `None`.
fn each_list<T>(
    batch: &RecordBatch,
    name: &str,
    convert: impl FnOnce(&ArrayRef) -> Result<Vec<T>, String>,
) -> Result<Vec<Option<Vec<T>>>, String> {
    let Some(column) = batch.column_by_name(name) else {
        return Ok((0..batch.num_rows()).map(|_| None).collect());
    };
    let list = column
        .as_list_opt::<i32>()
        .ok_or_else(|| wrong_type(name, column))?;
    let place = |at: Option<&i32>| usize::try_from(at.copied().unwrap_or(0)).unwrap_or(0);
    let offsets = list.value_offsets();
    let (first, end) = (place(offsets.first()), place(offsets.last()));
    let mut values = convert(&list.values().slice(first, end - first))?.into_iter();
    Ok((0..list.len())
        .map(|i| {
            let n = usize::try_from(list.value_length(i)).unwrap_or(0);
            let row: Vec<T> = values.by_ref().take(n).collect();
            list.is_valid(i).then_some(row)
        })
        .collect())
}

fn child<'a>(values: &'a ArrayRef, name: &str) -> Result<&'a StructArray, String> {
    values
        .as_struct_opt()
        .ok_or_else(|| wrong_type(name, values))
}

fn struct_numbers<T: ArrowPrimitiveType>(
    array: &StructArray,
    name: &str,
) -> Result<Vec<T::Native>, String> {
    let column = array
        .column_by_name(name)
        .ok_or_else(|| format!("`{name}` is missing"))?;
    Ok(column
        .as_primitive_opt::<T>()
        .ok_or_else(|| wrong_type(name, column))?
        .values()
        .to_vec())
}

fn headers(batch: &RecordBatch, name: &str) -> Result<Vec<Vec<Field>>, String> {
    let rows = each_list(batch, name, |values| {
        let s = child(values, name)?;
        let key = Text::from(s.column_by_name("name"), "name")?;
        let value = Text::from(s.column_by_name("value"), "value")?;
        each(s.len(), |i| {
            Ok((key.need(i)?.to_owned(), value.need(i)?.to_owned()))
        })
    })?;
    Ok(rows.into_iter().map(Option::unwrap_or_default).collect())
}

fn names(batch: &RecordBatch, name: &'static str) -> Result<Vec<Option<Vec<String>>>, String> {
    each_list(batch, name, |values| {
        let text = Text::from(Some(values), name)?;
        each(values.len(), |i| text.need(i).map(str::to_owned))
    })
}

fn messages(batch: &RecordBatch, name: &str) -> Result<Vec<Option<Vec<Message>>>, String> {
    each_list(batch, name, |values| {
        let s = child(values, name)?;
        let at = struct_numbers::<UInt64Type>(s, "at_ns")?;
        let offset = struct_numbers::<UInt64Type>(s, "offset")?;
        let length = struct_numbers::<UInt64Type>(s, "length")?;
        let id = Text::from(s.column_by_name("id"), "id")?;
        let error = Text::from(s.column_by_name("error"), "error")?;
        Ok((0..s.len())
            .map(|i| Message {
                at_ns: at[i],
                offset: offset[i],
                length: length[i],
                id: id.get(i),
                error: error.get(i),
            })
            .collect())
    })
}

pub(crate) fn tensors(batch: &RecordBatch, name: &str) -> Result<Vec<Option<Vec<Tensor>>>, String> {
    each_list(batch, name, |values| {
        let s = child(values, name)?;
        let title = Text::from(s.column_by_name("name"), "name")?;
        let datatype = Text::from(s.column_by_name("datatype"), "datatype")?;
        let payload = Text::from(s.column_by_name("payload"), "payload")?;
        let parameters = Text::from(s.column_by_name("parameters"), "parameters")?;
        let message = struct_numbers::<UInt32Type>(s, "message")?;
        let shape = s
            .column_by_name("shape")
            .and_then(|c| c.as_list_opt::<i32>())
            .ok_or("`shape` is missing or no list")?;
        let dims = shape
            .values()
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(|| wrong_type("shape", shape.values()))?
            .values();
        let data = Blob::of(s.column_by_name("data"))?;
        each(s.len(), |i| {
            let range = |i: usize| {
                usize::try_from(shape.value_offsets()[i]).expect("Arrow offsets are never negative")
            };
            let (kind, place) = (datatype.need(i)?, payload.need(i)?);
            Ok(Tensor {
                name: title.need(i)?.to_owned(),
                message: message[i],
                datatype: Datatype::from_name(kind)
                    .ok_or_else(|| format!("unknown datatype `{kind}`"))?,
                shape: dims[range(i)..range(i + 1)].to_vec(),
                payload: Payload::from_name(place)
                    .ok_or_else(|| format!("unknown payload kind `{place}`"))?,
                parameters: parameters.get(i),
                data: data.get(i),
            })
        })
    })
}
