//! Typed tensors as they travel in inference protocols.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The largest tensor or body that a capture keeps, in bytes (1 GiB).
///
/// A Parquet page is limited to 2³¹ bytes and a larger value yields an unreadable file without an
/// error, so larger values are [`Payload::OverLimit`].
pub const MAX_PAYLOAD_BYTES: u64 = 1 << 30;

/// Element type, by its Open Inference Protocol name.
///
/// Source: Open Inference Protocol v2, "Tensor Data Types"; BF16 is Triton's addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are the protocol's own")]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

impl Datatype {
    /// Every datatype, in the order of the enum.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// The Open Inference Protocol name, upper case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The datatype of that exact (upper-case) protocol name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "BOOL" => Self::Bool,
            "UINT8" => Self::Uint8,
            "UINT16" => Self::Uint16,
            "UINT32" => Self::Uint32,
            "UINT64" => Self::Uint64,
            "INT8" => Self::Int8,
            "INT16" => Self::Int16,
            "INT32" => Self::Int32,
            "INT64" => Self::Int64,
            "FP16" => Self::Fp16,
            "BF16" => Self::Bf16,
            "FP32" => Self::Fp32,
            "FP64" => Self::Fp64,
            "BYTES" => Self::Bytes,
            _ => return None,
        })
    }

    /// Bytes per element; `None` for [`Datatype::Bytes`], whose elements vary.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// True for FP16, BF16, FP32 and FP64.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64)
    }
}

impl std::fmt::Display for Datatype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a tensor's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// In [`Tensor::data`].
    #[default]
    Inline,
    /// In a shared-memory region that the recorder cannot see; `parameters` name it.
    Shm,
    /// Replaced by a keyed hash, as the operator asked.
    Hashed,
    /// Left out, as the operator asked.
    Dropped,
    /// Larger than [`MAX_PAYLOAD_BYTES`].
    OverLimit,
}

impl Payload {
    /// Every payload kind.
    pub const ALL: [Self; 5] = [
        Self::Inline,
        Self::Shm,
        Self::Hashed,
        Self::Dropped,
        Self::OverLimit,
    ];

    /// The name stored in captures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Shm => "shm",
            Self::Hashed => "hashed",
            Self::Dropped => "dropped",
            Self::OverLimit => "over_limit",
        }
    }

    /// The payload kind of that stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "inline" => Self::Inline,
            "shm" => Self::Shm,
            "hashed" => Self::Hashed,
            "dropped" => Self::Dropped,
            "over_limit" => Self::OverLimit,
            _ => return None,
        })
    }
}

/// One named tensor.
///
/// `data` is little-endian and row-major; BOOL is one byte an element; BYTES is, per element, a
/// u32 little-endian length and that many bytes. It is `None` exactly when `payload` is not
/// [`Payload::Inline`]. An empty tensor has zero bytes; a 0-D tensor has shape `[]` and one element.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Name in the model's signature.
    pub name: String,
    /// Which message of a stream carried it; 0 for unary exchanges.
    pub message: u32,
    /// Element type.
    pub datatype: Datatype,
    /// Dimensions, each ≥ 0.
    pub shape: Vec<i64>,
    /// Where the data is.
    pub payload: Payload,
    /// The protocol's per-tensor parameters as a JSON object, if there were any.
    pub parameters: Option<String>,
    /// The bytes, when inline.
    pub data: Option<Bytes>,
}

/// Why a shape and a byte count do not make a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// A dimension is below zero.
    #[error("tensor `{name}`: dimension {axis} of shape {shape:?} is negative")]
    NegativeDimension {
        /// Tensor.
        name: String,
        /// Index into the shape.
        axis: usize,
        /// The shape as sent.
        shape: Vec<i64>,
    },
    /// The number of elements does not fit 63 bits.
    #[error("tensor `{name}`: the product of shape {shape:?} overflows")]
    ShapeOverflow {
        /// Tensor.
        name: String,
        /// The shape as sent.
        shape: Vec<i64>,
    },
    /// The data is longer or shorter than shape and datatype say.
    #[error(
        "tensor `{name}`: shape {shape:?} of {datatype} needs {expected} bytes but {actual} are there"
    )]
    WrongLength {
        /// Tensor.
        name: String,
        /// The shape as sent.
        shape: Vec<i64>,
        /// Element type.
        datatype: Datatype,
        /// Bytes that shape and datatype ask for.
        expected: u64,
        /// Bytes that came.
        actual: u64,
    },
    /// A BYTES element's length prefix points past the end, or elements are missing or left over.
    #[error("tensor `{name}`: BYTES data is malformed at element {element}: {why}")]
    MalformedBytes {
        /// Tensor.
        name: String,
        /// Element at which decoding stopped.
        element: u64,
        /// What is wrong.
        why: &'static str,
    },
}

/// The number of elements of `shape`, checked: negative dimensions and overflow are errors.
///
/// A shape with a zero dimension has zero elements even where the other dimensions overflow.
pub fn element_count(name: &str, shape: &[i64]) -> Result<u64, TensorError> {
    if let Some(axis) = shape.iter().position(|&d| d < 0) {
        return Err(TensorError::NegativeDimension {
            name: name.into(),
            axis,
            shape: shape.into(),
        });
    }
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1u64, |n, &d| n.checked_mul(d.unsigned_abs()))
        .filter(|&n| i64::try_from(n).is_ok())
        .ok_or_else(|| TensorError::ShapeOverflow {
            name: name.into(),
            shape: shape.into(),
        })
}

impl Tensor {
    /// An inline tensor whose data is checked against its shape.
    ///
    /// # Errors
    /// Every [`TensorError`]: lying shapes, wrong lengths, malformed BYTES elements.
    pub fn inline(
        name: impl Into<String>,
        datatype: Datatype,
        shape: Vec<i64>,
        data: Bytes,
    ) -> Result<Self, TensorError> {
        let tensor = Self {
            name: name.into(),
            message: 0,
            datatype,
            shape,
            payload: Payload::Inline,
            parameters: None,
            data: Some(data),
        };
        tensor.check()?;
        Ok(tensor)
    }

    /// The number of elements, checked as in [`element_count`].
    ///
    /// # Errors
    /// [`TensorError::NegativeDimension`] and [`TensorError::ShapeOverflow`].
    pub fn elements(&self) -> Result<u64, TensorError> {
        element_count(&self.name, &self.shape)
    }

    /// Checks that shape, datatype and inline data agree.
    ///
    /// # Errors
    /// Every [`TensorError`].
    pub fn check(&self) -> Result<(), TensorError> {
        let elements = self.elements()?;
        let Some(data) = &self.data else {
            return Ok(());
        };
        let Some(size) = self.datatype.size() else {
            return check_bytes(&self.name, elements, data);
        };
        let expected =
            elements
                .checked_mul(size as u64)
                .ok_or_else(|| TensorError::ShapeOverflow {
                    name: self.name.clone(),
                    shape: self.shape.clone(),
                })?;
        if expected != data.len() as u64 {
            return Err(TensorError::WrongLength {
                name: self.name.clone(),
                shape: self.shape.clone(),
                datatype: self.datatype,
                expected,
                actual: data.len() as u64,
            });
        }
        Ok(())
    }
}

fn check_bytes(name: &str, elements: u64, data: &[u8]) -> Result<(), TensorError> {
    let fail = |element, why| {
        Err(TensorError::MalformedBytes {
            name: name.to_owned(),
            element,
            why,
        })
    };
    let mut rest = data;
    for element in 0..elements {
        let Some((prefix, tail)) = rest.split_first_chunk::<4>() else {
            return fail(element, "the length prefix is missing");
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if tail.len() < length {
            return fail(element, "the length prefix points past the end");
        }
        rest = &tail[length..];
    }
    if rest.is_empty() {
        Ok(())
    } else {
        fail(elements, "bytes are left over")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lying_shapes_are_errors_not_panics() {
        let make = |shape: Vec<i64>, n: usize| {
            Tensor::inline("x", Datatype::Fp32, shape, Bytes::from(vec![0; n])).map(|_| ())
        };
        assert!(matches!(
            make(vec![-1, 2], 8),
            Err(TensorError::NegativeDimension { axis: 0, .. })
        ));
        assert!(matches!(
            make(vec![i64::MAX, 2], 8),
            Err(TensorError::ShapeOverflow { .. })
        ));
        assert!(matches!(
            make(vec![i64::MAX], 8),
            Err(TensorError::ShapeOverflow { .. })
        ));
        assert!(matches!(
            make(vec![2], 7),
            Err(TensorError::WrongLength { expected: 8, .. })
        ));
        assert_eq!(make(vec![], 4), Ok(()));
        assert_eq!(make(vec![0, i64::MAX, i64::MAX], 0), Ok(()));
    }

    #[test]
    fn bytes_elements_must_fill_the_data_exactly() {
        let make = |n: i64, data: &'static [u8]| {
            Tensor::inline("s", Datatype::Bytes, vec![n], Bytes::from_static(data)).map(|_| ())
        };
        assert_eq!(make(2, b"\x01\0\0\0a\0\0\0\0"), Ok(()));
        assert!(make(1, b"\x05\0\0\0a").is_err());
        assert!(make(1, b"\x01\0\0\0ab").is_err());
        assert!(make(2, b"\x01\0\0\0a").is_err());
        assert!(make(i64::MAX, b"").is_err());
    }

    #[test]
    fn names_round_trip() {
        for d in Datatype::ALL {
            assert_eq!(Datatype::from_name(d.name()), Some(d));
            assert_eq!(serde_json::to_value(d).unwrap(), d.name());
        }
        for p in Payload::ALL {
            assert_eq!(Payload::from_name(p.name()), Some(p));
            assert_eq!(serde_json::to_value(p).unwrap(), p.name());
        }
    }
}
