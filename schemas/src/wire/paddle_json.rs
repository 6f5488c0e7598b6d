//! The JSON form of Paddle Serving's messages, as brpc and protobuf write it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::WireError;
use super::data::{self, Style};
use super::paddle::{self, Described};
use super::text::base64;
use crate::tensor::Datatype;

#[derive(Deserialize)]
pub(super) struct Request<'a> {
    #[serde(borrow, default)]
    pub tensor: Vec<JsonTensor<'a>>,
    #[serde(default, alias = "fetchVarNames")]
    pub fetch_var_names: Vec<String>,
    #[serde(default, alias = "profileServer")]
    pub profile_server: bool,
    #[serde(default, alias = "logId")]
    pub log_id: serde_json::Value,
}

#[derive(Deserialize)]
pub(super) struct Response<'a> {
    #[serde(borrow, default)]
    pub outputs: Vec<Output<'a>>,
    #[serde(default, alias = "errNo")]
    pub err_no: i64,
    #[serde(default, alias = "errMsg")]
    pub err_msg: String,
}

#[derive(Deserialize)]
pub(super) struct Output<'a> {
    #[serde(borrow, default)]
    pub tensor: Vec<JsonTensor<'a>>,
    #[serde(default, alias = "engineName")]
    pub engine_name: String,
}

#[derive(Deserialize)]
pub(super) struct JsonTensor<'a> {
    #[serde(borrow, alias = "int64Data")]
    int64_data: Option<&'a RawValue>,
    #[serde(borrow, alias = "floatData")]
    float_data: Option<&'a RawValue>,
    #[serde(borrow, alias = "intData")]
    int_data: Option<&'a RawValue>,
    #[serde(borrow, alias = "float64Data")]
    float64_data: Option<&'a RawValue>,
    #[serde(borrow, alias = "boolData")]
    bool_data: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default, alias = "elemType")]
    elem_type: i32,
    #[serde(default)]
    shape: Vec<i32>,
    #[serde(default)]
    lod: Vec<i32>,
    #[serde(default)]
    name: String,
    #[serde(default, alias = "aliasName")]
    alias_name: String,
    #[serde(borrow, default, alias = "tensorContent")]
    tensor_content: Cow<'a, str>,
}

impl JsonTensor<'_> {
    /// The tensor without its encoding.
    pub(super) fn described(self) -> Result<Described, WireError> {
        let datatype = paddle::datatype(self.elem_type)?;
        let field = match datatype {
            Datatype::Int64 => self.int64_data,
            Datatype::Fp32 => self.float_data,
            Datatype::Int32 => self.int_data,
            Datatype::Fp64 => self.float64_data,
            Datatype::Bool => self.bool_data,
            Datatype::Bytes => self.data,
            _ => None,
        };
        let empty = |list: &&RawValue| {
            let inner = list
                .get()
                .strip_prefix('[')
                .and_then(|l| l.strip_suffix(']'));
            inner.is_some_and(|l| l.trim_ascii().is_empty())
        };
        let data = match field.filter(|list| !empty(list)) {
            // The rank does not matter to a flat list; its length is checked against the shape later.
            Some(list) => data::decode(list, datatype, &[-1], Style::QuotedNumbers)?,
            None => base64(&self.tensor_content)?,
        };
        Ok(Described {
            name: self.name,
            alias: self.alias_name,
            datatype,
            shape: self.shape,
            lod: self.lod,
            data: data.into(),
        })
    }
}
