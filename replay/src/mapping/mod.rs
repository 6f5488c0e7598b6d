//! `[stage.inputs]` and `[stage.outputs]`: where a stage's model names, orders, types or lays out
//! its tensors otherwise than the capture and the reference do.
//!
//! Inputs are mapped on their way in: captured tensor → the model's input. Outputs are mapped on
//! their way out: the model's output → what the reference calls it. What no mapping mentions goes
//! through under its own name.

mod cast;
mod check;
mod transpose;

use std::borrow::Cow;
use std::collections::BTreeMap;

use inferdiff_schemas::run::ladder::{Stage, TensorMapping, TensorSource};
use inferdiff_schemas::{Exchange, Tensor};

use crate::runtime::{Predictor, Request};

pub(crate) use check::{check_inputs, check_outputs};
pub(crate) use transpose::check_axes;

/// Mappings by the name that a tensor gets.
type Mappings = BTreeMap<String, TensorMapping>;

/// Asks a predictor of `stage`: captured inputs in, outputs as the reference has them out.
///
/// # Errors
/// A sentence: what the mappings cannot do with this exchange, else the predictor's own words.
pub(crate) fn infer(
    stage: &Stage,
    predictor: &mut dyn Predictor,
    exchange: &Exchange,
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, String> {
    let inputs = map_inputs(&stage.inputs, inputs)?;
    let request = Request {
        exchange,
        inputs: &inputs,
    };
    let outputs = predictor.infer(&request).map_err(|e| e.to_string())?;
    map_outputs(&stage.outputs, outputs)
}

/// The captured inputs as the stage's model wants them. A captured input that a mapping takes is
/// handed on under the names of the mappings that take it, and not under its own; one whose own name
/// a mapping gives to another is not handed on.
///
/// # Errors
/// A sentence: a source that this exchange does not carry, values that the wanted type cannot hold.
fn map_inputs<'a>(mappings: &Mappings, inputs: &'a [Tensor]) -> Result<Cow<'a, [Tensor]>, String> {
    if mappings.is_empty() {
        return Ok(Cow::Borrowed(inputs));
    }
    let names: Vec<&str> = inputs.iter().map(|t| t.name.as_str()).collect();
    let mut taken = vec![false; inputs.len()];
    let mut mapped = Vec::with_capacity(inputs.len());
    for (name, mapping) in mappings {
        let at = find("input", name, mapping, &names)?;
        taken[at] = true;
        mapped.push(one("input", name, mapping, &inputs[at])?);
    }
    let rest = inputs
        .iter()
        .zip(&taken)
        .filter(|(tensor, taken)| !**taken && !mappings.contains_key(&tensor.name));
    mapped.extend(rest.map(|(tensor, _)| tensor.clone()));
    Ok(Cow::Owned(mapped))
}

/// A stage's outputs, named, typed and laid out as the reference's. Each keeps its place.
///
/// # Errors
/// A sentence: a source that the stage did not answer, values that the wanted type cannot hold.
fn map_outputs(mappings: &Mappings, outputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
    if mappings.is_empty() {
        return Ok(outputs);
    }
    let names: Vec<&str> = outputs.iter().map(|t| t.name.as_str()).collect();
    let mut by_place: BTreeMap<usize, Vec<Tensor>> = BTreeMap::new();
    for (name, mapping) in mappings {
        let at = find("output", name, mapping, &names)?;
        let tensor = one("output", name, mapping, &outputs[at])?;
        by_place.entry(at).or_default().push(tensor);
    }
    let mut mapped = Vec::with_capacity(outputs.len());
    for (at, tensor) in outputs.into_iter().enumerate() {
        match by_place.remove(&at) {
            Some(tensors) => mapped.extend(tensors),
            // Its name is another's now.
            None if mappings.contains_key(&tensor.name) => {}
            None => mapped.push(tensor),
        }
    }
    Ok(mapped)
}

/// Where a mapping finds its source among `names`.
fn find(what: &str, name: &str, mapping: &TensorMapping, names: &[&str]) -> Result<usize, String> {
    let found = match &mapping.from {
        TensorSource::Index(i) => Some(*i).filter(|i| *i < names.len()),
        TensorSource::Name(from) => names.iter().position(|n| n == from),
    };
    found.ok_or_else(|| {
        let from = match &mapping.from {
            TensorSource::Index(i) => format!("{what} {i} (from 0)"),
            TensorSource::Name(from) => format!("`{from}`"),
        };
        let hint = match &mapping.from {
            TensorSource::Name(from) => crate::ladder::hint(from, names.iter().copied()),
            TensorSource::Index(_) => String::new(),
        };
        format!(
            "{what} `{name}` is mapped from {from}, there are {}{hint}",
            names.join(", ")
        )
    })
}

fn one(what: &str, name: &str, mapping: &TensorMapping, tensor: &Tensor) -> Result<Tensor, String> {
    let told = |why: String| format!("{what} `{name}`: {why}");
    let mut mapped = Tensor {
        name: name.to_owned(),
        ..tensor.clone()
    };
    if let Some(axes) = &mapping.transpose {
        mapped = transpose::transpose(mapped, axes).map_err(told)?;
    }
    if let Some(datatype) = mapping.cast {
        mapped = cast::cast(mapped, datatype).map_err(told)?;
    }
    Ok(mapped)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use inferdiff_schemas::Datatype;

    use super::*;

    fn floats(name: &str, shape: &[i64], values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::inline(name, Datatype::Fp32, shape.to_vec(), Bytes::from(data)).unwrap()
    }

    fn from(source: TensorSource) -> TensorMapping {
        TensorMapping {
            from: source,
            cast: None,
            transpose: None,
        }
    }

    fn name(source: &str) -> TensorSource {
        TensorSource::Name(source.to_owned())
    }

    #[test]
    fn inputs_are_renamed_typed_and_laid_out_and_the_rest_goes_through() {
        let inputs = [
            floats("x", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            floats("mask", &[1], &[1.0]),
        ];
        let mapping = TensorMapping {
            cast: Some(Datatype::Int8),
            transpose: Some(vec![1, 0]),
            ..from(name("x"))
        };
        let mapped = map_inputs(&[("pixels".to_owned(), mapping)].into(), &inputs).unwrap();
        let names: Vec<_> = mapped.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["pixels", "mask"]);
        assert_eq!(mapped[0].datatype, Datatype::Int8);
        assert_eq!(mapped[0].shape, [3, 2]);
        assert_eq!(mapped[0].data.as_deref(), Some(&[1, 4, 2, 5, 3, 6][..]));
        // Two inputs of the model may come of one captured tensor, and two may change places.
        let both = [
            ("a".to_owned(), from(name("x"))),
            ("b".to_owned(), from(TensorSource::Index(0))),
        ];
        let mapped = map_inputs(&both.into(), &inputs).unwrap();
        assert_eq!((mapped.len(), &mapped[0].data), (3, &mapped[1].data));
        let swap = [
            ("x".to_owned(), from(name("mask"))),
            ("mask".to_owned(), from(name("x"))),
        ];
        let mapped = map_inputs(&swap.into(), &inputs).unwrap();
        let shapes: Vec<_> = mapped
            .iter()
            .map(|t| (t.name.as_str(), t.shape.len()))
            .collect();
        assert_eq!(shapes, [("mask", 2), ("x", 1)]);
        assert!(matches!(
            map_inputs(&BTreeMap::new(), &inputs).unwrap(),
            Cow::Borrowed(_)
        ));
    }

    #[test]
    fn outputs_keep_their_places_and_a_missing_source_is_named() {
        let outputs = vec![
            floats("softmax_1", &[1], &[0.5]),
            floats("boxes", &[1], &[2.0]),
        ];
        let mapped = map_outputs(
            &[("prob".to_owned(), from(TensorSource::Index(0)))].into(),
            outputs.clone(),
        );
        let names: Vec<_> = mapped.unwrap().into_iter().map(|t| t.name).collect();
        assert_eq!(names, ["prob", "boxes"]);
        let why = map_outputs(
            &[("prob".to_owned(), from(name("softmax")))].into(),
            outputs.clone(),
        );
        let why = why.unwrap_err();
        assert!(why.contains("did you mean `softmax_1`?"), "{why}");
        let why = map_outputs(
            &[("y".to_owned(), from(TensorSource::Index(2)))].into(),
            outputs,
        );
        assert!(why.unwrap_err().contains("output 2 (from 0)"));
    }
}
