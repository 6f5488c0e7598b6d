//! The client's half: tensors into Open Inference Protocol v2 requests, REST and gRPC.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use serde_json::{Map, Value, json};

use super::oip_grpc::RESPONSE;
use super::oip_proto::{
    InferParameter, InferTensor, ModelInferRequest, ModelInferResponse, ParameterChoice,
};
use super::respond::{Encoded, describe};
use super::{WireError, oip_tensors, protobuf};
use crate::tensor::Tensor;

/// One inference request.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Model; only gRPC says it in the message.
    pub model: &'a str,
    /// Version; `None` = the server chooses.
    pub version: Option<&'a str>,
    /// The request's id.
    pub id: &'a str,
    /// Parameters as a JSON object, those of the transport left out (see [`Ask::parameters`]).
    pub parameters: Option<&'a str>,
    /// Inputs with their data.
    pub inputs: &'a [Tensor],
}

/// What an endpoint answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// Version that answered, where it says so.
    pub version: Option<String>,
    /// Outputs.
    pub outputs: Vec<Tensor>,
}

/// Parameters that say how data travelled, not what was asked.
const TRANSPORT: [&str; 2] = ["binary_data", "shared_memory_"];

/// The parameters of a captured request or tensor that mean the same on another transport.
fn carried(parameters: Option<&str>) -> Result<Map<String, Value>, WireError> {
    let Some(text) = parameters else {
        return Ok(Map::new());
    };
    let mut all: Map<String, Value> = serde_json::from_str(text).map_err(WireError::new)?;
    all.retain(|key, _| !TRANSPORT.iter().any(|t| key.starts_with(t)));
    Ok(all)
}

/// A REST request. `binary`: inputs travel as blobs and so shall the outputs (the binary tensor data
/// extension); else everything is JSON.
///
/// # Errors
/// Without `binary`: a value that JSON cannot carry.
pub fn encode_request(ask: &Ask<'_>, binary: bool) -> Result<Encoded, WireError> {
    let mut blobs = Vec::new();
    let inputs = ask.inputs.iter().map(|tensor| {
        let out = binary.then_some(&mut blobs);
        describe(tensor, carried(tensor.parameters.as_deref())?, out)
    });
    let inputs = inputs.collect::<Result<Vec<_>, WireError>>()?;
    let mut parameters = carried(ask.parameters)?;
    if binary {
        parameters.insert("binary_data_output".to_owned(), true.into());
    }
    let mut request = json!({ "id": ask.id });
    if !parameters.is_empty() {
        request["parameters"] = parameters.into();
    }
    request["inputs"] = inputs.into();
    Encoded::of(&request, binary.then_some(&blobs))
}

/// A `ModelInfer` message with raw contents.
///
/// # Errors
/// A parameter that gRPC cannot carry (a list, an object).
pub fn encode_grpc_request(ask: &Ask<'_>) -> Result<Vec<u8>, WireError> {
    let inputs = ask.inputs.iter().map(|t| {
        Ok(InferTensor {
            name: t.name.clone(),
            datatype: t.datatype.name().to_owned(),
            shape: t.shape.clone(),
            parameters: choices(carried(t.parameters.as_deref())?)?,
            contents: None,
        })
    });
    let raw = ask.inputs.iter();
    let request = ModelInferRequest {
        model_name: ask.model.to_owned(),
        model_version: ask.version.unwrap_or_default().to_owned(),
        id: ask.id.to_owned(),
        parameters: choices(carried(ask.parameters)?)?,
        inputs: inputs.collect::<Result<_, WireError>>()?,
        outputs: Vec::new(),
        raw_input_contents: raw.map(|t| t.data.clone().unwrap_or_default()).collect(),
    };
    Ok(request.encode_to_vec())
}

fn choices(parameters: Map<String, Value>) -> Result<BTreeMap<String, InferParameter>, WireError> {
    let each = parameters.into_iter().map(|(key, value)| {
        let choice = match &value {
            Value::Bool(v) => Some(ParameterChoice::Bool(*v)),
            Value::String(v) => Some(ParameterChoice::String(v.clone())),
            Value::Number(n) => n
                .as_i64()
                .map(ParameterChoice::Int64)
                .or(n.as_u64().map(ParameterChoice::Uint64))
                .or(n.as_f64().map(ParameterChoice::Double)),
            _ => None,
        };
        match choice {
            None => Err(WireError(format!(
                "parameter `{key}` is {value}, which gRPC cannot carry"
            ))),
            choice => Ok((key, InferParameter { choice })),
        }
    });
    each.collect()
}

/// The answer to a `ModelInfer`.
///
/// # Errors
/// Anything that the message claims and does not hold.
pub fn decode_grpc_answer(message: &Bytes) -> Result<Answered, WireError> {
    let answer: ModelInferResponse = protobuf::decode(message, &RESPONSE)?;
    Ok(Answered {
        version: Some(answer.model_version).filter(|v| !v.is_empty()),
        outputs: oip_tensors::tensors(answer.outputs, answer.raw_output_contents)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Datatype;
    use crate::wire::{BinaryHeader, decode_request};

    fn ask<'a>(parameters: Option<&'a str>, inputs: &'a [Tensor]) -> Ask<'a> {
        Ask {
            model: "m",
            version: Some("3"),
            id: "an-id",
            parameters,
            inputs,
        }
    }

    fn tensor(parameters: Option<&str>, values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let shape = vec![i64::try_from(values.len()).unwrap()];
        Tensor {
            parameters: parameters.map(str::to_owned),
            ..Tensor::inline("x", Datatype::Fp32, shape, data.into()).unwrap()
        }
    }

    const PARAMETERS: &str = r#"{"sequence_id":7,"binary_data_output":true,"temperature":0.5}"#;

    #[test]
    fn what_is_sent_reads_back_and_only_transport_parameters_are_left_out() {
        let inputs = [tensor(
            Some(r#"{"binary_data_size":8,"content_type":"np"}"#),
            &[1.5, 0.1],
        )];
        for binary in [false, true] {
            let sent = encode_request(&ask(Some(PARAMETERS), &inputs), binary).unwrap();
            let header = sent
                .header_length
                .map_or(BinaryHeader::AllJson, BinaryHeader::Json);
            let read = decode_request(&sent.body, header).unwrap();
            assert_eq!(read.id.as_deref(), Some("an-id"));
            assert_eq!(read.sequence_id.as_deref(), Some("7"));
            assert_eq!(read.binary_output, binary);
            assert_eq!(read.inputs[0].data, inputs[0].data);
            let own = read.inputs[0].parameters.as_deref().unwrap();
            assert!(own.contains("content_type"), "{own}");
            assert_eq!(own.contains("binary_data_size"), binary, "{own}");
        }
    }

    #[test]
    fn a_grpc_message_carries_the_same() {
        let inputs = [tensor(None, &[f32::NAN])];
        let sent = encode_grpc_request(&ask(Some(PARAMETERS), &inputs)).unwrap();
        let read = ModelInferRequest::decode(&*sent).unwrap();
        assert_eq!((&*read.model_name, &*read.model_version), ("m", "3"));
        assert_eq!(read.raw_input_contents[0], inputs[0].data.clone().unwrap());
        let choice = |key: &str| read.parameters[key].choice.clone().unwrap();
        assert_eq!(choice("sequence_id"), ParameterChoice::Int64(7));
        assert_eq!(choice("temperature"), ParameterChoice::Double(0.5));
        assert_eq!(read.parameters.len(), 2);
        let nested = encode_grpc_request(&ask(Some(r#"{"a":[1]}"#), &inputs));
        assert!(nested.unwrap_err().to_string().contains("`a` is [1]"));
    }

    #[test]
    fn json_refuses_what_it_cannot_carry() {
        let inputs = [tensor(None, &[f32::NAN])];
        let why = encode_request(&ask(None, &inputs), false).unwrap_err();
        assert!(why.to_string().contains("`x` holds NaN"), "{why}");
        assert!(encode_request(&ask(None, &inputs), true).is_ok());
    }
}
