//! Typed protobuf lists into little-endian bytes.

use super::WireError;
use crate::tensor::Datatype;

/// The bytes of integers narrowed to an integer datatype (or BOOL), range-checked.
pub(super) fn integers(
    values: impl ExactSizeIterator<Item = i64>,
    datatype: Datatype,
) -> Result<Vec<u8>, WireError> {
    let size = datatype.size().unwrap_or(0);
    let mut out = Vec::with_capacity(values.len().saturating_mul(size));
    macro_rules! put {
        ($t:ty) => {
            for v in values {
                let narrow = <$t>::try_from(v)
                    .map_err(|_| WireError(format!("{v} is out of range of {datatype}")))?;
                out.extend_from_slice(&narrow.to_le_bytes());
            }
        };
    }
    match datatype {
        Datatype::Uint8 => put!(u8),
        Datatype::Uint16 => put!(u16),
        Datatype::Uint32 => put!(u32),
        Datatype::Int8 => put!(i8),
        Datatype::Int16 => put!(i16),
        Datatype::Int32 => put!(i32),
        Datatype::Int64 => put!(i64),
        other => return Err(WireError(format!("integers are no {other}"))),
    }
    Ok(out)
}

/// BYTES elements, each under its u32 length.
pub(super) fn strings<T: AsRef<[u8]>>(values: &[T]) -> Result<Vec<u8>, WireError> {
    let total = values.iter().map(|v| v.as_ref().len() + 4).sum();
    let mut out = Vec::with_capacity(total);
    for v in values {
        let v = v.as_ref();
        let length = u32::try_from(v.len()).map_err(WireError::new)?;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(v);
    }
    Ok(out)
}
