//! What models say of their tensors: learned from metadata answers, asked where a body alone does
//! not say names and types.

use std::collections::HashMap;

use serde_json::Value;

use super::WireError;
use crate::tensor::Datatype;

/// A tensor of a model's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMetadata {
    /// Name.
    pub name: String,
    /// Element type.
    pub datatype: Datatype,
    /// Dimensions, -1 where they vary; `None` where the model does not say the rank.
    pub shape: Option<Vec<i64>>,
}

/// Inputs and outputs of one signature of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    /// Inputs.
    pub inputs: Vec<TensorMetadata>,
    /// Outputs.
    pub outputs: Vec<TensorMetadata>,
}

/// Metadata of the models behind a recorder.
#[derive(Debug, Clone, Default)]
pub struct Models {
    /// By model, version ("" = the version that answers when none is named) and signature.
    known: HashMap<String, HashMap<String, HashMap<String, Signature>>>,
}

/// The one signature of an Open Inference Protocol model.
const OIP: &str = "";
/// TensorFlow Serving's signature when a request names none.
const SERVING_DEFAULT: &str = "serving_default";

impl Models {
    /// Learns a metadata answer: `GET /v2/models/M` of the Open Inference Protocol, or
    /// `GET /v1/models/M/metadata` of TensorFlow Serving. What was known of that model and version
    /// is replaced. `version` is the one that the metadata was asked for.
    ///
    /// # Errors
    /// Neither form, or a datatype that no capture can hold: nothing is learned.
    pub fn learn(
        &mut self,
        model: &str,
        version: Option<&str>,
        metadata: &Value,
    ) -> Result<(), WireError> {
        let signatures = match metadata.pointer("/metadata/signature_def/signature_def") {
            Some(Value::Object(all)) => all
                .iter()
                .map(|(name, signature)| {
                    let side = |key: &str| tfs_side(signature.get(key));
                    Ok((
                        name.clone(),
                        Signature {
                            inputs: side("inputs")?,
                            outputs: side("outputs")?,
                        },
                    ))
                })
                .collect::<Result<HashMap<_, _>, WireError>>()?,
            _ => {
                let side = |key: &str| oip_side(metadata.get(key));
                let signature = Signature {
                    inputs: side("inputs")?,
                    outputs: side("outputs")?,
                };
                HashMap::from([(OIP.to_owned(), signature)])
            }
        };
        self.known
            .entry(model.to_owned())
            .or_default()
            .insert(version.unwrap_or("").to_owned(), signatures);
        Ok(())
    }

    /// The signature of an Open Inference Protocol model: of that version, else of the version
    /// that answers when none is named, else of the only version known.
    pub fn oip(&self, model: &str, version: Option<&str>) -> Option<&Signature> {
        self.find(model, version, OIP)
    }

    /// A signature of a TensorFlow Serving model, looked up likewise; `None` = `serving_default`.
    pub fn tfs(
        &self,
        model: &str,
        version: Option<&str>,
        signature: Option<&str>,
    ) -> Option<&Signature> {
        self.find(model, version, signature.unwrap_or(SERVING_DEFAULT))
    }

    fn find(&self, model: &str, version: Option<&str>, signature: &str) -> Option<&Signature> {
        let versions = self.known.get(model)?;
        versions
            .get(version.unwrap_or(""))
            .or_else(|| versions.get(""))
            .or_else(|| {
                let only = version.is_none() && versions.len() == 1;
                only.then(|| versions.values().next()).flatten()
            })?
            .get(signature)
    }
}

fn oip_side(tensors: Option<&Value>) -> Result<Vec<TensorMetadata>, WireError> {
    let tensors = tensors
        .and_then(Value::as_array)
        .ok_or_else(|| WireError::new("the metadata lists no inputs and outputs"))?;
    let one = |t: &Value| {
        let name = t.get("name")?.as_str()?;
        let datatype = Datatype::from_name(t.get("datatype")?.as_str()?)?;
        let shape = t.get("shape")?.as_array()?.iter().map(Value::as_i64);
        Some(TensorMetadata {
            name: name.to_owned(),
            datatype,
            shape: Some(shape.collect::<Option<_>>()?),
        })
    };
    tensors
        .iter()
        .map(|t| one(t).ok_or_else(|| WireError(format!("the metadata of tensor {t} is unknown"))))
        .collect()
}

fn tfs_side(tensors: Option<&Value>) -> Result<Vec<TensorMetadata>, WireError> {
    let Some(tensors) = tensors.and_then(Value::as_object) else {
        return Ok(Vec::new());
    };
    let dims = |t: &Value| {
        let dims = t.pointer("/tensor_shape/dim")?.as_array()?;
        // 64-bit integers are strings in the protobuf JSON mapping.
        let size = |d: &Value| match d.get("size")? {
            Value::String(s) => s.parse().ok(),
            number => number.as_i64(),
        };
        dims.iter().map(size).collect()
    };
    tensors
        .iter()
        .map(|(name, t)| {
            let dtype = t.get("dtype").and_then(Value::as_str).unwrap_or("none");
            Ok(TensorMetadata {
                name: name.clone(),
                datatype: tensorflow_datatype(dtype).ok_or_else(|| {
                    WireError(format!("tensor `{name}` has the unknown dtype `{dtype}`"))
                })?,
                shape: dims(t),
            })
        })
        .collect()
}

/// `tensorflow/core/framework/types.proto`.
fn tensorflow_datatype(name: &str) -> Option<Datatype> {
    Some(match name {
        "DT_BOOL" => Datatype::Bool,
        "DT_UINT8" => Datatype::Uint8,
        "DT_UINT16" => Datatype::Uint16,
        "DT_UINT32" => Datatype::Uint32,
        "DT_UINT64" => Datatype::Uint64,
        "DT_INT8" => Datatype::Int8,
        "DT_INT16" => Datatype::Int16,
        "DT_INT32" => Datatype::Int32,
        "DT_INT64" => Datatype::Int64,
        "DT_HALF" => Datatype::Fp16,
        "DT_BFLOAT16" => Datatype::Bf16,
        "DT_FLOAT" => Datatype::Fp32,
        "DT_DOUBLE" => Datatype::Fp64,
        "DT_STRING" => Datatype::Bytes,
        _ => return None,
    })
}
