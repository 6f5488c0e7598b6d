//! Which protocol an exchange speaks, by its method, path, content types and, last, its body.

use super::route::{Infer, Tfs, infer_route, tfs_route, triton_route};
use super::{paddle_pipeline, row::Side};
use crate::raw::RawExchange;

/// The protocols that are told apart; [`Protocol::name`] is what a capture stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Open Inference Protocol v2, REST, JSON with or without binary blobs.
    OipRest { route: Infer, binary: bool },
    /// Open Inference Protocol v2, gRPC `ModelInfer`.
    OipGrpc,
    /// Triton's gRPC `ModelStreamInfer`.
    OipGrpcStream,
    /// TensorFlow Serving, REST v1 (KServe v1 too).
    TfsRest(Tfs),
    /// Paddle Serving, C++ server.
    PaddleServing,
    /// Paddle Serving, Python pipeline: `POST /name/method`.
    PaddlePipeline { name: String },
    /// Triton's generate extension.
    Generate(Infer),
    /// The same, answered as a stream of events.
    GenerateStream(Infer),
    /// Any other answer of server-sent events.
    Sse,
    /// Any other gRPC.
    Grpc,
    /// Anything else.
    Http,
}

impl Protocol {
    /// The name stored in `Exchange::protocol`.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::OipRest { binary: false, .. } => "oip-rest",
            Self::OipRest { binary: true, .. } => "oip-rest-binary",
            Self::OipGrpc => "oip-grpc",
            Self::OipGrpcStream => "oip-grpc-stream",
            Self::TfsRest(_) => "tfs-rest",
            Self::PaddleServing => "paddle-serving",
            Self::PaddlePipeline { .. } => "paddle-pipeline",
            Self::Generate(_) => "triton-generate",
            Self::GenerateStream(_) => "triton-generate-stream",
            Self::Sse => "sse",
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }

    /// The protocol of an exchange.
    pub(super) fn of(raw: &RawExchange) -> Self {
        if raw.method == "POST"
            && let Some(protocol) = Self::of_post(raw)
        {
            return protocol;
        }
        if raw.response_header("content-type").is_some_and(is_sse) {
            return Self::Sse;
        }
        Self::Http
    }

    fn of_post(raw: &RawExchange) -> Option<Self> {
        let path = raw.path.as_str();
        if raw.request_header("content-type").is_some_and(is_grpc) {
            return Some(match path {
                "/inference.GRPCInferenceService/ModelInfer" => Self::OipGrpc,
                "/inference.GRPCInferenceService/ModelStreamInfer" => Self::OipGrpcStream,
                _ => Self::Grpc,
            });
        }
        if let Some(route) = infer_route(path) {
            const LENGTH: &str = "inference-header-content-length";
            let binary =
                raw.request_header(LENGTH).is_some() || raw.response_header(LENGTH).is_some();
            return Some(Self::OipRest { route, binary });
        }
        if let Some(route) = triton_route(path, "generate") {
            return Some(Self::Generate(route));
        }
        if let Some(route) = triton_route(path, "generate_stream") {
            return Some(Self::GenerateStream(route));
        }
        if let Some(route) = tfs_route(path) {
            return Some(Self::TfsRest(route));
        }
        if matches!(
            path,
            "/GeneralModelService/inference"
                | "/baidu.paddle_serving.predictor.general_model.GeneralModelService/inference"
        ) {
            return Some(Self::PaddleServing);
        }
        let (name, method) = path.strip_prefix('/')?.split_once('/')?;
        let two = !name.is_empty() && !method.is_empty() && !method.contains('/');
        let body = two.then(|| Side::request(raw).body().ok()).flatten()?;
        paddle_pipeline::is_request(&body).then(|| Self::PaddlePipeline {
            name: name.to_owned(),
        })
    }
}

/// `application/grpc`, `application/grpc+proto`, …; gRPC-Web frames its trailers differently and
/// is kept raw.
fn is_grpc(content_type: &str) -> bool {
    content_type
        .get(..16)
        .is_some_and(|t| t.eq_ignore_ascii_case("application/grpc"))
        && matches!(
            content_type.as_bytes().get(16),
            None | Some(b'+' | b';' | b' ')
        )
}

/// `text/event-stream`, with any parameters.
pub(super) fn is_sse(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim_ascii();
    essence.eq_ignore_ascii_case("text/event-stream")
}
