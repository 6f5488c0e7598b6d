//! Guards in front of protobuf decoding.

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message};

use super::{MAX_TENSORS, WireError};

/// Field numbers from the top of a message down to a repeated field.
pub(super) type Path<'a> = &'a [u32];

/// Decodes a message after counting what would cost memory: each repeated message that `repeated`
/// names may come at most [`MAX_TENSORS`] times in all, because an empty one costs two bytes on
/// the wire and hundreds decoded.
///
/// # Errors
/// Malformed protobuf, or such a count.
pub(super) fn decode<M: Message + Default>(
    data: &Bytes,
    repeated: &[Path<'_>],
) -> Result<M, WireError> {
    let paths: Vec<(usize, Path<'_>)> = repeated.iter().copied().enumerate().collect();
    count(data.clone(), &paths, &mut vec![0; repeated.len()])?;
    M::decode(data.clone()).map_err(malformed)
}

fn malformed(e: DecodeError) -> WireError {
    WireError(format!("protobuf: {e}"))
}

fn count(
    mut rest: Bytes,
    paths: &[(usize, Path<'_>)],
    counts: &mut [usize],
) -> Result<(), WireError> {
    while rest.has_remaining() {
        let (tag, wire) = decode_key(&mut rest).map_err(malformed)?;
        let mut deeper = Vec::new();
        for &(counter, path) in paths {
            match path {
                [only] if *only == tag => {
                    counts[counter] += 1;
                    if counts[counter] > MAX_TENSORS {
                        return Err(WireError(format!(
                            "protobuf: field {tag} comes more than {MAX_TENSORS} times"
                        )));
                    }
                }
                [first, tail @ ..] if *first == tag && !tail.is_empty() => {
                    deeper.push((counter, tail));
                }
                _ => {}
            }
        }
        if deeper.is_empty() || wire != WireType::LengthDelimited {
            skip_field(wire, tag, &mut rest, DecodeContext::default()).map_err(malformed)?;
            continue;
        }
        let length = decode_varint(&mut rest).map_err(malformed)?;
        let fits = usize::try_from(length)
            .ok()
            .filter(|&n| n <= rest.remaining());
        let Some(length) = fits else {
            return Err(WireError(format!(
                "protobuf: field {tag} claims {length} bytes, {} are left",
                rest.remaining()
            )));
        };
        count(rest.split_to(length), &deeper, counts)?;
    }
    Ok(())
}
