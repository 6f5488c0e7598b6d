//! Server-sent events: where each event is; nothing of it is decoded.
//!
//! Source: WHATWG HTML, "Server-sent events", "Interpreting an event stream".

use bytes::Bytes;

use super::row::{Decoded, Side};
use super::{MAX_MESSAGES, WireError, coding};
use crate::exchange::{Exchange, Message, Outcome};

/// One event that has data.
pub(super) struct Event {
    /// Its place in the body: from its first field to the blank line that ends it, that included.
    pub message: Message,
    /// Its data lines, joined by line feeds.
    pub data: Vec<u8>,
    /// `event:` was `error`.
    pub is_error: bool,
}

/// The events of an answer and, where bytes of an unfinished one follow, what is left.
///
/// Comments and events without data are not messages. The last event of a body that ended properly
/// may lack its blank line. In a body with a content coding the places are those in the decoded
/// body, and all times are the end of the exchange.
///
/// # Errors
/// A content coding that cannot be undone.
pub(super) fn events(side: Side<'_>) -> Result<(Vec<Event>, Option<WireError>), WireError> {
    let coded = side
        .header("content-encoding")
        .is_some_and(|c| !matches!(c, "" | "identity"));
    let body: Bytes = if coded {
        side.body()?
    } else {
        coding::decoded(&side.wire.data, None)?
    };
    let mut events = Vec::new();
    let mut open = Open::default();
    let mut at = 0;
    // A byte order mark may lead.
    if body.starts_with(b"\xef\xbb\xbf") {
        at = 3;
    }
    let mut start = at;
    while at < body.len() && events.len() < MAX_MESSAGES {
        let (line, next) = line(&body, at);
        let ended = next > at + line.len();
        if !ended && !side.wire.is_whole() {
            break;
        }
        at = next;
        if line.is_empty() {
            events.extend(open.take(start, at));
            start = at;
        } else {
            open.field(line);
        }
    }
    let unfinished = at < body.len() || (open.any && !side.wire.is_whole());
    if !unfinished {
        events.extend(open.take(start, body.len()));
    }
    for event in &mut events {
        let m = &mut event.message;
        m.at_ns = if coded {
            side.raw.end_ns
        } else {
            side.at(m.offset.saturating_add(m.length))
        };
    }
    let left = (unfinished || !side.wire.is_whole()).then(|| {
        WireError(format!(
            "the stream of events is not read past event {} ({} of {} bytes were copied)",
            events.len(),
            side.wire.data.len(),
            side.wire.seen
        ))
    });
    Ok((events, left))
}

/// The line that begins at `at`, without its end, and where the next one begins.
fn line(body: &[u8], at: usize) -> (&[u8], usize) {
    let rest = &body[at..];
    let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
        return (rest, body.len());
    };
    let crlf = rest[end..].starts_with(b"\r\n");
    (&rest[..end], at + end + if crlf { 2 } else { 1 })
}

/// The event that is being read.
#[derive(Default)]
struct Open {
    any: bool,
    data: Option<Vec<u8>>,
    id: Option<String>,
    is_error: bool,
}

impl Open {
    fn field(&mut self, line: &[u8]) {
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        self.any |= !name.is_empty();
        match name {
            b"data" => match &mut self.data {
                None => self.data = Some(value.to_vec()),
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            },
            b"id" => self.id = Some(String::from_utf8_lossy(value).into_owned()),
            b"event" => self.is_error = value == b"error",
            _ => {}
        }
    }

    fn take(&mut self, start: usize, end: usize) -> Option<Event> {
        let open = std::mem::take(self);
        open.data.map(|data| Event {
            message: Message {
                at_ns: 0,
                offset: start as u64,
                length: (end - start) as u64,
                id: open.id,
                error: None,
            },
            data,
            is_error: open.is_error,
        })
    }
}

/// Marks the exchange where one of its messages is an error.
pub(super) fn mark_errors(row: &mut Exchange, messages: &[Message]) {
    if row.outcome == Outcome::Complete
        && let Some(error) = messages.iter().find_map(|m| m.error.as_ref())
    {
        row.outcome = Outcome::ErrorInStream;
        row.error = Some(error.clone());
    }
}

/// Any answer of events: each is a message, the body is kept raw.
pub(super) fn response(side: Side<'_>, row: &mut Exchange) -> Result<Decoded, WireError> {
    let (events, left) = events(side)?;
    let messages: Vec<Message> = events
        .into_iter()
        .map(|e| Message {
            error: e
                .is_error
                .then(|| String::from_utf8_lossy(&e.data).into_owned()),
            ..e.message
        })
        .collect();
    mark_errors(row, &messages);
    row.response_messages = Some(messages);
    left.map_or(Ok(Decoded::Raw), Err)
}
