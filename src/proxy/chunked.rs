//! Finds the end of a chunked body without changing a byte of it.

use inferdiff_schemas::Headers;

use super::head::{HeadError, MAX_FIELDS};

/// Walks over chunk framing: RFC 9112 §7.1.
#[derive(Debug, Default)]
pub struct ChunkWalker {
    state: State,
    line: Vec<u8>,
    trailers: Headers,
    trailer_bytes: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Done,
}

/// A chunk line or trailer section larger than this is an attack.
const MAX_LINE: usize = 16 * 1024;

impl ChunkWalker {
    /// Walks over `bytes`, appends payload to `payload`, returns how many bytes belong to the body.
    /// Fewer than all only when the body is done.
    ///
    /// # Errors
    /// Framing that is not what the RFC says.
    pub fn walk(
        &mut self,
        bytes: &[u8],
        mut payload: impl FnMut(&[u8]),
    ) -> Result<usize, HeadError> {
        let refuse = |why: &str| Err(HeadError(format!("chunked body: {why}")));
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            match &mut self.state {
                State::Data(left) => {
                    let n = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len() - at);
                    payload(&bytes[at..at + n]);
                    at += n;
                    *left -= n as u64;
                    if *left == 0 {
                        self.state = State::DataEnd;
                    }
                }
                _ => {
                    let newline = memchr::memchr(b'\n', &bytes[at..]);
                    let end = newline.map_or(bytes.len(), |n| at + n + 1);
                    self.line.extend_from_slice(&bytes[at..end]);
                    at = end;
                    if self.line.len() > MAX_LINE {
                        return refuse("a line is longer than 16 KiB");
                    }
                    if newline.is_some() {
                        let line = std::mem::take(&mut self.line);
                        let Some(text) = line.strip_suffix(b"\r\n") else {
                            return refuse("a line ends with a bare LF");
                        };
                        // Some readers take a lone CR for the end of a line.
                        if text.contains(&b'\r') {
                            return refuse("a CR stands alone in a line");
                        }
                        if self.state == State::Trailer && !text.is_empty() {
                            self.trailer_bytes += text.len();
                            if self.trailer_bytes > MAX_LINE || self.trailers.len() == MAX_FIELDS {
                                return refuse("it has more than 16 KiB or 128 fields of trailers");
                            }
                            let Some((name, value)) = field(text) else {
                                return refuse("a trailer is no field");
                            };
                            self.trailers.push(name, value);
                        }
                        self.state = Self::after_line(&self.state, text)?;
                    }
                }
            }
        }
        Ok(at)
    }

    fn after_line(state: &State, line: &[u8]) -> Result<State, HeadError> {
        let refuse = |why: &str| Err(HeadError(format!("chunked body: {why}")));
        match state {
            State::Size => {
                let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
                let rest = &line[digits..];
                // White space may stand before an extension, nothing else may.
                let blank = rest.iter().take_while(|b| matches!(b, b' ' | b'\t'));
                let extension = &rest[blank.count()..];
                if digits == 0 || digits > 16 || !(extension.is_empty() || extension[0] == b';') {
                    return refuse("a chunk size is no hexadecimal number");
                }
                let text = std::str::from_utf8(&line[..digits]).unwrap_or_default();
                match u64::from_str_radix(text, 16) {
                    Ok(0) => Ok(State::Trailer),
                    Ok(n) => Ok(State::Data(n)),
                    Err(_) => refuse("a chunk size overflows"),
                }
            }
            State::DataEnd if line.is_empty() => Ok(State::Size),
            State::DataEnd => refuse("a chunk is longer than its size"),
            _ if line.is_empty() => Ok(State::Done),
            _ => Ok(State::Trailer),
        }
    }

    /// The trailers seen so far.
    pub fn into_trailers(self) -> Headers {
        self.trailers
    }

    /// The last chunk and all trailers have been seen.
    pub fn done(&self) -> bool {
        self.state == State::Done
    }
}

/// Name and value of a trailer line; `None` where it is folded, has no name, or holds what no
/// field may (RFC 9110 §5).
fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let text = |b: &u8| *b == b'\t' || (*b >= b' ' && *b != 0x7f);
    if name.is_empty() || !name.iter().all(token) || !value.iter().all(text) {
        return None;
    }
    Some((std::str::from_utf8(name).ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn walk(pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), HeadError> {
        let (mut walker, mut payload, mut used) = (ChunkWalker::default(), Vec::new(), 0);
        for piece in pieces {
            used += walker.walk(piece, |b| payload.extend_from_slice(b))?;
        }
        Ok((payload, used, walker.done()))
    }

    #[test]
    fn extensions_and_trailers_belong_to_the_body() {
        let body = b"4;a=b\r\nwiki\r\n0A \r\n0123456789\r\n0\r\nX: y\r\n\r\nNEXT";
        let (payload, used, done) = walk(&[body]).unwrap();
        assert_eq!(
            (payload.as_slice(), used, done),
            (&b"wiki0123456789"[..], body.len() - 4, true)
        );
        let mut walker = ChunkWalker::default();
        walker.walk(body, |_| {}).unwrap();
        let x: Headers = [("X", "y")].into_iter().collect();
        assert_eq!(walker.into_trailers(), x);
    }

    #[test]
    fn lying_chunks_are_refused() {
        for body in [
            &b"4\nwiki\r\n0\r\n\r\n"[..],
            b"4\r\nwikiX\r\n0\r\n\r\n",
            b"-4\r\nwiki\r\n",
            b"4 4\r\nwiki\r\n",
            b"\r\n",
            b"fffffffffffffffff\r\n",
            b"0x4\r\nwiki\r\n",
            b"4\r\r\nwiki\r\n",
            b"4\x0b\r\nwiki\r\n",
            b"4;a\rb\r\nwiki\r\n",
            b"0\r\nA: b\r\n c\r\n\r\n",
            b"0\r\nA : b\r\n\r\n",
            b"0\r\nno field\r\n\r\n",
            b"0\r\n: b\r\n\r\n",
            b"0\r\nA: b\0\r\n\r\n",
        ] {
            assert!(
                walk(&[body]).is_err(),
                "{:?}",
                String::from_utf8_lossy(body)
            );
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..5), cut in 0usize..200) {
            let mut body = Vec::new();
            for c in &chunks {
                body.extend_from_slice(format!("{:x}\r\n", c.len()).as_bytes());
                body.extend_from_slice(c);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            let cut = cut.min(body.len());
            let (payload, used, done) = walk(&[&body[..cut], &body[cut..]]).unwrap();
            prop_assert_eq!(payload, chunks.concat());
            prop_assert!(done && used == body.len());
        }

        #[test]
        fn any_bytes_are_walked_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = walk(&[&bytes]);
        }
    }
}
