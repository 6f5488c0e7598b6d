//! The server's half: tensors into an Open Inference Protocol v2 REST response.

use bytes::Bytes;
use half::{bf16, f16};
use serde_json::{Map, Value, json};

use super::WireError;
use crate::tensor::{Datatype, Tensor};

/// A body and, where it carries blobs, the length of its JSON header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The body.
    pub body: Bytes,
    /// Value of `Inference-Header-Content-Length`; `None` = all JSON.
    pub header_length: Option<usize>,
}

/// Encodes a response; `binary` says per output whether its data travels as a blob.
///
/// Floats are written as the shortest decimal that reads back to the same bits.
///
/// # Errors
/// A NaN or an infinity in JSON (which has none): ask for binary data. A BYTES element that is not
/// UTF-8, likewise.
pub fn encode_response(
    model: &str,
    version: &str,
    id: Option<&str>,
    outputs: &[(Tensor, bool)],
) -> Result<Encoded, WireError> {
    let mut blobs = Vec::new();
    let entries = outputs.iter().map(|(tensor, binary)| {
        let out = binary.then_some(&mut blobs);
        describe(tensor, Map::new(), out)
    });
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    let mut response = json!({ "model_name": model, "model_version": version });
    if let Some(id) = id {
        response["id"] = id.into();
    }
    response["outputs"] = entries.into();
    let any_binary = outputs.iter().any(|(_, binary)| *binary);
    Encoded::of(&response, any_binary.then_some(&blobs))
}

impl Encoded {
    /// A header and the blobs behind it; `None` = all JSON.
    pub(super) fn of(header: &Value, blobs: Option<&Vec<u8>>) -> Result<Self, WireError> {
        let mut body = serde_json::to_vec(header).map_err(WireError::new)?;
        let header_length = blobs.map(|_| body.len());
        body.extend_from_slice(blobs.map_or(&[], Vec::as_slice));
        Ok(Self {
            body: body.into(),
            header_length,
        })
    }
}

/// A tensor as JSON. Its data goes to the end of `blobs`, or into the JSON where there are none.
pub(super) fn describe(
    tensor: &Tensor,
    mut parameters: Map<String, Value>,
    blobs: Option<&mut Vec<u8>>,
) -> Result<Value, WireError> {
    let data = tensor.data.as_deref().unwrap_or_default();
    let mut entry = json!({
        "name": tensor.name,
        "datatype": tensor.datatype.name(),
        "shape": tensor.shape,
    });
    match blobs {
        Some(blobs) => {
            parameters.insert("binary_data_size".to_owned(), data.len().into());
            blobs.extend_from_slice(data);
        }
        None => entry["data"] = values(tensor, data)?,
    }
    if !parameters.is_empty() {
        entry["parameters"] = parameters.into();
    }
    Ok(entry)
}

fn values(tensor: &Tensor, data: &[u8]) -> Result<Value, WireError> {
    let name = &tensor.name;
    let finite = |v: f64, shown: Value| {
        if v.is_finite() {
            return Ok(shown);
        }
        Err(WireError(format!(
            "tensor `{name}` holds {v}, which JSON cannot carry: send it as binary data"
        )))
    };
    macro_rules! each {
        ($t:ty, $v:ident => $value:expr) => {
            data.chunks_exact(size_of::<$t>())
                .map(|c| {
                    let $v = <$t>::from_le_bytes(c.try_into().expect("chunks of that size"));
                    $value
                })
                .collect::<Result<Vec<Value>, WireError>>()?
        };
    }
    Ok(Value::Array(match tensor.datatype {
        Datatype::Bool => data.iter().map(|&b| Value::Bool(b != 0)).collect(),
        Datatype::Uint8 => each!(u8, v => Ok(v.into())),
        Datatype::Uint16 => each!(u16, v => Ok(v.into())),
        Datatype::Uint32 => each!(u32, v => Ok(v.into())),
        Datatype::Uint64 => each!(u64, v => Ok(v.into())),
        Datatype::Int8 => each!(i8, v => Ok(v.into())),
        Datatype::Int16 => each!(i16, v => Ok(v.into())),
        Datatype::Int32 => each!(i32, v => Ok(v.into())),
        Datatype::Int64 => each!(i64, v => Ok(v.into())),
        Datatype::Fp16 => each!(f16, v => finite(v.to_f64(), shortest(v.to_f32()))),
        Datatype::Bf16 => each!(bf16, v => finite(v.to_f64(), shortest(v.to_f32()))),
        Datatype::Fp32 => each!(f32, v => finite(v.into(), shortest(v))),
        Datatype::Fp64 => each!(f64, v => finite(v, v.into())),
        Datatype::Bytes => strings(name, data)?,
    }))
}

/// The shortest decimal of the f32 itself: widening first would print 17 digits.
fn shortest(v: f32) -> Value {
    serde_json::from_str(&serde_json::to_string(&v).unwrap_or_default()).unwrap_or(Value::Null)
}

fn strings(name: &str, data: &[u8]) -> Result<Vec<Value>, WireError> {
    let mut out = Vec::new();
    let mut rest = data;
    while let Some((prefix, tail)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*prefix) as usize;
        let element = tail.get(..length).ok_or_else(|| {
            WireError(format!(
                "tensor `{name}`: a BYTES element points past the end"
            ))
        })?;
        let text = std::str::from_utf8(element).map_err(|_| {
            WireError(format!(
                "tensor `{name}` is not UTF-8: send it as binary data"
            ))
        })?;
        out.push(text.into());
        rest = &tail[length..];
    }
    Ok(out)
}
