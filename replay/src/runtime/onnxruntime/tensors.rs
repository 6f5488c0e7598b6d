//! Tensors in and out of ONNX Runtime: in without a copy, out with one.

use std::ptr;

use bytes::Bytes;
use half::{bf16, f16};
use inferdiff_schemas::{Datatype, Payload, Tensor};
use ort::AsPointer;
use ort::memory::{Allocator, MemoryInfo};
use ort::session::SessionInputValue;
use ort::value::{DynTensor, DynTensorValueType, DynValue, Shape, TensorElementType, TensorRefMut};

use super::capi::check;
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

/// A value that borrows the tensor's bytes. They are copied only where they are misaligned (into
/// `aligned`), because ONNX Runtime does not check that, and for strings, which it owns.
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
        return strings(&tensor.shape, data).map_err(|e| bad(e.to_string()));
    };
    let mut pointer = data.as_ptr();
    if !pointer.addr().is_multiple_of(size) {
        pointer = copy_aligned(data, aligned);
    }
    macro_rules! borrowed {
        ($t:ty) => {{
            let shape: Shape = tensor.shape.iter().copied().collect();
            // SAFETY: the pointer is aligned for the type and `check` above proved that the buffer
            // holds exactly the shape's elements; both buffers outlive 't. ONNX Runtime never
            // writes to the inputs of a run, so sharing the bytes is sound although the
            // constructor wants a mutable pointer. No Rust reference to the elements is made.
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
            // To C++ any other bit pattern is undefined behaviour: kernels would answer at random,
            // and some stage would be blamed for it.
            if let Some(at) = data.iter().position(|&b| b > 1) {
                return Err(bad(format!(
                    "element {at} of BOOL is the byte {}, neither 0 nor 1",
                    data[at]
                )));
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
        Datatype::Bytes => strings(&tensor.shape, data).map_err(|e| bad(e.to_string())),
    }
}

fn copy_aligned(data: &[u8], aligned: &mut Vec<u64>) -> *const u8 {
    aligned.clear();
    aligned.extend(data.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    }));
    aligned.as_ptr().cast()
}

/// A string tensor. Elements are bytes to ONNX Runtime: neither UTF-8 nor free of zero bytes, which
/// ort's own constructor would demand. `data` is well-formed: `Tensor::check` saw it.
#[expect(unsafe_code, reason = "ort wraps no constructor of strings from bytes")]
fn strings<'t>(shape: &[i64], data: &[u8]) -> Result<SessionInputValue<'t>, ort::Error> {
    let api = ort::api();
    let shape: Shape = shape.iter().copied().collect();
    let mut value = DynTensor::new(&Allocator::default(), TensorElementType::String, shape)?;
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
    Ok(SessionInputValue::from(value))
}

/// Copies an output out of ONNX Runtime.
pub(super) fn output(name: &str, value: &DynValue) -> Result<Tensor, InferError> {
    let engine = |why: String| InferError::Engine(format!("output `{name}`: {why}"));
    let ort::value::ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(engine(format!(
            "it is a {}; only tensors can be recorded and compared",
            value.dtype()
        )));
    };
    let datatype = datatype(*ty).ok_or_else(|| {
        engine(format!(
            "its element type {ty} has no name in the Open Inference Protocol"
        ))
    })?;
    let tensor = value
        .view()
        .downcast::<DynTensorValueType>()
        .map_err(|e| engine(e.to_string()))?;
    if !tensor.memory_info().is_cpu_accessible() {
        return Err(engine("it stayed on the device".to_owned()));
    }
    let elements = inferdiff_schemas::tensor::element_count(name, shape)
        .ok()
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| engine(format!("its shape {shape} overflows")))?;
    let data = match datatype.size() {
        Some(size) => elements
            .checked_mul(size)
            .ok_or_else(|| engine(format!("its shape {shape} overflows")))
            .and_then(|n| numbers(&tensor, n).map_err(|e| engine(e.to_string()))),
        None => texts(&tensor, elements).map_err(|e| engine(e.to_string())),
    }?;
    Ok(Tensor {
        name: name.to_owned(),
        message: 0,
        datatype,
        shape: shape.to_vec(),
        payload: Payload::Inline,
        parameters: None,
        data: Some(data),
    })
}

/// The elements' bytes as they lie in memory (little-endian hosts only, as everything here).
#[expect(unsafe_code, reason = "one copy for every element type")]
fn numbers(tensor: &DynTensor, length: usize) -> Result<Bytes, ort::Error> {
    let mut data = ptr::null_mut();
    // SAFETY: the tensor is a live CPU tensor whose shape and element size make up `length`;
    // reading numbers as bytes is always sound. The pointer of an empty tensor may be null.
    unsafe {
        let api = ort::api();
        check((api.GetTensorMutableData)(
            tensor.ptr().cast_mut(),
            &mut data,
        ))?;
        let bytes = super::capi::slice(data.cast::<u8>().cast_const(), length);
        Ok(Bytes::copy_from_slice(bytes))
    }
}

/// Strings as the protocol's BYTES: each element behind its length, u32 little-endian.
#[expect(unsafe_code, reason = "ort's extraction demands UTF-8")]
fn texts(tensor: &DynTensor, elements: usize) -> Result<Bytes, ort::Error> {
    let api = ort::api();
    let mut length = 0;
    // SAFETY: the tensor is a live string tensor of `elements` elements, and both buffers are as
    // long as they are said to be.
    let (content, offsets) = unsafe {
        check((api.GetStringTensorDataLength)(tensor.ptr(), &mut length))?;
        let (mut content, mut offsets) = (vec![0u8; length], vec![0usize; elements]);
        check((api.GetStringTensorContent)(
            tensor.ptr(),
            content.as_mut_ptr().cast(),
            length,
            offsets.as_mut_ptr(),
            elements,
        ))?;
        (content, offsets)
    };
    let mut out = Vec::with_capacity(length.saturating_add(elements.saturating_mul(4)));
    let ends = offsets.iter().skip(1).copied().chain([length]);
    for (&start, end) in offsets.iter().zip(ends) {
        let odd = || ort::Error::new("the library gave string offsets that make no sense");
        let element = content.get(start..end).ok_or_else(odd)?;
        let length = u32::try_from(element.len()).map_err(|_| odd())?;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(element);
    }
    Ok(Bytes::from(out))
}
