//! TensorFlow Serving, REST v1 (KServe v1 speaks the same): requests and answers into the row.
//!
//! Source: TensorFlow Serving, "RESTful API". JSON carries no datatypes: `nest` says which are
//! chosen, and the model's metadata, where known, overrides it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::named::{Columns, columns, rows};
use super::route::Tfs;
use super::row::{Decoded, Side, put_inputs};
use super::text::{Bare, readable};
use super::{Models, Signature, TensorMetadata, WireError, nest};
use crate::exchange::Exchange;
use crate::tensor::Tensor;

#[derive(Deserialize)]
struct Request<'a> {
    signature_name: Option<String>,
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    examples: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    predictions: Option<&'a RawValue>,
    #[serde(borrow)]
    outputs: Option<&'a RawValue>,
}

pub(super) fn request(
    side: Side<'_>,
    route: &Tfs,
    models: &Models,
    row: &mut Exchange,
) -> Result<Decoded, WireError> {
    let body = side.body()?;
    let text = readable(&body, Bare::Marked)?;
    let request: Request<'_> = serde_json::from_str(&text).map_err(WireError::new)?;
    let mut parameters = Map::new();
    if let Some(name) = &request.signature_name {
        parameters.insert("signature_name".into(), name.as_str().into());
    }
    if let Some(label) = &route.label {
        parameters.insert("version_label".into(), label.as_str().into());
    }
    row.parameters = (!parameters.is_empty()).then(|| Value::Object(parameters).to_string());
    let signature = models.tfs(
        &route.model,
        route.version.as_deref(),
        request.signature_name.as_deref(),
    );
    let known = signature.map(|s| s.inputs.as_slice());
    let inputs = match (request.instances, request.inputs, request.examples) {
        (Some(v), None, None) if !route.examples => tensors(rows(v)?, UNNAMED_INPUT, known)?,
        (None, Some(v), None) if !route.examples => tensors(columns(v)?, UNNAMED_INPUT, known)?,
        (None, None, Some(v)) if route.examples => {
            let mut all = tensors(rows(v)?, UNNAMED_INPUT, None)?;
            if let Some(context) = request.context {
                all.extend(tensors(columns(context)?, "context", None)?);
            }
            all
        }
        _ if route.examples => return Err(WireError::new("it has no `examples`")),
        _ => {
            return Err(WireError::new(
                "it must have either `instances` or `inputs`",
            ));
        }
    };
    put_inputs(row, inputs);
    Ok(Decoded::Whole)
}

pub(super) fn response(
    side: Side<'_>,
    route: &Tfs,
    models: &Models,
    row: &mut Exchange,
) -> Result<Decoded, WireError> {
    if route.examples {
        // `result` is lists of labels and scores, not tensors.
        return Ok(Decoded::Raw);
    }
    let body = side.body()?;
    let text = readable(&body, Bare::Marked)?;
    let response: Response<'_> = serde_json::from_str(&text).map_err(WireError::new)?;
    let named = row.parameters.as_deref().and_then(|p| {
        let p: Value = serde_json::from_str(p).ok()?;
        Some(p.get("signature_name")?.as_str()?.to_owned())
    });
    let signature: Option<&Signature> =
        models.tfs(&route.model, route.version.as_deref(), named.as_deref());
    let known = signature.map(|s| s.outputs.as_slice());
    row.outputs = Some(match (response.predictions, response.outputs) {
        (Some(v), None) => tensors(rows(v)?, UNNAMED_OUTPUT, known)?,
        (None, Some(v)) => tensors(columns(v)?, UNNAMED_OUTPUT, known)?,
        _ => {
            return Err(WireError::new(
                "it must have either `predictions` or `outputs`",
            ));
        }
    });
    Ok(Decoded::Whole)
}

/// The protocol drops a tensor's name where the signature has only one.
const UNNAMED_INPUT: &str = "inputs";
const UNNAMED_OUTPUT: &str = "outputs";

fn tensors(
    columns: Columns<'_>,
    unnamed: &str,
    known: Option<&[TensorMetadata]>,
) -> Result<Vec<Tensor>, WireError> {
    let datatype = |name: &str| {
        let known = known?.iter().find(|t| t.name == name)?;
        Some(known.datatype)
    };
    match columns {
        Columns::Bare(value) => {
            let name = match known {
                Some([only]) => only.name.as_str(),
                _ => unnamed,
            };
            Ok(vec![nest::tensor(name, value, datatype(name))?])
        }
        Columns::Named(columns) => columns
            .into_iter()
            .map(|(name, value)| nest::tensor(&name, value, datatype(&name)))
            .collect(),
        Columns::Stacked(columns) => columns
            .into_iter()
            .map(|(name, rows): (Cow<'_, str>, _)| nest::stacked(&name, &rows, datatype(&name)))
            .collect(),
    }
}
