//! A decoded exchange: one row of a capture.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::digest::input_digest;
use crate::tensor::Tensor;

/// How an exchange ended. Every exchange has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Request and answer went through whole (whatever the status).
    Complete,
    /// The client went away before the answer was whole.
    ClientCancelled,
    /// The upstream closed or reset the connection before the answer was whole.
    UpstreamReset,
    /// No connection to the upstream could be made.
    UpstreamUnreachable,
    /// The answer ended short of its declared length, or the copy did.
    Truncated,
    /// The stream carried an error message under a success status.
    ErrorInStream,
    /// The proxy refused the request (ambiguous framing, limits) and it never reached the upstream.
    Refused,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 7] = [
        Self::Complete,
        Self::ClientCancelled,
        Self::UpstreamReset,
        Self::UpstreamUnreachable,
        Self::Truncated,
        Self::ErrorInStream,
        Self::Refused,
    ];

    /// The name stored in captures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientCancelled => "client_cancelled",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::Truncated => "truncated",
            Self::ErrorInStream => "error_in_stream",
            Self::Refused => "refused",
        }
    }

    /// The outcome of that stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "complete" => Self::Complete,
            "client_cancelled" => Self::ClientCancelled,
            "upstream_reset" => Self::UpstreamReset,
            "upstream_unreachable" => Self::UpstreamUnreachable,
            "truncated" => Self::Truncated,
            "error_in_stream" => Self::ErrorInStream,
            "refused" => Self::Refused,
            _ => return None,
        })
    }
}

/// One message of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// ns since the exchange's arrival.
    pub at_ns: u64,
    /// Offset of its first byte in the body; a gRPC message begins with its five-byte prefix.
    pub offset: u64,
    /// Bytes in the body.
    pub length: u64,
    /// The message's own id, if it carries one.
    pub id: Option<String>,
    /// The message's own error, if it carries one.
    pub error: Option<String>,
}

/// A header or query field that was allowed to be kept: name and value.
pub type Field = (String, String);

/// One request and its answer, decoded: one row of a capture (`docs/capture-format.md`).
///
/// `inputs` and `outputs`: `None` = not decoded, `Some([])` = decoded and there were none.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// The recorder process.
    pub recorder: Ulid,
    /// Number given at accept, unique within the recorder.
    pub seq: u64,
    /// `<recorder>-<seq>`; shared by the parts of one long stream.
    pub id: String,
    /// Part of a long stream, from 0.
    pub part: u32,
    /// The last part.
    pub last: bool,
    /// Arrival, ns since the Unix epoch, UTC.
    pub arrived_at_ns: i64,
    /// First byte of the answer, ns since arrival.
    pub first_byte_ns: Option<u64>,
    /// End of the exchange, ns since arrival.
    pub end_ns: u64,
    /// Protocol by name: `oip-rest`, `oip-rest-binary`, `oip-grpc`, `oip-grpc-stream`, `tfs-rest`,
    /// `paddle-serving`, `paddle-pipeline`, `triton-generate`, `triton-generate-stream`, `sse`,
    /// `grpc`, `http` (`docs/protocols.md`).
    pub protocol: String,
    /// Model named by the request.
    pub model: Option<String>,
    /// Model version named by the answer, else by the request.
    pub model_version: Option<String>,
    /// The id that the client gave its request.
    pub client_request_id: Option<String>,
    /// Sequence (stateful model) that the request belongs to, numbers in decimal.
    pub sequence_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Request method.
    pub method: String,
    /// Request path, never the query.
    pub path: String,
    /// Allow-listed query parameters as sent, joined by `&`.
    pub query: Option<String>,
    /// Status of the final answer.
    pub status: Option<u16>,
    /// gRPC status code.
    pub grpc_status: Option<i32>,
    /// gRPC status message.
    pub grpc_message: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// Allow-listed request headers.
    pub request_headers: Vec<Field>,
    /// Allow-listed response headers.
    pub response_headers: Vec<Field>,
    /// The request's parameters as a JSON object.
    pub parameters: Option<String>,
    /// Outputs that the request asked for by name, in its order; `None` when it named none.
    pub requested_outputs: Option<Vec<String>>,
    /// XXH3-128 over the inline inputs, big-endian; `None` when inputs were not decoded, or until large
    /// ones are written.
    pub input_digest: Option<[u8; 16]>,
    /// Input tensors.
    pub inputs: Option<Vec<Tensor>>,
    /// Output tensors.
    pub outputs: Option<Vec<Tensor>>,
    /// Messages of a streaming request.
    pub request_messages: Option<Vec<Message>>,
    /// Messages of a streaming answer.
    pub response_messages: Option<Vec<Message>>,
    /// Raw request body, by default only where decoding failed.
    pub request_body: Option<Bytes>,
    /// Raw response body, by default only where decoding failed.
    pub response_body: Option<Bytes>,
    /// Why the bodies could not be decoded.
    pub decode_error: Option<String>,
    /// Probability with which this exchange was sampled, in (0, 1].
    pub sample_rate: f64,
}

impl Exchange {
    /// An exchange of which only its place is known: complete, nothing decoded, nothing kept.
    pub fn new(recorder: Ulid, seq: u64) -> Self {
        Self {
            recorder,
            seq,
            id: Self::id_of(recorder, seq),
            part: 0,
            last: true,
            arrived_at_ns: 0,
            first_byte_ns: None,
            end_ns: 0,
            protocol: "http".to_owned(),
            model: None,
            model_version: None,
            client_request_id: None,
            sequence_id: None,
            traceparent: None,
            method: String::new(),
            path: String::new(),
            query: None,
            status: None,
            grpc_status: None,
            grpc_message: None,
            outcome: Outcome::Complete,
            error: None,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            parameters: None,
            requested_outputs: None,
            input_digest: None,
            inputs: None,
            outputs: None,
            request_messages: None,
            response_messages: None,
            request_body: None,
            response_body: None,
            decode_error: None,
            sample_rate: 1.0,
        }
    }

    /// [`Self::input_digest`], made now where it was not; `None` when inputs were not decoded.
    pub fn digest_of_inputs(&self) -> Option<[u8; 16]> {
        let inputs = self.inputs.as_deref();
        self.input_digest.or_else(|| inputs.map(input_digest))
    }

    /// The product's name for exchange `seq` of `recorder`.
    pub fn id_of(recorder: Ulid, seq: u64) -> String {
        format!("{recorder}-{seq}")
    }

    /// Recorder and number of what [`Self::id_of`] named; `None` where it is no such name.
    pub fn key_of(id: &str) -> Option<(Ulid, u64)> {
        let (recorder, seq) = id.rsplit_once('-')?;
        Some((Ulid::from_string(recorder).ok()?, seq.parse().ok()?))
    }
}
