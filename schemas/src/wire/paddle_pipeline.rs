//! Paddle Serving's Python pipeline: `POST /name/method` with strings under keys.
//!
//! Source: `pipeline_service.proto` in the JSON form of its gateway. Each key is a BYTES tensor of
//! shape [1]; what its string means is known to the pipeline alone.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::little_endian::strings;
use super::row::{Decoded, Side, put_inputs};
use super::text::{Bare, readable};
use super::{MAX_TENSORS, WireError, capped};
use crate::exchange::Exchange;
use crate::tensor::{Datatype, Tensor};

#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "key")]
    _key: Vec<IgnoredAny>,
    #[serde(rename = "value")]
    _value: Vec<IgnoredAny>,
}

/// True for a JSON object with the lists `key` and `value`.
pub(super) fn is_request(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{")
        && memchr::memmem::find(body, b"\"key\"").is_some()
        && serde_json::from_slice::<Shape>(body).is_ok()
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    key: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    value: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    tensors: Option<&'a RawValue>,
    #[serde(default)]
    err_no: i64,
    err_msg: Option<String>,
    logid: Option<Value>,
    method: Option<String>,
}

impl<'a> Body<'a> {
    fn of(text: &'a str) -> Result<Self, WireError> {
        serde_json::from_str(text).map_err(WireError::new)
    }

    fn tensors(self) -> Result<Vec<Tensor>, WireError> {
        if self.tensors.is_some_and(|t| t.get().trim_ascii() != "[]") {
            return Err(WireError::new(
                "`tensors` of a pipeline are not decoded, only `key` and `value`",
            ));
        }
        if self.key.len() != self.value.len() {
            return Err(WireError(format!(
                "{} keys but {} values",
                self.key.len(),
                self.value.len()
            )));
        }
        if self.key.len() > MAX_TENSORS {
            return Err(WireError(format!("more than {MAX_TENSORS} keys")));
        }
        let one = |(key, value): (Cow<'_, str>, Cow<'_, str>)| {
            let data = strings(&[value.as_bytes()])?;
            let tensor = Tensor::inline(key, Datatype::Bytes, vec![1], data.into())?;
            Ok(capped(tensor))
        };
        self.key.into_iter().zip(self.value).map(one).collect()
    }
}

pub(super) fn request(side: Side<'_>, row: &mut Exchange) -> Result<Decoded, WireError> {
    let body = side.body()?;
    let text = readable(&body, Bare::Quoted)?;
    let request = Body::of(&text)?;
    let logid = request.logid.as_ref().and_then(|id| match id {
        Value::String(s) if !s.is_empty() => Some(s.clone()),
        Value::Number(n) if n.as_u64() != Some(0) => Some(n.to_string()),
        _ => None,
    });
    row.client_request_id = logid.or(row.client_request_id.take());
    row.parameters = request
        .method
        .as_ref()
        .map(|m| json!({ "method": m }).to_string());
    put_inputs(row, request.tensors()?);
    Ok(Decoded::Whole)
}

pub(super) fn response(side: Side<'_>, row: &mut Exchange) -> Result<Decoded, WireError> {
    let body = side.body()?;
    let text = readable(&body, Bare::Quoted)?;
    let response = Body::of(&text)?;
    if response.err_no != 0 {
        let message = response.err_msg.unwrap_or_default();
        row.error
            .get_or_insert(format!("err_no {}: {message}", response.err_no));
        return Ok(Decoded::Raw);
    }
    row.outputs = Some(response.tensors()?);
    Ok(Decoded::Whole)
}
