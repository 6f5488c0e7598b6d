//! A body that is one raw input: header length 0 of the binary tensor data extension.
//!
//! Source: Triton, "Binary Tensor Data Extension", raw binary request: name, type and shape are
//! the model's; the batch is 1; at most one other dimension may vary and follows from the length.

use bytes::Bytes;

use super::{Signature, WireError, capped};
use crate::tensor::{Tensor, element_count};

/// The tensor that a raw body is, by the model's metadata.
///
/// # Errors
/// No metadata, a model with several inputs, a length that no shape of the model has.
pub(super) fn decode(body: &Bytes, model: Option<&Signature>) -> Result<Tensor, WireError> {
    let Some(model) = model else {
        return Err(WireError::new(
            "a raw single input (header length 0) needs the model's metadata, which is not known",
        ));
    };
    let [input] = model.inputs.as_slice() else {
        return Err(WireError(format!(
            "a raw single input (header length 0), but the model has {} inputs",
            model.inputs.len()
        )));
    };
    let name = input.name.as_str();
    let mut shape = input
        .shape
        .clone()
        .ok_or_else(|| WireError(format!("the shape of input `{name}` is not known")))?;
    let mut varying: Vec<usize> = (0..shape.len()).filter(|&i| shape[i] < 0).collect();
    // Two varying dimensions: the first is the batch, and a raw request is one item.
    if varying.len() == 2 && varying[0] == 0 {
        shape[0] = 1;
        varying.remove(0);
    }
    let Some(size) = input.datatype.size() else {
        for i in varying {
            shape[i] = 1;
        }
        let length = u32::try_from(body.len()).map_err(WireError::new)?;
        let data = [&length.to_le_bytes()[..], body].concat();
        return Ok(capped(Tensor::inline(
            name,
            input.datatype,
            shape,
            data.into(),
        )?));
    };
    match varying.as_slice() {
        [] => {}
        [axis] => {
            shape[*axis] = 1;
            let one = element_count(name, &shape)?.saturating_mul(size as u64);
            let whole = (body.len() as u64).checked_rem(one) == Some(0);
            let Some(n) = whole.then(|| body.len() as u64 / one) else {
                return Err(WireError(format!(
                    "input `{name}`: {} bytes are no multiple of the {one} that shape {:?} asks for",
                    body.len(),
                    input.shape
                )));
            };
            shape[*axis] = i64::try_from(n).map_err(WireError::new)?;
        }
        more => {
            return Err(WireError(format!(
                "input `{name}`: {} dimensions vary and the length cannot tell them",
                more.len()
            )));
        }
    }
    Ok(capped(Tensor::inline(
        name,
        input.datatype,
        shape,
        body.clone(),
    )?))
}
