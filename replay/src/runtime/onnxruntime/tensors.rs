//! Tensors in and out of ONNX Runtime.

use bytes::Bytes;
use half::{bf16, f16};
use inferdiff_schemas::{Datatype, Payload, Tensor};
use ort::memory::MemoryInfo;
use ort::session::SessionInputValue;
use ort::value::{DynValue, TensorElementType, TensorRefMut};

use crate::runtime::InferError;

/// The protocol's name of an element type, if it has one.
pub(super) fn datatype(ty: TensorElementType) -> Option<Datatype> {
    Some(match ty {
        TensorElementType::Bool => Datatype::Bool,
        TensorElementType::Uint8 => Datatype::Uint8,
        TensorElementType::Uint16 => Datatype::Uint16,
        TensorElementType::Uint32 => Datatype::Uint32,
        TensorElementType::Uint64 => Datatype::Uint64,
        TensorElementType::Int8 => Datatype::Int8,
        TensorElementType::Int16 => Datatype::Int16,
        TensorElementType::Int32 => Datatype::Int32,
        TensorElementType::Int64 => Datatype::Int64,
        TensorElementType::Float16 => Datatype::Fp16,
        TensorElementType::Bfloat16 => Datatype::Bf16,
        TensorElementType::Float32 => Datatype::Fp32,
        TensorElementType::Float64 => Datatype::Fp64,
        TensorElementType::String => Datatype::Bytes,
        _ => return None,
    })
}

/// A value that borrows the tensor's bytes; they are copied only where they are misaligned (into
/// `aligned`, which must outlive the value) and for strings.
pub(super) fn input<'t>(
    tensor: &'t Tensor,
    aligned: &'t mut Vec<u64>,
) -> Result<SessionInputValue<'t>, InferError> {
    let bad = |why: String| InferError::BadRequest(format!("input `{}`: {why}", tensor.name));
    tensor
        .check()
        .map_err(|e| InferError::BadRequest(e.to_string()))?;
    let data = tensor.data.as_ref().ok_or_else(|| {
        bad(format!(
            "its data was not captured ({})",
            tensor.payload.name()
        ))
    })?;
    let Some(size) = tensor.datatype.size() else {
        return strings(tensor, data);
    };
    let mut pointer = data.as_ptr();
    if !pointer.addr().is_multiple_of(size) {
        *aligned = vec![0; data.len().div_ceil(8)];
        for (word, chunk) in aligned.iter_mut().zip(data.chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_ne_bytes(bytes);
        }
        pointer = aligned.as_ptr().cast();
    }
    macro_rules! borrowed {
        ($t:ty) => {{
            let shape = tensor.shape.iter().copied().collect();
            // SAFETY: the pointer is aligned for the type and `check` above proved that the buffer
            // holds exactly the shape's elements; both buffers outlive 't. ONNX Runtime never
            // writes to the inputs of a run, so sharing the bytes is sound although the
            // constructor wants a mutable pointer.
            #[expect(
                unsafe_code,
                reason = "ort has no constructor that borrows bytes by type"
            )]
            let value = unsafe {
                TensorRefMut::<'t, $t>::from_raw(
                    MemoryInfo::default(),
                    pointer.cast_mut().cast(),
                    shape,
                )
            };
            value
                .map(SessionInputValue::from)
                .map_err(|e| bad(e.to_string()))
        }};
    }
    match tensor.datatype {
        Datatype::Bool => {
            // A Rust bool of any other bit pattern would be undefined behaviour further down.
            if data.iter().any(|&b| b > 1) {
                return Err(bad("a BOOL byte is neither 0 nor 1".into()));
            }
            borrowed!(bool)
        }
        Datatype::Uint8 => borrowed!(u8),
        Datatype::Uint16 => borrowed!(u16),
        Datatype::Uint32 => borrowed!(u32),
        Datatype::Uint64 => borrowed!(u64),
        Datatype::Int8 => borrowed!(i8),
        Datatype::Int16 => borrowed!(i16),
        Datatype::Int32 => borrowed!(i32),
        Datatype::Int64 => borrowed!(i64),
        Datatype::Fp16 => borrowed!(f16),
        Datatype::Bf16 => borrowed!(bf16),
        Datatype::Fp32 => borrowed!(f32),
        Datatype::Fp64 => borrowed!(f64),
        Datatype::Bytes => strings(tensor, data),
    }
}

fn strings<'t>(tensor: &Tensor, data: &[u8]) -> Result<SessionInputValue<'t>, InferError> {
    let bad = |why: String| InferError::BadRequest(format!("input `{}`: {why}", tensor.name));
    let mut elements: Vec<String> = Vec::new();
    let mut rest = data;
    while let Some((prefix, tail)) = rest.split_first_chunk::<4>() {
        let (element, after) = tail.split_at(u32::from_le_bytes(*prefix) as usize);
        let text = std::str::from_utf8(element)
            .map_err(|_| bad("a BYTES element is not UTF-8, which ort's strings must be".into()))?;
        elements.push(text.to_owned());
        rest = after;
    }
    ort::value::Tensor::from_string_array((tensor.shape.clone(), elements.as_slice()))
        .map(SessionInputValue::from)
        .map_err(|e| bad(e.to_string()))
}

/// Copies an output out of ONNX Runtime.
pub(super) fn output(name: &str, value: &DynValue) -> Result<Tensor, InferError> {
    let engine = |why: String| InferError::Engine(format!("output `{name}`: {why}"));
    let (Some(ty), ort::value::ValueType::Tensor { shape, .. }) =
        (value.dtype().tensor_type(), value.dtype())
    else {
        return Err(engine("it is a sequence or a map, not a tensor".into()));
    };
    let shape = shape.to_vec();
    let datatype =
        datatype(ty).ok_or_else(|| engine(format!("its type {ty} has no name in the protocol")))?;
    macro_rules! copied {
        ($t:ty) => {{
            let (_, values) = value
                .try_extract_tensor::<$t>()
                .map_err(|e| engine(e.to_string()))?;
            // SAFETY: any initialised slice of plain numbers may be read as its bytes.
            #[expect(unsafe_code, reason = "a slice of numbers as its bytes")]
            let bytes = unsafe {
                std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values))
            };
            Bytes::copy_from_slice(bytes)
        }};
    }
    let data = match datatype {
        Datatype::Bool => copied!(bool),
        Datatype::Uint8 => copied!(u8),
        Datatype::Uint16 => copied!(u16),
        Datatype::Uint32 => copied!(u32),
        Datatype::Uint64 => copied!(u64),
        Datatype::Int8 => copied!(i8),
        Datatype::Int16 => copied!(i16),
        Datatype::Int32 => copied!(i32),
        Datatype::Int64 => copied!(i64),
        Datatype::Fp16 => copied!(f16),
        Datatype::Bf16 => copied!(bf16),
        Datatype::Fp32 => copied!(f32),
        Datatype::Fp64 => copied!(f64),
        Datatype::Bytes => {
            let (_, texts) = value
                .try_extract_strings()
                .map_err(|e| engine(e.to_string()))?;
            let mut out = Vec::new();
            for text in texts {
                let length = u32::try_from(text.len()).map_err(|e| engine(e.to_string()))?;
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            Bytes::from(out)
        }
    };
    Ok(Tensor {
        name: name.to_owned(),
        message: 0,
        datatype,
        shape,
        payload: Payload::Inline,
        parameters: None,
        data: Some(data),
    })
}
