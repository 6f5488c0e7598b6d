//! How long a message body is: RFC 9112 §6.3, without its ambiguities.

use super::head::{FirstLine, Head, HeadError};

/// The length of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// None.
    Empty,
    /// Exactly so many bytes.
    Known(u64),
    /// Chunks, then trailers.
    Chunked,
    /// Until the sender closes (responses only).
    UntilClose,
}

/// The body length of a request.
///
/// # Errors
/// Whatever two readers could understand differently: Content-Length beside Transfer-Encoding,
/// repeated or malformed lengths, any transfer coding but a single `chunked`, chunks in HTTP/1.0,
/// more than one Host (RFC 9112 §3.2).
pub fn of_request(head: &Head) -> Result<Length, HeadError> {
    let refuse = |why: &str| Err(HeadError(why.to_owned()));
    if head.all("host").nth(1).is_some() {
        return refuse("it has more than one Host");
    }
    let codings: Vec<&[u8]> = head.all("transfer-encoding").collect();
    let lengths: Vec<&[u8]> = head.all("content-length").collect();
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(Length::Empty),
        ([_, ..], [_, ..]) => refuse("it has both Content-Length and Transfer-Encoding"),
        ([_, ..], []) if head.minor_version == 0 => refuse("HTTP/1.0 has no Transfer-Encoding"),
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Length::Chunked),
        ([..], []) => refuse("its Transfer-Encoding is not a single `chunked`"),
        ([], [length]) => known(length),
        ([], _) => refuse("it has more than one Content-Length"),
    }
}

/// The body length of the answer to a `method` request.
///
/// # Errors
/// Lengths that contradict each other.
pub fn of_response(head: &Head, method: &str) -> Result<Length, HeadError> {
    let FirstLine::Response { status } = head.first else {
        return Err(HeadError("it is no response".to_owned()));
    };
    if method == "HEAD" || status < 200 || status == 204 || status == 304 {
        return Ok(Length::Empty);
    }
    let codings: Vec<&[u8]> = head.all("transfer-encoding").collect();
    let lengths: Vec<&[u8]> = head.all("content-length").collect();
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(Length::UntilClose),
        // Content-Length beside it is not forwarded: see `forward`.
        (codings, _) if ends_chunked(codings) => Ok(Length::Chunked),
        ([_, ..], []) => Ok(Length::UntilClose),
        ([_, ..], _) => Err(HeadError(
            "it has Content-Length and a Transfer-Encoding not `chunked`".to_owned(),
        )),
        ([], [first, rest @ ..]) if rest.iter().all(|l| l == first) => known(first),
        ([], _) => Err(HeadError("its Content-Lengths differ".to_owned())),
    }
}

/// True where `chunked` is the last transfer coding and stands only there: the chunks then end the
/// body, whatever is inside them.
fn ends_chunked(codings: &[&[u8]]) -> bool {
    let tokens = codings
        .iter()
        .flat_map(|line| line.split(|&b| b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty());
    let is_chunked = |token: &&[u8]| token.eq_ignore_ascii_case(b"chunked");
    tokens.clone().filter(is_chunked).count() == 1 && tokens.last().is_some_and(|t| is_chunked(&t))
}

/// Lengths that no body has: `u64::MAX` would be no number of bytes, and sums must not overflow.
const LONGEST: u64 = 1 << 62;

fn known(text: &[u8]) -> Result<Length, HeadError> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let parsed = std::str::from_utf8(text)
        .ok()
        .filter(|_| digits)
        .and_then(|t| t.parse().ok())
        .filter(|&n| n <= LONGEST);
    match parsed {
        Some(0) => Ok(Length::Empty),
        Some(n) => Ok(Length::Known(n)),
        None => Err(HeadError(format!(
            "its Content-Length `{}` is no length",
            String::from_utf8_lossy(text)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    fn request(fields: &str) -> Result<Length, HeadError> {
        let text = format!("POST / HTTP/1.1\r\n{fields}\r\n");
        of_request(&super::super::head::take(&mut BytesMut::from(&text[..]), true)?.unwrap())
    }

    fn response(status: u16, method: &str, fields: &str) -> Result<Length, HeadError> {
        let text = format!("HTTP/1.1 {status} X\r\n{fields}\r\n");
        let head = super::super::head::take(&mut BytesMut::from(&text[..]), false)?.unwrap();
        of_response(&head, method)
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        for fields in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 0x1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 18446744073709551615\r\n",
            "Host: a\r\nHost: a\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
        ] {
            assert!(request(fields).is_err(), "{fields:?}");
        }
        assert_eq!(request("Content-Length: 12\r\n"), Ok(Length::Known(12)));
        assert_eq!(
            request("Transfer-Encoding: Chunked\r\n"),
            Ok(Length::Chunked)
        );
        assert_eq!(request(""), Ok(Length::Empty));
    }

    #[test]
    fn responses_end_as_the_rfc_says() {
        assert_eq!(
            response(200, "HEAD", "Content-Length: 9\r\n"),
            Ok(Length::Empty)
        );
        assert_eq!(
            response(304, "GET", "Content-Length: 9\r\n"),
            Ok(Length::Empty)
        );
        assert_eq!(response(200, "GET", ""), Ok(Length::UntilClose));
        assert_eq!(
            response(200, "GET", "Content-Length: 9\r\nContent-Length: 9\r\n"),
            Ok(Length::Known(9))
        );
        assert!(response(200, "GET", "Content-Length: 9\r\nContent-Length: 8\r\n").is_err());
        let both = "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(response(200, "GET", both), Ok(Length::Chunked));
        for (codings, expected) in [
            ("Transfer-Encoding: gzip, chunked\r\n", Length::Chunked),
            (
                "Transfer-Encoding: gzip\r\nTransfer-Encoding: Chunked\r\n",
                Length::Chunked,
            ),
            ("Transfer-Encoding: chunked, gzip\r\n", Length::UntilClose),
            (
                "Transfer-Encoding: chunked, chunked\r\n",
                Length::UntilClose,
            ),
        ] {
            assert_eq!(response(200, "GET", codings), Ok(expected), "{codings:?}");
        }
    }
}
