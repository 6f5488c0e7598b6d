//! Where the JSON header of a binary tensor body ends.

use super::WireError;

/// The JSON header's length in a body of the binary tensor data extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryHeader {
    /// No binary data: the whole body is JSON.
    AllJson,
    /// The first `n` bytes are JSON, blobs follow in tensor order.
    Json(usize),
    /// Length 0: the body is one raw input whose name and datatype only the model knows.
    RawInput,
}

/// Reads `Inference-Header-Content-Length`, or the length inside Triton's SageMaker and Vertex
/// content types (`…;json-header-size=N`).
///
/// # Errors
/// A length that is no decimal number.
pub fn binary_header(
    length: Option<&str>,
    content_type: Option<&str>,
) -> Result<BinaryHeader, WireError> {
    let in_type = content_type.and_then(|t| {
        let t = t.trim();
        let vendor = t.starts_with("application/vnd.") && t.contains("triton.binary+json");
        vendor
            .then(|| t.split_once("json-header-size=").map(|(_, n)| n.trim()))
            .flatten()
    });
    let Some(text) = length.or(in_type) else {
        return Ok(BinaryHeader::AllJson);
    };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<usize>() {
        Ok(0) if digits => Ok(BinaryHeader::RawInput),
        Ok(n) if digits => Ok(BinaryHeader::Json(n)),
        _ => Err(WireError(format!(
            "the length of the JSON header, `{text}`, is no number"
        ))),
    }
}
