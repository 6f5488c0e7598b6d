//! perf_analyzer's `--input-data` JSON.
//!
//! Source: Triton Performance Analyzer, "Input Data": `data` is a list of name → values, each a
//! flat list, `{"content": [...], "shape": [...]}` or `{"b64": "..."}`; `validation_data` holds the
//! expected answers in the same order. A list in `data` is a sequence. Datatypes are the model's:
//! they must be given.

use std::path::Path;

use base64::Engine;
use half::{bf16, f16};
use inferdiff_schemas::{Datatype, Tensor};
use serde_json::Value;

use super::{ImportError, Roles, Sample, Samples, bytes_data, files};

/// A request per step.
///
/// # Errors
/// A file that is no such JSON.
pub(super) fn samples(path: &Path, roles: &Roles) -> Result<Samples, ImportError> {
    let mut all = Vec::new();
    for file in files(path)? {
        let fail = |why: String| ImportError::at(&file, why);
        let text = std::fs::read(&file).map_err(|e| fail(e.to_string()))?;
        let value: Value =
            serde_json::from_slice(&text).map_err(|e| fail(format!("no JSON: {e}")))?;
        let steps = |key: &str| -> Option<Vec<&Value>> {
            let list = value.get(key)?.as_array()?;
            // Several streams: each is a list of steps.
            Some(
                list.iter()
                    .flat_map(|v| v.as_array().map_or_else(|| vec![v], |l| l.iter().collect()))
                    .collect(),
            )
        };
        let data =
            steps("data").ok_or_else(|| fail("no list `data`: not perf_analyzer's".into()))?;
        let expected = steps("validation_data").unwrap_or_default();
        if !expected.is_empty() && expected.len() != data.len() {
            return Err(fail(format!(
                "{} steps in `data` but {} in `validation_data`",
                data.len(),
                expected.len()
            )));
        }
        for (i, step) in data.into_iter().enumerate() {
            let place = format!("{}: step {i}", file.display());
            let answers = expected
                .get(i)
                .map_or_else(|| Ok(Vec::new()), |v| tensors(v, roles));
            let sample = tensors(step, roles).and_then(|tensors| {
                Ok(Sample {
                    id: None,
                    place: place.clone(),
                    tensors,
                    answers: answers?,
                })
            });
            all.push(sample.map_err(|why| ImportError::new(place, why)));
        }
    }
    Ok(Box::new(all.into_iter()))
}

fn tensors(step: &Value, roles: &Roles) -> Result<Vec<Tensor>, String> {
    let fields = step
        .as_object()
        .ok_or("a step is not an object of tensors")?;
    fields
        .iter()
        .map(|(name, value)| {
            let datatype = roles.datatype(name).ok_or_else(|| {
                format!("the datatype of `{name}` is not said here: give --datatype {name}=FP32")
            })?;
            one(name, datatype, value, roles).map_err(|e| format!("`{name}`: {e}"))
        })
        .collect()
}

fn one(name: &str, datatype: Datatype, value: &Value, roles: &Roles) -> Result<Tensor, String> {
    let shape = match value.get("shape") {
        Some(shape) => Some(
            serde_json::from_value::<Vec<i64>>(shape.clone())
                .map_err(|e| format!("shape {shape}: {e}"))?,
        ),
        None => roles.shape(name).map(<[i64]>::to_vec),
    };
    let raw = value
        .get("b64")
        .or_else(|| value.get("content").and_then(|c| c.get("b64")));
    let (data, count) = if let Some(text) = raw.and_then(Value::as_str) {
        let data = base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|e| format!("no base64: {e}"))?;
        match datatype.size() {
            Some(size) => {
                let n = data.len() / size;
                (data, n)
            }
            None => (bytes_data([data.as_slice()].into_iter())?, 1),
        }
    } else {
        let content = value.get("content").unwrap_or(value);
        let mut leaves = Vec::new();
        flatten(content, &mut leaves);
        (encode(datatype, &leaves)?, leaves.len())
    };
    let shape = match shape {
        Some(shape) => shape,
        None => vec![super::dimension(count as u64)?],
    };
    Tensor::inline(name, datatype, shape, data.into()).map_err(|e| e.to_string())
}

fn flatten<'v>(value: &'v Value, leaves: &mut Vec<&'v Value>) {
    match value {
        Value::Array(list) => list.iter().for_each(|v| flatten(v, leaves)),
        leaf => leaves.push(leaf),
    }
}

/// The values' bytes in the datatype. A value that it cannot hold is an error, never rounded
/// beyond what the datatype asks.
fn encode(datatype: Datatype, leaves: &[&Value]) -> Result<Vec<u8>, String> {
    let mut data = Vec::new();
    if datatype == Datatype::Bytes {
        let texts: Option<Vec<&[u8]>> = leaves
            .iter()
            .map(|v| v.as_str().map(str::as_bytes))
            .collect();
        return bytes_data(texts.ok_or("BYTES must be texts")?.into_iter());
    }
    for &leaf in leaves {
        let fail = || format!("{leaf} is no {datatype}");
        macro_rules! integer {
            ($t:ty) => {{
                let wide = leaf
                    .as_i64()
                    .map(i128::from)
                    .or_else(|| leaf.as_u64().map(i128::from));
                let v = wide.and_then(|v| <$t>::try_from(v).ok()).ok_or_else(fail)?;
                data.extend_from_slice(&v.to_le_bytes());
            }};
        }
        let real = || leaf.as_f64().ok_or_else(fail);
        match datatype {
            Datatype::Bool => {
                let v = leaf.as_bool().or_else(|| {
                    leaf.as_u64().and_then(|v| match v {
                        0 => Some(false),
                        1 => Some(true),
                        _ => None,
                    })
                });
                data.push(u8::from(v.ok_or_else(fail)?));
            }
            Datatype::Uint8 => integer!(u8),
            Datatype::Uint16 => integer!(u16),
            Datatype::Uint32 => integer!(u32),
            Datatype::Uint64 => integer!(u64),
            Datatype::Int8 => integer!(i8),
            Datatype::Int16 => integer!(i16),
            Datatype::Int32 => integer!(i32),
            Datatype::Int64 => integer!(i64),
            Datatype::Fp16 => data.extend_from_slice(&f16::from_f64(real()?).to_le_bytes()),
            Datatype::Bf16 => data.extend_from_slice(&bf16::from_f64(real()?).to_le_bytes()),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "FP32 is what was asked for"
            )]
            Datatype::Fp32 => data.extend_from_slice(&(real()? as f32).to_le_bytes()),
            Datatype::Fp64 => data.extend_from_slice(&real()?.to_le_bytes()),
            Datatype::Bytes => unreachable!("texts are encoded above"),
        }
    }
    Ok(data)
}
