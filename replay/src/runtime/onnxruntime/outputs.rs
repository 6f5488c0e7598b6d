//! Tensors on their way out of ONNX Runtime, with one copy.

use bytes::Bytes;
use inferdiff_schemas::{Payload, Tensor};
use ort::value::TensorElementType;

use super::capi::check;
use super::tensors::datatype;
use super::value::Value;
use crate::runtime::InferError;

/// Copies an output out of ONNX Runtime.
#[expect(unsafe_code, reason = "values of the C API")]
pub(super) fn output(name: &str, value: &Value) -> Result<Tensor, InferError> {
    let engine = |why: String| InferError::Engine(format!("output `{name}`: {why}"));
    let refused = |e: ort::Error| engine(e.to_string());
    if !value.is_tensor().map_err(refused)? {
        let why = "it is no tensor; only tensors can be recorded and compared";
        return Err(engine(why.to_owned()));
    }
    let (element, shape) = value.described().map_err(refused)?;
    let element = TensorElementType::from(element);
    let datatype = datatype(element).ok_or_else(|| {
        engine(format!(
            "its element type {element} has no name in the Open Inference Protocol"
        ))
    })?;
    if !value.is_readable().map_err(refused)? {
        return Err(engine("it stayed on the device".to_owned()));
    }
    let overflows = || engine(format!("its shape {shape:?} overflows"));
    let elements = inferdiff_schemas::tensor::element_count(name, shape)
        .ok()
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(overflows)?;
    let data = match datatype.size() {
        Some(size) => {
            let length = elements.checked_mul(size).ok_or_else(overflows)?;
            // SAFETY: the tensor is readable, and this is the length of its elements.
            let bytes = unsafe { value.bytes(length) };
            inferdiff_schemas::pool::copied(bytes.map_err(refused)?)
        }
        None => texts(value, elements).map_err(refused)?,
    };
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

/// Strings as the protocol's BYTES: each element behind its length, u32 little-endian.
#[expect(unsafe_code, reason = "ort's extraction demands UTF-8")]
fn texts(tensor: &Value, elements: usize) -> Result<Bytes, ort::Error> {
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
