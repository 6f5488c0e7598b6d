//! Tensors on their way into ONNX Runtime, without a copy.

use std::ptr;

use inferdiff_schemas::{Datatype, Tensor};
use ort::memory::MemoryInfo;
use ort::value::TensorElementType;

use super::capi::check;
use super::value::Value;
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

/// The element type of that name.
fn element(datatype: Datatype) -> TensorElementType {
    match datatype {
        Datatype::Bool => TensorElementType::Bool,
        Datatype::Uint8 => TensorElementType::Uint8,
        Datatype::Uint16 => TensorElementType::Uint16,
        Datatype::Uint32 => TensorElementType::Uint32,
        Datatype::Uint64 => TensorElementType::Uint64,
        Datatype::Int8 => TensorElementType::Int8,
        Datatype::Int16 => TensorElementType::Int16,
        Datatype::Int32 => TensorElementType::Int32,
        Datatype::Int64 => TensorElementType::Int64,
        Datatype::Fp16 => TensorElementType::Float16,
        Datatype::Bf16 => TensorElementType::Bfloat16,
        Datatype::Fp32 => TensorElementType::Float32,
        Datatype::Fp64 => TensorElementType::Float64,
        Datatype::Bytes => TensorElementType::String,
    }
}

/// What the engine itself aligns tensors to: a line of the cache.
const ALIGNED: usize = 64;

/// A value over the tensor's bytes. They are copied only where they are misaligned (into `aligned`),
/// because ONNX Runtime does not check that, and for strings, which it owns.
///
/// # Safety
/// The value must end before `tensor` and `aligned` do, and nothing may be written to them before.
#[expect(unsafe_code, reason = "the library borrows what it is given")]
pub(super) unsafe fn input(
    tensor: &Tensor,
    aligned: &mut Vec<u8>,
    memory: &MemoryInfo<'_>,
) -> Result<Value, InferError> {
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
        return strings(&tensor.shape, data).map_err(|e| bad(e.to_string()));
    };
    // To C++ any other bit pattern is undefined behaviour: kernels would answer at random, and some
    // stage would be blamed for it.
    if tensor.datatype == Datatype::Bool
        && let Some(at) = data.iter().position(|&b| b > 1)
    {
        return Err(bad(format!(
            "element {at} of BOOL is the byte {}, neither 0 nor 1",
            data[at]
        )));
    }
    let mut pointer = data.as_ptr();
    if !pointer.addr().is_multiple_of(size) {
        pointer = copy_aligned(data, aligned);
    }
    let element = element(tensor.datatype).into();
    // SAFETY: the pointer is aligned for the type, and `check` proved that the buffer holds exactly the
    // shape's elements; that it lives long enough the caller promises. ONNX Runtime never writes to the
    // inputs of a run.
    let value = unsafe { Value::over(memory, pointer, data.len(), &tensor.shape, element) };
    value.map_err(|e| bad(e.to_string()))
}

/// A copy that begins where any element may.
fn copy_aligned(data: &[u8], aligned: &mut Vec<u8>) -> *const u8 {
    aligned.clear();
    aligned.resize(data.len() + ALIGNED, 0);
    let begin = aligned.as_ptr().align_offset(ALIGNED);
    let place = &mut aligned[begin..begin + data.len()];
    place.copy_from_slice(data);
    place.as_ptr()
}

/// A string tensor. Elements are bytes to ONNX Runtime: neither UTF-8 nor free of zero bytes. `data` is
/// well-formed: `Tensor::check` saw it.
#[expect(unsafe_code, reason = "ort wraps no constructor of strings from bytes")]
fn strings(shape: &[i64], data: &[u8]) -> Result<Value, ort::Error> {
    let api = ort::api();
    let mut value = Value::strings(shape)?;
    let mut rest = data;
    let mut index = 0;
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (element, after) = tail.split_at(u32::from_le_bytes(*length) as usize);
        let mut buffer = ptr::null_mut();
        // SAFETY: the tensor has as many elements as `data` (checked before), and the buffer that
        // comes back is of the length asked for and used before the next call.
        unsafe {
            check((api.GetResizedStringTensorElementBuffer)(
                value.ptr_mut(),
                index,
                element.len(),
                &mut buffer,
            ))?;
            ptr::copy_nonoverlapping(element.as_ptr(), buffer.cast(), element.len());
        }
        rest = after;
        index += 1;
    }
    Ok(value)
}
