//! Open Inference Protocol v2, gRPC: messages into the row.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::grpc::{self, Framed};
use super::json::sequence_id;
use super::oip_proto::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
    ParameterChoice,
};
use super::oip_tensors::tensors;
use super::protobuf::Path;
use super::row::{Decoded, Side, put_inputs};
use super::{WireError, protobuf};
use crate::exchange::{Exchange, Message, Outcome};
use crate::tensor::Tensor;

/// `ModelInfer`'s request.
pub(super) fn request(side: Side<'_>, row: &mut Exchange) -> Result<Decoded, WireError> {
    let inputs = one_request(&grpc::message(side)?, row)?.1;
    put_inputs(row, inputs);
    Ok(Decoded::Whole)
}

/// `ModelStreamInfer`'s requests: what the exchange has one of (model, id, sequence, parameters,
/// outputs asked for) is the first message's.
pub(super) fn stream_request(side: Side<'_>, row: &mut Exchange) -> Result<Decoded, WireError> {
    let (inputs, messages, problem) = stream(side, |data, first| {
        let mut other = Exchange::new(row.recorder, row.seq);
        let row = if first { &mut *row } else { &mut other };
        let (id, inputs) = one_request(data, row)?;
        Ok((id, None, inputs))
    })?;
    row.request_messages = Some(messages);
    put_inputs(row, inputs);
    problem.map_or(Ok(Decoded::Whole), Err)
}

/// `ModelInfer`'s answer.
pub(super) fn response(side: Side<'_>, row: &mut Exchange) -> Result<Decoded, WireError> {
    let response = protobuf::decode(&grpc::message(side)?, &RESPONSE)?;
    row.outputs = Some(one_response(response, row)?.1);
    Ok(Decoded::Whole)
}

/// `ModelStreamInfer`'s answers.
pub(super) fn stream_response(side: Side<'_>, row: &mut Exchange) -> Result<Decoded, WireError> {
    let (outputs, messages, problem) = stream(side, |data, _| {
        let answer: ModelStreamInferResponse = protobuf::decode(data, &STREAM_RESPONSE)?;
        let error = Some(answer.error_message).filter(|e| !e.is_empty());
        let (id, outputs) = match answer.infer_response {
            Some(response) => one_response(response, row)?,
            None => (None, Vec::new()),
        };
        Ok((id, error, outputs))
    })?;
    if let Some(error) = messages.iter().find_map(|m| m.error.clone())
        && row.outcome == Outcome::Complete
    {
        row.outcome = Outcome::ErrorInStream;
        row.error = Some(error);
    }
    row.response_messages = Some(messages);
    row.outputs = Some(outputs);
    problem.map_or(Ok(Decoded::Whole), Err)
}

/// Repeated messages: parameters, tensors with theirs, outputs asked for, raw contents.
const REQUEST: [Path<'_>; 6] = [&[4], &[5], &[5, 4], &[6], &[6, 2], &[7]];
pub(super) const RESPONSE: [Path<'_>; 4] = [&[4], &[5], &[5, 4], &[6]];
const STREAM_RESPONSE: [Path<'_>; 4] = [&[2, 4], &[2, 5], &[2, 5, 4], &[2, 6]];

type Part = (Option<String>, Option<String>, Vec<Tensor>);
type Stream = (Vec<Tensor>, Vec<Message>, Option<WireError>);

/// Decodes message by message; a message that cannot be decoded carries its reason as its error
/// and ends nothing: the raw body is kept because of it.
fn stream(
    side: Side<'_>,
    mut decode: impl FnMut(&Bytes, bool) -> Result<Part, WireError>,
) -> Result<Stream, WireError> {
    let (framed, mut problem) = grpc::messages(side)?;
    let (mut tensors, mut messages) = (Vec::new(), Vec::new());
    for (n, Framed { mut message, data }) in framed.into_iter().enumerate() {
        match decode(&data, n == 0) {
            Ok((id, error, part)) => {
                (message.id, message.error) = (id, error);
                let index = u32::try_from(n).map_err(WireError::new)?;
                tensors.extend(part.into_iter().map(|t| Tensor {
                    message: index,
                    ..t
                }));
            }
            Err(e) => problem = problem.or(Some(WireError(format!("message {n}: {e}")))),
        }
        messages.push(message);
    }
    Ok((tensors, messages, problem))
}

fn one_request(
    data: &Bytes,
    row: &mut Exchange,
) -> Result<(Option<String>, Vec<Tensor>), WireError> {
    let request: ModelInferRequest = protobuf::decode(data, &REQUEST)?;
    let id = text(request.id);
    row.model = text(request.model_name);
    row.model_version = text(request.model_version);
    row.client_request_id = id.clone().or(row.client_request_id.take());
    let parameters = object(request.parameters);
    row.sequence_id = parameters.get("sequence_id").cloned().and_then(sequence_id);
    row.parameters = json(parameters);
    let outputs: Vec<String> = request.outputs.into_iter().map(|o| o.name).collect();
    row.requested_outputs = Some(outputs).filter(|o| !o.is_empty());
    Ok((id, tensors(request.inputs, request.raw_input_contents)?))
}

fn one_response(
    response: ModelInferResponse,
    row: &mut Exchange,
) -> Result<(Option<String>, Vec<Tensor>), WireError> {
    row.model_version = text(response.model_version).or(row.model_version.take());
    let outputs = tensors(response.outputs, response.raw_output_contents)?;
    Ok((text(response.id), outputs))
}

fn text(s: String) -> Option<String> {
    Some(s).filter(|s| !s.is_empty())
}

/// Parameters as the REST form of the protocol writes them.
pub(super) fn object(
    parameters: std::collections::BTreeMap<String, InferParameter>,
) -> Map<String, Value> {
    let value = |p: InferParameter| match p.choice {
        None => Value::Null,
        Some(ParameterChoice::Bool(v)) => v.into(),
        Some(ParameterChoice::Int64(v)) => v.into(),
        Some(ParameterChoice::String(v)) => v.into(),
        // JSON has no NaN: as a string it is at least seen.
        Some(ParameterChoice::Double(v)) if !v.is_finite() => v.to_string().into(),
        Some(ParameterChoice::Double(v)) => v.into(),
        Some(ParameterChoice::Uint64(v)) => v.into(),
    };
    let pairs = parameters.into_iter().map(|(k, v)| (k, value(v)));
    pairs.collect()
}

/// The text of a JSON object; `None` for an empty one.
pub(super) fn json(object: Map<String, Value>) -> Option<String> {
    (!object.is_empty()).then(|| Value::Object(object).to_string())
}
