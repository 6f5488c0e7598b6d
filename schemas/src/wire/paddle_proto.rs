//! The messages of Paddle Serving's C++ server.
//!
//! Source: `core/general-server/proto/general_model_service.proto` of Paddle Serving 0.9.

use bytes::Bytes;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct PaddleTensor {
    #[prost(int64, repeated, tag = "1")]
    pub int64_data: Vec<i64>,
    #[prost(float, repeated, tag = "2")]
    pub float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "3")]
    pub int_data: Vec<i32>,
    #[prost(double, repeated, tag = "4")]
    pub float64_data: Vec<f64>,
    #[prost(bool, repeated, tag = "6")]
    pub bool_data: Vec<bool>,
    // A proto3 string, but C++ servers write what bytes they like.
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub data: Vec<Bytes>,
    #[prost(int32, tag = "10")]
    pub elem_type: i32,
    #[prost(int32, repeated, tag = "11")]
    pub shape: Vec<i32>,
    #[prost(int32, repeated, tag = "12")]
    pub lod: Vec<i32>,
    #[prost(string, tag = "13")]
    pub name: String,
    #[prost(string, tag = "14")]
    pub alias_name: String,
    #[prost(bytes = "bytes", tag = "15")]
    pub tensor_content: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PaddleRequest {
    #[prost(message, repeated, tag = "1")]
    pub tensor: Vec<PaddleTensor>,
    #[prost(string, repeated, tag = "2")]
    pub fetch_var_names: Vec<String>,
    #[prost(bool, tag = "3")]
    pub profile_server: bool,
    #[prost(uint64, tag = "4")]
    pub log_id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PaddleResponse {
    #[prost(message, repeated, tag = "1")]
    pub outputs: Vec<PaddleOutput>,
    #[prost(int32, tag = "5")]
    pub err_no: i32,
    #[prost(string, tag = "6")]
    pub err_msg: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PaddleOutput {
    #[prost(message, repeated, tag = "1")]
    pub tensor: Vec<PaddleTensor>,
    #[prost(string, tag = "2")]
    pub engine_name: String,
}
