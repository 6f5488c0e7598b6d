//! Paddle Serving's C++ server: `POST /GeneralModelService/inference`, JSON or protobuf.
//!
//! Tensors are named by `alias_name`, which is what clients use; `parameters` keep the inner name
//! where it differs, the `lod`, and the engine that answered.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::little_endian::strings;
use super::paddle_json::{self, JsonTensor};
use super::paddle_proto::{PaddleRequest, PaddleResponse, PaddleTensor};
use super::row::{Decoded, Side, put_inputs};
use super::text::{Bare, readable};
use super::{WireError, capped, protobuf};
use crate::exchange::Exchange;
use crate::tensor::{Datatype, Tensor};

/// A tensor of either encoding.
pub(super) struct Described {
    pub name: String,
    pub alias: String,
    pub datatype: Datatype,
    pub shape: Vec<i32>,
    pub lod: Vec<i32>,
    pub data: Bytes,
}

/// `elem_type` by number.
pub(super) fn datatype(elem_type: i32) -> Result<Datatype, WireError> {
    Ok(match elem_type {
        0 => Datatype::Int64,
        1 => Datatype::Fp32,
        2 => Datatype::Int32,
        3 => Datatype::Fp64,
        4 => Datatype::Int16,
        5 => Datatype::Fp16,
        6 => Datatype::Bf16,
        7 => Datatype::Uint8,
        8 => Datatype::Int8,
        9 => Datatype::Bool,
        20 => Datatype::Bytes,
        other => return Err(WireError(format!("elem_type {other} is not known"))),
    })
}

pub(super) fn request(side: Side<'_>, row: &mut Exchange) -> Result<Decoded, WireError> {
    let body = side.body()?;
    let (inputs, fetch, profile, log_id) = if is_protobuf(side) {
        let r: PaddleRequest = protobuf::decode(&body, &[&[1], &[2]])?;
        let inputs = r.tensor.into_iter().map(described).map(|t| build(t?, ""));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        (
            inputs,
            r.fetch_var_names,
            r.profile_server,
            r.log_id.to_string(),
        )
    } else {
        let text = readable(&body, Bare::Quoted)?;
        let r: paddle_json::Request<'_> = serde_json::from_str(&text).map_err(WireError::new)?;
        let log_id = match r.log_id {
            Value::String(s) => s,
            Value::Number(n) => n.to_string(),
            _ => String::new(),
        };
        (
            all(r.tensor, "")?,
            r.fetch_var_names,
            r.profile_server,
            log_id,
        )
    };
    row.client_request_id = Some(log_id)
        .filter(|id| !matches!(id.as_str(), "" | "0"))
        .or(row.client_request_id.take());
    row.requested_outputs = Some(fetch).filter(|f| !f.is_empty());
    row.parameters = profile.then(|| json!({ "profile_server": true }).to_string());
    put_inputs(row, inputs);
    Ok(Decoded::Whole)
}

pub(super) fn response(side: Side<'_>, row: &mut Exchange) -> Result<Decoded, WireError> {
    let body = side.body()?;
    let mut outputs = Vec::new();
    let (number, message) = if is_protobuf(side) {
        let r: PaddleResponse = protobuf::decode(&body, &[&[1], &[1, 1]])?;
        for o in r.outputs {
            for t in o.tensor {
                outputs.push(build(described(t)?, &o.engine_name)?);
            }
        }
        (r.err_no.into(), r.err_msg)
    } else {
        let text = readable(&body, Bare::Quoted)?;
        let r: paddle_json::Response<'_> = serde_json::from_str(&text).map_err(WireError::new)?;
        for o in r.outputs {
            outputs.extend(all(o.tensor, &o.engine_name)?);
        }
        (r.err_no, r.err_msg)
    };
    if number != 0 {
        row.error
            .get_or_insert(format!("err_no {number}: {message}"));
        return Ok(Decoded::Raw);
    }
    row.outputs = Some(outputs);
    Ok(Decoded::Whole)
}

/// `application/proto` and its aliases; everything else is JSON, as the server reads it.
fn is_protobuf(side: Side<'_>) -> bool {
    side.header("content-type").is_some_and(|t| {
        let essence = t.split(';').next().unwrap_or("").trim_ascii();
        [
            "application/proto",
            "application/x-protobuf",
            "application/protobuf",
        ]
        .iter()
        .any(|p| essence.eq_ignore_ascii_case(p))
    })
}

fn all(tensors: Vec<JsonTensor<'_>>, engine: &str) -> Result<Vec<Tensor>, WireError> {
    tensors
        .into_iter()
        .map(|t| build(t.described()?, engine))
        .collect()
}

/// Types without a list of their own travel in `tensor_content`, little-endian; the others may.
fn described(t: PaddleTensor) -> Result<Described, WireError> {
    let datatype = datatype(t.elem_type)?;
    let listed: Vec<u8> = match datatype {
        Datatype::Int64 => t.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Datatype::Fp32 => t.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Datatype::Int32 => t.int_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Datatype::Fp64 => t
            .float64_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        Datatype::Bool => t.bool_data.iter().map(|&b| u8::from(b)).collect(),
        Datatype::Bytes => strings(&t.data)?,
        _ => Vec::new(),
    };
    Ok(Described {
        name: t.name,
        alias: t.alias_name,
        datatype,
        shape: t.shape,
        lod: t.lod,
        data: if listed.is_empty() {
            t.tensor_content
        } else {
            listed.into()
        },
    })
}

fn build(t: Described, engine: &str) -> Result<Tensor, WireError> {
    let mut parameters = Map::new();
    if !t.lod.is_empty() {
        parameters.insert("lod".into(), json!(t.lod));
    }
    if !t.alias.is_empty() && !t.name.is_empty() && t.alias != t.name {
        parameters.insert("name".into(), t.name.as_str().into());
    }
    if !engine.is_empty() {
        parameters.insert("engine_name".into(), engine.into());
    }
    let name = if t.alias.is_empty() { t.name } else { t.alias };
    let shape: Vec<i64> = t.shape.iter().map(|&d| d.into()).collect();
    let mut tensor = match Tensor::inline(&name, t.datatype, shape, t.data.clone()) {
        Ok(tensor) => tensor,
        // Clients describe a string by its characters, so shape and strings need not agree.
        Err(e) if t.datatype == Datatype::Bytes => {
            let count = string_count(&t.data).ok_or(e)?;
            parameters.insert("shape".into(), json!(t.shape));
            Tensor::inline(&name, t.datatype, vec![count], t.data)?
        }
        Err(e) => return Err(e.into()),
    };
    tensor.parameters = (!parameters.is_empty()).then(|| Value::Object(parameters).to_string());
    Ok(capped(tensor))
}

fn string_count(data: &[u8]) -> Option<i64> {
    let (mut rest, mut count) = (data, 0);
    while let Some((prefix, tail)) = rest.split_first_chunk::<4>() {
        rest = tail.get(u32::from_le_bytes(*prefix) as usize..)?;
        count += 1;
    }
    rest.is_empty().then_some(count)
}
