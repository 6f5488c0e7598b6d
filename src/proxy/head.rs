//! Request and response heads, strict where two readers could disagree.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use inferdiff_schemas::Headers;

/// Why a head is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HeadError(pub String);

/// A head as it came.
#[derive(Debug, Clone)]
pub struct Head {
    /// Every byte up to and including the empty line.
    pub raw: Bytes,
    /// First line: method and target, or status and reason.
    pub first: FirstLine,
    /// 0 or 1.
    pub minor_version: u8,
    /// Where each line and its parts stand in `raw`.
    pub fields: Vec<Line>,
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstLine {
    /// Of a request.
    Request {
        /// Method.
        method: String,
        /// Target as sent.
        target: String,
    },
    /// Of a response.
    Response {
        /// Status.
        status: u16,
    },
}

/// One header line.
#[derive(Debug, Clone)]
pub struct Line {
    name: Range<usize>,
    /// Without surrounding white space.
    value: Range<usize>,
    end: usize,
}

/// More fields in a head, or in trailers, are an attack.
pub const MAX_FIELDS: usize = 128;

/// Takes a whole head from the front of `buffer`; `None` where more bytes are needed.
///
/// # Errors
/// Bare CR or LF, folded lines, anything `httparse` refuses, more than 128 fields.
pub fn take(buffer: &mut BytesMut, request: bool) -> Result<Option<Head>, HeadError> {
    if request {
        // RFC 9112 §2.2: empty lines before a request line are ignored.
        while buffer.starts_with(b"\r\n") {
            buffer.advance(2);
        }
    }
    let Some(end) = end_of_head(buffer)? else {
        return Ok(None);
    };
    let raw = buffer.split_to(end).freeze();
    parse(raw, request).map(Some)
}

/// Where the empty line ends. Bare LF and CR are refused as soon as they are seen: a lenient reader
/// behind us would see another head than we do.
fn end_of_head(buffer: &[u8]) -> Result<Option<usize>, HeadError> {
    let (mut line, mut lines) = (0, 0);
    for at in memchr::memchr2_iter(b'\r', b'\n', buffer) {
        match buffer[at] {
            b'\r' => match buffer.get(at + 1) {
                Some(b'\n') | None => {}
                Some(_) => return Err(HeadError("a CR stands alone in the head".to_owned())),
            },
            _ if at == 0 || buffer[at - 1] != b'\r' => {
                return Err(HeadError(
                    "a line of the head ends with a bare LF".to_owned(),
                ));
            }
            _ if at - 1 == line => return Ok(Some(at + 1)),
            _ => {
                if line > 0 && matches!(buffer[line], b' ' | b'\t') {
                    return Err(HeadError("a header line is folded".to_owned()));
                }
                line = at + 1;
                lines += 1;
                // A head that comes byte by byte is walked again each time.
                if lines > MAX_FIELDS + 1 {
                    return Err(HeadError("it has more than 128 fields".to_owned()));
                }
            }
        }
    }
    Ok(None)
}

fn parse(raw: Bytes, request: bool) -> Result<Head, HeadError> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let refuse = |e: httparse::Error| HeadError(format!("the head is malformed: {e}"));
    let (first, minor_version, fields) = if request {
        let mut parsed = httparse::Request::new(&mut []);
        complete(
            parsed
                .parse_with_uninit_headers(&raw, &mut slots)
                .map_err(refuse)?,
        )?;
        let method = parsed.method.unwrap_or_default().to_owned();
        let target = parsed.path.unwrap_or_default().to_owned();
        let fields = lines(&raw, parsed.headers);
        (
            FirstLine::Request { method, target },
            parsed.version,
            fields,
        )
    } else {
        let mut parsed = httparse::Response::new(&mut []);
        complete(
            httparse::ParserConfig::default()
                .parse_response_with_uninit_headers(&mut parsed, &raw, &mut slots)
                .map_err(refuse)?,
        )?;
        let fields = lines(&raw, parsed.headers);
        (
            FirstLine::Response {
                status: parsed.code.unwrap_or_default(),
            },
            parsed.version,
            fields,
        )
    };
    let minor_version = minor_version.unwrap_or(1);
    Ok(Head {
        fields,
        first,
        minor_version,
        raw,
    })
}

fn complete(status: httparse::Status<usize>) -> Result<(), HeadError> {
    match status {
        httparse::Status::Complete(_) => Ok(()),
        httparse::Status::Partial => Err(HeadError("the head ends in the middle".to_owned())),
    }
}

fn lines(raw: &[u8], headers: &[httparse::Header<'_>]) -> Vec<Line> {
    let base = raw.as_ptr().addr();
    let place = |part: &[u8]| {
        // An empty value has no place in the head.
        let start = part.as_ptr().addr().wrapping_sub(base);
        let start = if part.is_empty() { 0 } else { start };
        start..start + part.len()
    };
    headers
        .iter()
        .map(|h| {
            let name = place(h.name.as_bytes());
            let newline = memchr::memchr(b'\n', &raw[name.end..]).unwrap_or(0);
            Line {
                end: name.end + newline + 1,
                value: place(h.value),
                name,
            }
        })
        .collect()
}

impl Head {
    /// All values of a field, ASCII case ignored.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |l| is(&self.raw[l.name.clone()], name))
            .map(|l| &self.raw[l.value.clone()])
    }

    /// True when a comma-separated field holds that token.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).any(|v| {
            v.split(|&b| b == b',')
                .any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        })
    }

    /// The sender wants the connection kept open after this message.
    pub fn keeps_alive(&self) -> bool {
        if self.minor_version == 0 {
            self.has_token("connection", "keep-alive")
        } else {
            !self.has_token("connection", "close")
        }
    }

    /// Appends the head to `out` as it came, without what belongs to the sender's connection,
    /// without the fields named in `leave_out`, and with `add` before the empty line.
    pub fn forward(&self, out: &mut Vec<u8>, leave_out: &[&str], add: &[u8]) {
        let mut from = 0;
        for line in &self.fields {
            let name = &self.raw[line.name.clone()];
            if self.is_hop_by_hop(name) || leave_out.iter().any(|n| is(name, n)) {
                out.extend_from_slice(&self.raw[from..line.name.start]);
                from = line.end;
            }
        }
        let end = self.raw.len() - 2;
        out.extend_from_slice(&self.raw[from..end]);
        out.extend_from_slice(add);
        out.extend_from_slice(b"\r\n");
    }

    fn is_hop_by_hop(&self, name: &[u8]) -> bool {
        let own = ["connection", "keep-alive", "proxy-connection"];
        if own.iter().any(|n| is(name, n)) {
            return true;
        }
        // What Connection nominates is of this hop, but framing and routing are not its to take.
        let kept = [
            "host",
            "content-length",
            "transfer-encoding",
            "upgrade",
            "te",
            "trailer",
        ];
        let nominated = |name: &[u8]| {
            let name = std::str::from_utf8(name);
            name.is_ok_and(|name| self.has_token("connection", name))
        };
        !kept.iter().any(|n| is(name, n)) && nominated(name)
    }

    /// Names and values, for the record: in a copy, because `raw` keeps the whole buffer alive that the
    /// socket was read into.
    pub fn headers(&self) -> Headers {
        let places = self
            .fields
            .iter()
            .map(|l| (l.name.clone(), l.value.clone()));
        Headers::within(self.raw.to_vec(), places)
    }
}

fn is(name: &[u8], wanted: &str) -> bool {
    name.eq_ignore_ascii_case(wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take_all(text: &str) -> Result<Option<Head>, HeadError> {
        take(&mut BytesMut::from(text), true)
    }

    #[test]
    fn a_head_is_forwarded_as_it_came() {
        let text = "POST /a?b=c HTTP/1.1\r\nHoSt: x\r\nX-A:  1 \r\nConnection: keep-alive, X-Hop\r\nx-a: 2\r\nX-Hop: y\r\n\r\n";
        let head = take_all(&format!("\r\n{text}rest")).unwrap().unwrap();
        let mut out = Vec::new();
        head.forward(&mut out, &[], b"");
        let out = String::from_utf8(out).unwrap();
        assert_eq!(
            out,
            "POST /a?b=c HTTP/1.1\r\nHoSt: x\r\nX-A:  1 \r\nx-a: 2\r\n\r\n"
        );
        assert!(head.keeps_alive());
        let headers = head.headers();
        let (names, values): (Vec<_>, Vec<_>) = headers.iter().unzip();
        assert_eq!(names, ["HoSt", "X-A", "Connection", "x-a", "X-Hop"]);
        assert_eq!(values, [&b"x"[..], b"1", b"keep-alive, X-Hop", b"2", b"y"]);
    }

    #[test]
    fn heads_that_two_readers_could_read_differently_are_refused() {
        for text in [
            "GET / HTTP/1.1\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\0\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "G@T / HTTP/1.1\r\n : b\r\n\r\n",
        ] {
            assert!(take_all(text).is_err(), "{text:?}");
        }
        assert!(take_all("GET / HTTP/1.1\r\nA: b\r\n").unwrap().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = take(&mut BytesMut::from(&bytes[..]), true);
            let _ = take(&mut BytesMut::from(&bytes[..]), false);
        }
    }
}
