//! Whether a request fits a model, said before the engine sees it: the engine's own message names
//! one problem, and often neither side of it.

use inferdiff_schemas::Tensor;
use inferdiff_schemas::run::evidence::{Signature, TensorSpec};

use super::InferError;

/// Every declared input exactly once, with its datatype and shape, and nothing else.
///
/// # Errors
/// [`InferError::BadRequest`] with every problem.
pub(super) fn check(signature: &Signature, inputs: &[Tensor]) -> Result<(), InferError> {
    let specs = &signature.inputs;
    // Most requests: nothing to say, and no name to look for.
    let fits = |(spec, tensor): (&TensorSpec, &Tensor)| {
        spec.name == tensor.name && misfit(spec, tensor).is_none()
    };
    if specs.len() == inputs.len() && specs.iter().zip(inputs).all(fits) {
        return Ok(());
    }
    let mut problems = Vec::new();
    for spec in specs {
        match inputs.iter().filter(|t| t.name == spec.name).count() {
            0 => problems.push(format!("input `{}` is missing", spec.name)),
            1 => {}
            n => problems.push(format!("input `{}` is there {n} times", spec.name)),
        }
    }
    for tensor in inputs {
        match specs.iter().find(|s| s.name == tensor.name) {
            Some(spec) => problems.extend(misfit(spec, tensor)),
            None => {
                let known: Vec<_> = specs.iter().map(|s| s.name.as_str()).collect();
                problems.push(format!(
                    "the model has no input `{}`; it has {}",
                    tensor.name,
                    known.join(", ")
                ));
            }
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(InferError::BadRequest(problems.join("; ")))
    }
}

fn misfit(spec: &TensorSpec, tensor: &Tensor) -> Option<String> {
    let name = &tensor.name;
    if spec.datatype != tensor.datatype.name() {
        return Some(format!(
            "input `{name}` is {}, the model wants {}",
            tensor.datatype, spec.datatype
        ));
    }
    let fits = spec.unknown_rank
        || spec.shape.len() == tensor.shape.len()
            && spec
                .shape
                .iter()
                .zip(&tensor.shape)
                .all(|(s, t)| *s < 0 || s == t);
    (!fits).then(|| {
        format!(
            "input `{name}` has shape {:?}, the model wants {:?} (-1 = any)",
            tensor.shape, spec.shape
        )
    })
}
