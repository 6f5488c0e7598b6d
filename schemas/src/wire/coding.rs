//! Content codings: gzip and deflate, bounded.

use std::io::Read;

use bytes::Bytes;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::WireError;
use crate::tensor::MAX_PAYLOAD_BYTES;

/// A body may decode to this many times its size …
const RATIO: u64 = 100;
/// … plus this many bytes (1 MiB), so that small bodies of zeros are not refused.
const SLACK: u64 = 1 << 20;
/// More codings on one body than any client applies.
const MAX_CODINGS: usize = 4;

/// The most bytes that a body of `coded` bytes may decode to.
pub(super) fn limit(coded: usize) -> u64 {
    (coded as u64)
        .saturating_mul(RATIO)
        .saturating_add(SLACK)
        .min(MAX_PAYLOAD_BYTES)
}

/// Undoes the codings that a `Content-Encoding` or `grpc-encoding` value lists (RFC 9110 §8.4), the
/// last one first. `deflate` is zlib; raw deflate, which some clients send, is read too.
///
/// # Errors
/// An unknown coding, a damaged body, a body that decodes to more than min(1 GiB, 100× + 1 MiB).
pub(super) fn decoded(data: &Bytes, coding: Option<&str>) -> Result<Bytes, WireError> {
    within(data, coding, limit(data.len()))
}

/// As [`decoded`], with another limit.
///
/// # Errors
/// As [`decoded`].
pub(super) fn within(data: &Bytes, coding: Option<&str>, limit: u64) -> Result<Bytes, WireError> {
    let mut out = data.clone();
    let codings = coding.unwrap_or("").split(',').map(str::trim_ascii);
    for (n, coding) in codings.rev().enumerate() {
        if n == MAX_CODINGS {
            return Err(WireError(format!(
                "more than {MAX_CODINGS} content codings on one body"
            )));
        }
        out = match coding.to_ascii_lowercase().as_str() {
            "" | "identity" => out,
            "gzip" | "x-gzip" => inflate(&mut MultiGzDecoder::new(&out[..]), "gzip", limit)?,
            "deflate" => deflate(&out, limit)?,
            other => {
                return Err(WireError(format!(
                    "content encoding `{other:.40}` is not decoded"
                )));
            }
        };
    }
    Ok(out)
}

/// RFC 1950: compression method 8 and a header that is a multiple of 31.
fn looks_like_zlib(data: &[u8]) -> bool {
    matches!(data, [a, b, ..] if a & 0x0f == 8 && (u16::from(*a) * 256 + u16::from(*b)) % 31 == 0)
}

/// zlib as RFC 9110 says, or the raw stream inside it.
fn deflate(data: &[u8], limit: u64) -> Result<Bytes, WireError> {
    let whole = |out: Bytes, rest: &[u8]| match rest.len() {
        0 => Ok(out),
        n => Err(WireError(format!("deflate: {n} bytes follow its end"))),
    };
    let mut zlib = ZlibDecoder::new(data);
    match inflate(&mut zlib, "deflate", limit) {
        Ok(out) => whole(out, zlib.get_ref()),
        Err(e) if looks_like_zlib(data) => Err(e),
        Err(e) => {
            let mut raw = DeflateDecoder::new(data);
            let out = inflate(&mut raw, "deflate", limit).map_err(|_| e)?;
            whole(out, raw.get_ref())
        }
    }
}

fn inflate(reader: &mut impl Read, coding: &str, limit: u64) -> Result<Bytes, WireError> {
    let mut out = Vec::new();
    reader
        .take(limit + 1)
        .read_to_end(&mut out)
        .map_err(|e| WireError(format!("{coding}: {e}")))?;
    if out.len() as u64 > limit {
        return Err(WireError(format!(
            "{coding} bomb: the body decodes to more than {limit} bytes"
        )));
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(data: &[u8]) -> Bytes {
        let mut e = GzEncoder::new(Vec::new(), Compression::default());
        e.write_all(data).unwrap();
        e.finish().unwrap().into()
    }

    #[test]
    fn every_coding_and_their_order() {
        let text = b"hello hello hello";
        let mut z = ZlibEncoder::new(Vec::new(), Compression::default());
        z.write_all(text).unwrap();
        let zlib: Bytes = z.finish().unwrap().into();
        let mut r = DeflateEncoder::new(Vec::new(), Compression::default());
        r.write_all(text).unwrap();
        let raw: Bytes = r.finish().unwrap().into();
        for (body, coding) in [
            (gzip(text), "gzip"),
            (gzip(text), " X-GZIP , identity"),
            (zlib.clone(), "deflate"),
            (raw, "deflate"),
            (gzip(&zlib), "deflate, gzip"),
            (Bytes::from_static(text), ""),
        ] {
            assert_eq!(decoded(&body, Some(coding)).unwrap(), &text[..], "{coding}");
        }
        assert!(decoded(&zlib, Some("gzip, deflate")).is_err());
        assert!(decoded(&gzip(text).slice(..9), Some("gzip")).is_err());
        let cut = zlib.slice(..zlib.len() - 3);
        assert!(decoded(&cut, Some("deflate")).is_err());
        let longer: Bytes = [&zlib[..], b"x"].concat().into();
        assert!(decoded(&longer, Some("deflate")).is_err());
        assert!(decoded(&gzip(text), Some("br")).is_err());
        assert!(decoded(&gzip(text), Some("gzip,,,,,,")).is_err());
    }

    #[test]
    fn a_bomb_is_refused_and_an_ordinary_ratio_is_not() {
        let bomb = gzip(&vec![0; 64 << 20]);
        let why = decoded(&bomb, Some("gzip")).unwrap_err().0;
        assert!(why.contains("gzip bomb"), "{why}");
        let zeros = gzip(&vec![0; 1 << 20]);
        assert_eq!(decoded(&zeros, Some("gzip")).unwrap().len(), 1 << 20);
    }
}
