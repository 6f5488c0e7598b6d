//! JSON text as Python writes it: bare `NaN`, `Infinity` and `-Infinity`.

use std::borrow::Cow;

use super::WireError;

/// How a bare number is written so that a JSON parser reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bare {
    /// As a string: for tensors whose datatype is known, where no string can be meant.
    Quoted,
    /// As `{"~":"NaN"}`: where a string would change the datatype that is told from the values.
    Marked,
}

/// UTF-8, with Python's bare `NaN` and `Infinity` replaced where there are any.
pub(super) fn readable(json: &[u8], bare: Bare) -> Result<Cow<'_, str>, WireError> {
    let text = std::str::from_utf8(json).map_err(|e| WireError(format!("JSON: {e}")))?;
    let mut beginnings = memchr::memchr2_iter(b'N', b'I', json);
    let any = beginnings.any(|at| {
        let rest = &json[at..];
        rest.starts_with(b"NaN") || rest.starts_with(b"Infinity")
    });
    Ok(if any {
        Cow::Owned(replaced(text, bare))
    } else {
        Cow::Borrowed(text)
    })
}

/// Python's json module writes NaN and ±Infinity bare, which JSON does not allow.
fn replaced(text: &str, bare: Bare) -> String {
    let (open, close) = match bare {
        Bare::Quoted => ("\"", "\""),
        Bare::Marked => ("{\"~\":\"", "\"}"),
    };
    let mut out = String::with_capacity(text.len() + 16);
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if !in_string
            && let Some(token) = ["NaN", "-Infinity", "Infinity"]
                .into_iter()
                .find(|t| rest.starts_with(t))
        {
            out.push_str(open);
            out.push_str(token);
            out.push_str(close);
            rest = &rest[token.len()..];
            continue;
        }
        match c {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && c == '\\' && !escaped;
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// JSON text whose [`Bare::Marked`] numbers are strings. No JSON string can hold a mark unescaped.
pub(super) fn unmarked(json: &str) -> String {
    ["NaN", "-Infinity", "Infinity"]
        .into_iter()
        .fold(json.to_owned(), |text, token| {
            text.replace(&format!("{{\"~\":\"{token}\"}}"), &format!("\"{token}\""))
        })
}

/// Standard base64, padded or not.
pub(super) fn base64(text: &str) -> Result<Vec<u8>, WireError> {
    use base64::Engine;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    LENIENT
        .decode(text)
        .map_err(|e| WireError(format!("base64: {e}")))
}
