//! gRPC over HTTP/2: message framing and the final status.
//!
//! Source: "gRPC over HTTP2": one compression flag, a u32 big-endian length, the message.

use bytes::Bytes;

use super::row::Side;
use super::{MAX_MESSAGES, WireError, coding};
use crate::exchange::{Exchange, Message};
use crate::raw::RawExchange;

const PREFIX: usize = 5;

/// One framed message.
pub(super) struct Framed {
    /// Its place in the body (prefix included) and its time.
    pub message: Message,
    /// Its bytes, decompressed.
    pub data: Bytes,
}

/// The whole messages of a body and, where bytes of an unfinished one follow, what is left.
///
/// # Errors
/// A compression flag that is neither 0 nor 1, a message that cannot be decompressed.
pub(super) fn messages(side: Side<'_>) -> Result<(Vec<Framed>, Option<WireError>), WireError> {
    let body = &side.wire.data;
    let coding = side.header("grpc-encoding");
    let mut out: Vec<Framed> = Vec::new();
    // One budget for the whole body: a stream of small bombs is a bomb.
    let mut budget = coding::limit(body.len());
    let mut at = 0;
    while out.len() < MAX_MESSAGES
        && let Some(prefix) = body.get(at..).and_then(|b| b.first_chunk::<PREFIX>())
    {
        let [flag, length @ ..] = *prefix;
        let start = at + PREFIX;
        let length = u32::from_be_bytes(length) as usize;
        let Some(end) = start.checked_add(length).filter(|&end| end <= body.len()) else {
            break;
        };
        let data = body.slice(start..end);
        let data = match flag {
            0 => data,
            1 => {
                let data = coding::within(&data, coding, budget)
                    .map_err(|e| WireError(format!("message {}: {e}", out.len())))?;
                budget = budget.saturating_sub(data.len() as u64);
                data
            }
            other => {
                return Err(WireError(format!(
                    "message {}: the compression flag is {other}",
                    out.len()
                )));
            }
        };
        out.push(Framed {
            message: Message {
                at_ns: side.at(end as u64),
                offset: at as u64,
                length: (end - at) as u64,
                id: None,
                error: None,
            },
            data,
        });
        at = end;
    }
    let left = (at < body.len() || !side.wire.is_whole()).then(|| {
        WireError(format!(
            "{} bytes are not read past message {}; {} of {} bytes were copied",
            body.len() - at,
            out.len(),
            body.len(),
            side.wire.seen
        ))
    });
    Ok((out, left))
}

/// The one message of a unary body.
///
/// # Errors
/// As [`messages`], and any other number of messages.
pub(super) fn message(side: Side<'_>) -> Result<Bytes, WireError> {
    let (mut all, left) = messages(side)?;
    if let Some(left) = left {
        return Err(left);
    }
    match (all.pop(), all.len()) {
        (Some(only), 0) => Ok(only.data),
        (last, n) => Err(WireError(format!(
            "a unary body has one message, this one has {}",
            n + usize::from(last.is_some())
        ))),
    }
}

/// Puts `grpc-status` and `grpc-message` into the row, from the trailers or, in an answer without
/// a body, the headers. False where the status is an error.
pub(super) fn status(raw: &RawExchange, row: &mut Exchange) -> bool {
    let field = |name| {
        raw.response_trailer(name)
            .or_else(|| raw.response_header(name))
    };
    row.grpc_status = field("grpc-status").and_then(|s| s.parse().ok());
    row.grpc_message = field("grpc-message").map(grpc_message);
    row.grpc_status.is_none_or(|s| s == 0)
}

/// The text of a `grpc-message`, as gRPC asks of readers: malformed escapes stay as they are, bytes that are not UTF-8 are replaced.
pub fn grpc_message(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        let digit = |i: usize| bytes.get(i).and_then(|&d| char::from(d).to_digit(16));
        let escaped = (b == b'%')
            .then(|| Some(digit(at + 1)? * 16 + digit(at + 2)?))
            .flatten()
            .and_then(|v| u8::try_from(v).ok());
        out.push(escaped.unwrap_or(b));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_status_message_is_percent_decoded_leniently() {
        let decoded = super::grpc_message;
        assert_eq!(decoded("a%20b%C3%A4"), "a bä");
        assert_eq!(decoded("50% of %zz %4"), "50% of %zz %4");
        assert_eq!(decoded("%ff"), "\u{fffd}");
    }
}
