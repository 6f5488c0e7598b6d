//! Inputs and outputs as the opened model declares them.

use std::ptr;

use inferdiff_schemas::run::evidence::{Signature, TensorSpec};
use ort::AsPointer;
use ort::session::Session;
use ort::value::Outlet;

use super::capi::check;
use super::tensors;

/// Reads the signature of a session.
pub(super) fn read(session: &Session) -> Result<Signature, ort::Error> {
    let specs = |outlets: &[Outlet], output: bool| {
        let each = outlets.iter().enumerate();
        each.map(|(i, outlet)| spec(session, outlet, i, output))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Signature {
        inputs: specs(session.inputs(), false)?,
        outputs: specs(session.outputs(), true)?,
    })
}

fn spec(
    session: &Session,
    outlet: &Outlet,
    index: usize,
    output: bool,
) -> Result<TensorSpec, ort::Error> {
    let ty = outlet.dtype();
    let element = ty.tensor_type();
    let shape = ty
        .tensor_shape()
        .map_or_else(Vec::new, |shape| shape.to_vec());
    // An empty shape is a scalar's or that of a model which does not say even the rank.
    let unknown_rank = element.is_some() && shape.is_empty() && !has_shape(session, index, output)?;
    Ok(TensorSpec {
        name: outlet.name().to_owned(),
        datatype: element
            .and_then(tensors::datatype)
            .map_or_else(|| ty.to_string(), |d| d.name().to_owned()),
        shape,
        unknown_rank,
    })
}

#[expect(unsafe_code, reason = "ort does not wrap this part of the C API")]
fn has_shape(session: &Session, index: usize, output: bool) -> Result<bool, ort::Error> {
    let api = ort::api();
    let (mut info, mut tensor) = (ptr::null_mut(), ptr::null());
    // SAFETY: the type information is ours until it is released below; the tensor information is
    // a view into it. `TensorTypeAndShape_HasShape` is in the API since 1.24.
    unsafe {
        check(if output {
            (api.SessionGetOutputTypeInfo)(session.ptr(), index, &mut info)
        } else {
            (api.SessionGetInputTypeInfo)(session.ptr(), index, &mut info)
        })?;
        let cast = check((api.CastTypeInfoToTensorInfo)(info, &mut tensor));
        let has = !tensor.is_null() && (api.TensorTypeAndShape_HasShape)(tensor);
        (api.ReleaseTypeInfo)(info);
        cast.map(|()| has)
    }
}
