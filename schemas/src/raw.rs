//! An exchange as the proxy saw it: bytes and times, nothing decoded.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::exchange::Outcome;
use crate::headers::Headers;

/// Where a piece of a body ended and when it crossed the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Nanoseconds since the exchange's arrival, monotonic clock.
    pub at_ns: u64,
    /// Offset of its first byte in the body.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// The pieces of a body. Most bodies are one.
pub type Frames = SmallVec<[Frame; 1]>;

/// The captured copy of one body, after transfer coding (chunks) was removed and before content
/// coding (gzip) is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawBody {
    /// The bytes, in one piece. Holds less than `seen` when `gave_up` is set.
    pub data: Bytes,
    /// Bytes that crossed the proxy.
    pub seen: u64,
    /// The pieces in which they came; may be empty where the transport has only one.
    pub frames: Frames,
    /// The body ended as its framing says.
    pub complete: bool,
    /// Why the copy is not whole although the body went through (over budget, over limit).
    pub gave_up: Option<&'static str>,
}

impl RawBody {
    /// A whole body that came in one piece (for tests and importers).
    pub fn whole(data: impl Into<Bytes>) -> Self {
        let data = data.into();
        Self {
            seen: data.len() as u64,
            data,
            frames: Frames::new(),
            complete: true,
            gave_up: None,
        }
    }

    /// True when `data` is every byte of a body that ended properly.
    pub fn is_whole(&self) -> bool {
        self.complete && self.gave_up.is_none() && self.data.len() as u64 == self.seen
    }
}

/// One request and its answer as they crossed the proxy.
///
/// Header names keep their case; values may be any bytes; order and repetition are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct RawExchange {
    /// Number given at accept, unique within the recorder process, from 0.
    pub seq: u64,
    /// Arrival of the request's first byte, ns since the Unix epoch, UTC.
    pub arrived_at_ns: i64,
    /// First byte of the answer sent to the client, ns since arrival.
    pub first_byte_ns: Option<u64>,
    /// End of the exchange, ns since arrival.
    pub end_ns: u64,
    /// Request method.
    pub method: String,
    /// Request target without its query.
    pub path: String,
    /// The query as sent, without `?`. Never stored whole: see `wire::Keep`.
    pub query: Option<String>,
    /// Request headers as sent.
    pub request_headers: Headers,
    /// The request's body.
    pub request_body: RawBody,
    /// Trailers of the request (after its last chunk or DATA frame), as sent.
    pub request_trailers: Headers,
    /// Status of the final answer, if one came.
    pub status: Option<u16>,
    /// Response headers as sent.
    pub response_headers: Headers,
    /// The response's body.
    pub response_body: RawBody,
    /// Trailers of the response, as sent. gRPC states its status here, or in the headers of an
    /// answer without a body.
    pub response_trailers: Headers,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong, in words, where `outcome` is not complete.
    pub error: Option<String>,
    /// Probability with which this exchange was sampled, in (0, 1].
    pub sample_rate: f64,
}

impl RawExchange {
    /// The first request header of that name, ASCII case ignored, if it is valid UTF-8.
    pub fn request_header(&self, name: &str) -> Option<&str> {
        self.request_headers.get(name)
    }

    /// The first response header of that name, ASCII case ignored, if it is valid UTF-8.
    pub fn response_header(&self, name: &str) -> Option<&str> {
        self.response_headers.get(name)
    }

    /// The first response trailer of that name, ASCII case ignored, if it is valid UTF-8.
    pub fn response_trailer(&self, name: &str) -> Option<&str> {
        self.response_trailers.get(name)
    }
}
