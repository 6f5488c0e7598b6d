//! HTTP/2, in clear by prior knowledge or under TLS by ALPN.
//!
//! Frames of a stream are forwarded as they come; heads, trailers, interim answers and reset codes
//! too. Flow control is end to end: what the other side has not taken is not read, beyond one
//! window. A client connection has upstream connections of its own, so that a client that reads
//! slowly cannot use up a window that others need.

mod server;
mod stream;
mod upstream;

use http::HeaderMap;
use inferdiff_schemas::Headers;

pub(super) use server::serve;

/// A stream may have this much in flight; bounds what h2 buffers where one side stalls.
const STREAM_WINDOW: u32 = 1 << 20;
/// All streams of one connection together.
const CONNECTION_WINDOW: u32 = 2 << 20;
/// Frames up to this size: larger ones cost fewer system calls and wake-ups.
const MAX_FRAME: u32 = 256 * 1024;
/// What h2 buffers for a stream on its way out.
const SEND_BUFFER: usize = 512 * 1024;

/// Names and values, for the record.
fn fields(headers: &HeaderMap) -> Headers {
    let bytes = headers.iter().map(|(n, v)| n.as_str().len() + v.len());
    let mut fields = Headers::with_capacity(headers.len(), bytes.sum());
    for (name, value) in headers {
        fields.push(name.as_str(), value.as_bytes());
    }
    fields
}
