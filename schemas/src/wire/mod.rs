//! Wire decode: `RawExchange → Exchange`.
//!
//! One module per protocol. [`decode`] never fails and never panics: what cannot be decoded keeps
//! its raw body and the reason. What each protocol's decoder does, and what is kept raw:
//! `docs/protocols.md`.

mod ask;
mod binary;
mod coding;
mod data;
mod generate;
mod grpc;
mod json;
mod keep;
mod lists;
mod little_endian;
mod metadata_grpc;
mod models;
mod named;
mod nest;
mod numbers;
mod oip_grpc;
mod oip_proto;
mod oip_rest;
mod oip_tensors;
mod paddle;
mod paddle_json;
mod paddle_pipeline;
mod paddle_proto;
mod protobuf;
mod protocol;
mod raw_input;
mod redact;
mod respond;
mod route;
mod row;
mod sink;
mod sse;
mod text;
mod tfs;

pub use ask::{Answered, Ask, decode_grpc_answer, encode_grpc_request, encode_request};
pub use binary::{BinaryHeader, binary_header};
pub use grpc::grpc_message;
pub(crate) use json::reads_alike;
pub use json::{OipRequest, OipResponse, RequestedOutput, decode_request, decode_response};
pub use keep::{BodyPolicy, Keep, carries_credentials};
pub use metadata_grpc::{
    model_metadata_request, read_model_metadata, read_ready, read_server_metadata, ready_request,
};
pub use models::{Models, Signature, TensorMetadata};
pub use redact::{HASH_PARAMETER, TensorPolicy, TensorRules};
pub use respond::{Encoded, encode_response};
pub use route::{Infer, infer_route, model_route, percent_encoded};
pub use row::decode;

use crate::tensor::{MAX_PAYLOAD_BYTES, Payload, Tensor};

/// Why bytes are not what their protocol says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WireError(pub String);

impl WireError {
    pub(crate) fn new(why: impl ToString) -> Self {
        Self(why.to_string())
    }
}

impl From<crate::TensorError> for WireError {
    fn from(e: crate::TensorError) -> Self {
        Self::new(e)
    }
}

/// The tensor, or its description alone where its data is larger than a capture keeps.
fn capped(mut tensor: Tensor) -> Tensor {
    let too_large = |d: &bytes::Bytes| d.len() as u64 > MAX_PAYLOAD_BYTES;
    if tensor.data.as_ref().is_some_and(too_large) {
        tensor.payload = Payload::OverLimit;
        tensor.data = None;
    }
    tensor
}

/// The most tensors of one message: an empty one costs a few bytes on the wire and hundreds in
/// memory, and no model has so many.
const MAX_TENSORS: usize = 1 << 14;

/// The most messages of one stream that are told apart, for the same reason.
const MAX_MESSAGES: usize = 1 << 17;
