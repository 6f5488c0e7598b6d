//! Guards in front of protobuf decoding.

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use super::{MAX_TENSORS, WireError};

/// Decodes a message after counting what would cost memory: each top-level field of `repeated`
/// may come at most [`MAX_TENSORS`] times.
///
/// # Errors
/// Malformed protobuf, or such a count.
pub(super) fn decode<M: Message + Default>(data: &Bytes, repeated: &[u32]) -> Result<M, WireError> {
    count(data, repeated)?;
    M::decode(data.clone()).map_err(|e| WireError(format!("protobuf: {e}")))
}

fn count(data: &Bytes, repeated: &[u32]) -> Result<(), WireError> {
    let mut counts = vec![0usize; repeated.len()];
    let mut rest = data.clone();
    while rest.has_remaining() {
        let malformed = |e| WireError(format!("protobuf: {e}"));
        let (tag, wire) = decode_key(&mut rest).map_err(malformed)?;
        if let Some(i) = repeated.iter().position(|&t| t == tag) {
            counts[i] += 1;
            if counts[i] > MAX_TENSORS {
                return Err(WireError(format!(
                    "protobuf: field {tag} comes more than {MAX_TENSORS} times"
                )));
            }
        }
        skip_field(wire, tag, &mut rest, DecodeContext::default()).map_err(malformed)?;
    }
    Ok(())
}
