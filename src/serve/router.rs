//! Routes of the Open Inference Protocol v2 REST API.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use inferdiff_replay::runtime::InferError;
use inferdiff_schemas::tensor::MAX_PAYLOAD_BYTES;
use inferdiff_schemas::wire::{
    OipRequest, binary_header, decode_request, encode_response, infer_route,
};
use inferdiff_schemas::{Datatype, Tensor};
use serde_json::{Value, json};

use super::engine::{Engine, VERSION};

const HEADER_LENGTH: &str = "inference-header-content-length";

type Reply = Response<Full<Bytes>>;

/// Answers any request; never fails.
pub async fn answer(engine: &Engine, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let known = [engine.model.as_str()];
    if let Some(route) = infer_route(&path) {
        if request.method() != Method::POST {
            return error(StatusCode::METHOD_NOT_ALLOWED, "inference is a POST");
        }
        let version = route.version.as_deref().unwrap_or(VERSION);
        if !known.contains(&route.model.as_str()) || version != VERSION {
            return unknown_model(engine, &route.model, version);
        }
        return match infer(engine, request).await {
            Ok(reply) => reply,
            Err((status, why)) => error(status, &why),
        };
    }
    if request.method() != Method::GET {
        return error(StatusCode::NOT_FOUND, &format!("there is no route {path}"));
    }
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["v2"] => reply(&json!({
            "name": "inferdiff serve", "version": env!("CARGO_PKG_VERSION"),
            "extensions": ["binary_tensor_data"],
        })),
        ["v2", "health", "live" | "ready"] => Response::new(Full::default()),
        ["v2", "models", model, rest @ ..] => match rest {
            _ if *model != engine.model => unknown_model(engine, model, VERSION),
            [] | ["versions", VERSION] => reply(&metadata(engine)),
            ["ready"] | ["versions", VERSION, "ready"] => Response::new(Full::default()),
            ["versions", version, ..] => unknown_model(engine, model, version),
            _ => error(StatusCode::NOT_FOUND, &format!("there is no route {path}")),
        },
        _ => error(StatusCode::NOT_FOUND, &format!("there is no route {path}")),
    }
}

fn metadata(engine: &Engine) -> Value {
    let specs = |specs: &[inferdiff_schemas::run::evidence::TensorSpec]| -> Vec<Value> {
        specs
            .iter()
            .map(|s| json!({ "name": s.name, "datatype": s.datatype, "shape": s.shape }))
            .collect()
    };
    json!({
        "name": engine.model, "versions": [VERSION], "platform": "onnxruntime_onnx",
        "inputs": specs(&engine.signature.inputs), "outputs": specs(&engine.signature.outputs),
    })
}

async fn infer(engine: &Engine, request: Request<Incoming>) -> Result<Reply, (StatusCode, String)> {
    let bad = |why: String| (StatusCode::BAD_REQUEST, why);
    let (head, body) = request.into_parts();
    let text = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(encoding) = text("content-encoding").filter(|e| *e != "identity") {
        let why = format!("content encoding `{encoding}` is not supported");
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let header =
        binary_header(text(HEADER_LENGTH), text("content-type")).map_err(|e| bad(e.to_string()))?;
    let limit = usize::try_from(MAX_PAYLOAD_BYTES).unwrap_or(usize::MAX);
    let body = Limited::new(body, limit)
        .collect()
        .await
        .map_err(|e| bad(format!("cannot read the body: {e}")))?
        .to_bytes();
    let mut request = decode_request(&body, header).map_err(|e| bad(e.to_string()))?;
    let inputs = std::mem::take(&mut request.inputs);
    let outputs = engine.infer(inputs).await.map_err(|e| match e {
        InferError::BadRequest(why) => bad(why),
        other => (StatusCode::INTERNAL_SERVER_ERROR, other.to_string()),
    })?;
    let chosen = choose(outputs, &request).map_err(bad)?;
    let encoded = encode_response(&engine.model, VERSION, request.id.as_deref(), &chosen)
        .map_err(|e| bad(e.to_string()))?;
    let mut reply = Response::new(Full::new(encoded.body));
    let headers: &mut HeaderMap = reply.headers_mut();
    let binary = encoded.header_length.is_some();
    let kind = if binary {
        "application/octet-stream"
    } else {
        "application/json"
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(length) = encoded.header_length {
        headers.insert(HEADER_LENGTH, HeaderValue::from(length));
    }
    Ok(reply)
}

/// The outputs asked for, in that order, each with whether it travels as a blob.
fn choose(outputs: Vec<Tensor>, request: &OipRequest) -> Result<Vec<(Tensor, bool)>, String> {
    let Some(wanted) = &request.outputs else {
        return Ok(outputs
            .into_iter()
            .map(|t| (t, request.binary_output))
            .collect());
    };
    wanted
        .iter()
        .map(|w| {
            let found = outputs.iter().find(|t| t.name == w.name).cloned();
            let found = found.ok_or_else(|| {
                let names: Vec<_> = outputs.iter().map(|t| t.name.as_str()).collect();
                format!(
                    "the model has no output `{}`; it has {}",
                    w.name,
                    names.join(", ")
                )
            })?;
            // FP16 and BF16 have no JSON form that clients agree on.
            let only_binary = matches!(found.datatype, Datatype::Fp16 | Datatype::Bf16);
            let binary = w.binary.unwrap_or(request.binary_output) || only_binary;
            Ok((found, binary))
        })
        .collect()
}

fn unknown_model(engine: &Engine, model: &str, version: &str) -> Reply {
    let why = format!(
        "there is no model `{model}` version `{version}`; this endpoint serves `{}` version `{VERSION}`",
        engine.model
    );
    error(StatusCode::NOT_FOUND, &why)
}

fn reply(value: &Value) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(value.to_string())));
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn error(status: StatusCode, why: &str) -> Reply {
    let mut reply = reply(&json!({ "error": why }));
    *reply.status_mut() = status;
    reply
}
