//! Metadata of a server and its models over gRPC: `ServerMetadata`, `ModelReady`, `ModelMetadata`.
//!
//! Source: `grpc_predict_v2.proto` of the Open Inference Protocol.

use bytes::Bytes;
use prost::Message;

use super::WireError;
use super::models::{Signature, TensorMetadata};
use super::oip_proto::{
    ModelMetadataResponse, ModelReadyResponse, ModelRequest, ServerMetadataResponse,
    TensorMetadataMessage,
};
use super::protobuf::{self, Path};
use crate::tensor::Datatype;

const SERVER: [Path<'_>; 1] = [&[3]];
const MODEL: [Path<'_>; 3] = [&[2], &[4], &[5]];

/// A `ModelMetadata` message.
pub fn model_metadata_request(model: &str, version: Option<&str>) -> Vec<u8> {
    let request = ModelRequest {
        name: model.to_owned(),
        version: version.unwrap_or_default().to_owned(),
    };
    request.encode_to_vec()
}

/// A `ModelReady` message.
pub fn ready_request(model: &str, version: Option<&str>) -> Vec<u8> {
    model_metadata_request(model, version)
}

/// Whether the model is ready.
///
/// # Errors
/// It is no such message.
pub fn read_ready(message: &Bytes) -> Result<bool, WireError> {
    let answer: ModelReadyResponse = protobuf::decode(message, &[])?;
    Ok(answer.ready)
}

/// Name and version of a server.
///
/// # Errors
/// It is no such message.
pub fn read_server_metadata(message: &Bytes) -> Result<(String, String), WireError> {
    let answer: ServerMetadataResponse = protobuf::decode(message, &SERVER)?;
    Ok((answer.name, answer.version))
}

/// Inputs and outputs of a model.
///
/// # Errors
/// It is no such message, or names a datatype that no capture can hold.
pub fn read_model_metadata(message: &Bytes) -> Result<Signature, WireError> {
    let answer: ModelMetadataResponse = protobuf::decode(message, &MODEL)?;
    let side = |tensors: Vec<TensorMetadataMessage>| {
        let each = tensors.into_iter().map(|t| {
            let datatype = Datatype::from_name(&t.datatype).ok_or_else(|| {
                WireError(format!(
                    "tensor `{}` has the unknown datatype `{}`",
                    t.name, t.datatype
                ))
            })?;
            Ok(TensorMetadata {
                name: t.name,
                datatype,
                shape: Some(t.shape),
            })
        });
        each.collect::<Result<Vec<_>, WireError>>()
    };
    Ok(Signature {
        inputs: side(answer.inputs)?,
        outputs: side(answer.outputs)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_tensors_are_read_and_foreign_datatypes_refused() {
        let tensor = |name: &str, datatype: &str| TensorMetadataMessage {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![-1, 4],
        };
        let answer = ModelMetadataResponse {
            inputs: vec![tensor("x", "FP32")],
            outputs: vec![tensor("y", "INT64")],
            ..ModelMetadataResponse::default()
        };
        let read = read_model_metadata(&answer.encode_to_vec().into()).unwrap();
        assert_eq!(read.inputs[0].datatype, Datatype::Fp32);
        assert_eq!(read.outputs[0].shape, Some(vec![-1, 4]));
        let foreign = ModelMetadataResponse {
            inputs: vec![tensor("x", "FP8")],
            ..ModelMetadataResponse::default()
        };
        let why = read_model_metadata(&foreign.encode_to_vec().into()).unwrap_err();
        assert!(why.to_string().contains("`FP8`"), "{why}");
        assert!(read_server_metadata(&Bytes::from_static(b"\xff")).is_err());
        assert!(!read_ready(&Bytes::new()).unwrap());
    }
}
