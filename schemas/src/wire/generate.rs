//! Triton's generate extension: a JSON object in, one or a stream of JSON objects out.
//!
//! Every field is a tensor named as the field: a scalar has shape [1], a list its own shape,
//! datatypes as `nest` tells them unless the model's metadata is known. `id`, `model_name` and
//! `model_version` are none; nor is `parameters`, nor, where the metadata is known, any field that
//! is no input of the model: Triton passes those on as parameters.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::named::{Columns, columns};
use super::row::{Decoded, Side, put_inputs};
use super::sse::{events, mark_errors};
use super::text::{Bare, readable, unmarked};
use super::{Models, Signature, TensorMetadata, WireError, nest};
use crate::exchange::{Exchange, Message};
use crate::tensor::Tensor;

pub(super) fn request(
    side: Side<'_>,
    models: &Models,
    row: &mut Exchange,
) -> Result<Decoded, WireError> {
    let body = side.body()?;
    let known = signature(models, row).map(|s| s.inputs.as_slice());
    let (mut inputs, mut parameters) = (Vec::new(), Map::new());
    let text = readable(&body, Bare::Marked)?;
    for (name, value) in fields(&text)? {
        match &*name {
            "id" => row.client_request_id = scalar_text(value).or(row.client_request_id.take()),
            "model_name" | "model_version" => {}
            "parameters" => {
                let given: Map<String, Value> = serde_json::from_str(&unmarked(value.get()))
                    .map_err(|e| WireError(format!("parameters: {e}")))?;
                parameters.extend(given);
            }
            _ if known.is_some_and(|k| !k.iter().any(|t| t.name == *name)) => {
                let value = serde_json::from_str(&unmarked(value.get())).map_err(WireError::new)?;
                parameters.insert(name.into_owned(), value);
            }
            _ => inputs.push(tensor(&name, value, known)?),
        }
    }
    row.parameters = (!parameters.is_empty()).then(|| Value::Object(parameters).to_string());
    put_inputs(row, inputs);
    Ok(Decoded::Whole)
}

pub(super) fn response(
    side: Side<'_>,
    models: &Models,
    row: &mut Exchange,
) -> Result<Decoded, WireError> {
    let answer = answer(&side.body()?, models, row)?;
    if let Some(error) = answer.error {
        row.error.get_or_insert(error);
        return Ok(Decoded::Raw);
    }
    row.outputs = Some(answer.outputs);
    Ok(Decoded::Whole)
}

/// An answer of events. An event that is no JSON object ends nothing: it is a message without
/// tensors, and the raw body is kept because of it.
pub(super) fn stream_response(
    side: Side<'_>,
    models: &Models,
    row: &mut Exchange,
) -> Result<Decoded, WireError> {
    let (events, mut problem) = events(side)?;
    let (mut outputs, mut messages) = (Vec::new(), Vec::<Message>::new());
    for (n, event) in events.into_iter().enumerate() {
        let mut message = event.message;
        match answer(&event.data, models, row) {
            Ok(answer) => {
                message.id = answer.id.or(message.id);
                message.error = answer.error;
                let index = u32::try_from(n).map_err(WireError::new)?;
                outputs.extend(answer.outputs.into_iter().map(|t| Tensor {
                    message: index,
                    ..t
                }));
            }
            Err(e) => problem = problem.or(Some(WireError(format!("event {n}: {e}")))),
        }
        messages.push(message);
    }
    mark_errors(row, &messages);
    row.response_messages = Some(messages);
    row.outputs = Some(outputs);
    problem.map_or(Ok(Decoded::Whole), Err)
}

#[derive(Default)]
struct Answer {
    id: Option<String>,
    error: Option<String>,
    outputs: Vec<Tensor>,
}

fn answer(json: &[u8], models: &Models, row: &mut Exchange) -> Result<Answer, WireError> {
    let text = readable(json, Bare::Marked)?;
    let mut out = Answer::default();
    for (name, value) in fields(&text)? {
        match &*name {
            "id" => out.id = scalar_text(value),
            "error" => {
                out.error = Some(scalar_text(value).unwrap_or_else(|| value.get().to_owned()));
            }
            "model_name" => {}
            "model_version" => row.model_version = scalar_text(value).or(row.model_version.take()),
            _ => {
                let known = signature(models, row).map(|s| s.outputs.as_slice());
                out.outputs.push(tensor(&name, value, known)?);
            }
        }
    }
    Ok(out)
}

fn signature<'m>(models: &'m Models, row: &Exchange) -> Option<&'m Signature> {
    models.oip(row.model.as_deref()?, row.model_version.as_deref())
}

type Field<'a> = (std::borrow::Cow<'a, str>, &'a RawValue);

fn fields(text: &str) -> Result<Vec<Field<'_>>, WireError> {
    let value: &RawValue = serde_json::from_str(text).map_err(WireError::new)?;
    match columns(value)? {
        Columns::Named(fields) => Ok(fields),
        _ => Err(WireError::new("it must be a JSON object")),
    }
}

fn tensor(
    name: &str,
    value: &RawValue,
    known: Option<&[TensorMetadata]>,
) -> Result<Tensor, WireError> {
    let datatype = known
        .and_then(|k| k.iter().find(|t| t.name == name))
        .map(|t| t.datatype);
    let mut tensor = nest::tensor(name, value, datatype)?;
    if tensor.shape.is_empty() {
        tensor.shape.push(1);
    }
    Ok(tensor)
}

/// A string as it is, a number in decimal.
fn scalar_text(value: &RawValue) -> Option<String> {
    match serde_json::from_str(value.get()).ok()? {
        Value::String(s) if !s.is_empty() => Some(s),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}
