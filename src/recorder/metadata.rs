//! Asks the upstream's own metadata routes: once for the server, once for every model seen.
//!
//! Sources: Open Inference Protocol v2 (`GET /v2`, `GET /v2/models/M[/versions/V]`), TensorFlow
//! Serving REST (`GET /v1/models/M/metadata`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use inferdiff_schemas::wire::{model_route, percent_encoded};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::Recorder;
use crate::proxy::Upstream;

/// A model whose metadata nobody has asked for yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Route that tells of it.
    pub route: String,
    /// Model.
    pub model: String,
    /// Version that the request named.
    pub version: Option<String>,
}

impl Wanted {
    /// The route for a model that was seen under `protocol`; `None` where the protocol has none.
    pub fn of(protocol: &str, model: &str, version: Option<&str>) -> Option<Self> {
        let route = if protocol.starts_with("oip-rest") || protocol.starts_with("triton-") {
            model_route(model, version)
        } else if protocol == "tfs-rest" {
            format!("/v1/models/{}/metadata", percent_encoded(model))
        } else {
            return None;
        };
        Some(Self {
            route,
            model: model.to_owned(),
            version: version.map(str::to_owned),
        })
    }
}

/// An answer longer than this is no metadata.
const LIMIT: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for everything that is wanted, one after another, until the recorder ends.
pub async fn inquire(
    upstream: Upstream,
    mut wanted: UnboundedReceiver<Wanted>,
    recorder: Arc<Recorder>,
) {
    let mut server_asked = false;
    while let Some(want) = wanted.recv().await {
        if !server_asked && want.route.starts_with("/v2/") {
            server_asked = true;
            if let Some(answer) = ask(&upstream, "/v2").await {
                recorder.learn("/v2".to_owned(), None, answer);
            }
        }
        if let Some(answer) = ask(&upstream, &want.route).await {
            recorder.learn(want.route.clone(), Some(want), answer);
        }
    }
}

/// The answer with its status and the server's name; `None` where there was none.
async fn ask(upstream: &Upstream, route: &str) -> Option<Value> {
    match tokio::time::timeout(PATIENCE, get(upstream, route)).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(e)) => {
            tracing::debug!("the upstream's {route} could not be asked: {e}");
            None
        }
        Err(_) => None,
    }
}

async fn get(
    upstream: &Upstream,
    route: &str,
) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
    let stream = upstream.connect(false).await?;
    let (mut send, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::task::spawn_local(connection);
    let request = Request::get(route)
        .header("host", format!("{}:{}", upstream.host, upstream.port))
        .header(
            "user-agent",
            concat!("inferdiff/", env!("CARGO_PKG_VERSION")),
        )
        .header("connection", "close")
        .body(Empty::<Bytes>::new())?;
    let response = send.send_request(request).await?;
    let status = response.status().as_u16();
    let server = response
        .headers()
        .get("server")
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);
    let body = Limited::new(response.into_body(), LIMIT)
        .collect()
        .await?
        .to_bytes();
    driver.abort();
    // What is no JSON is no metadata either; that it was asked and answered is still told.
    let answer: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok(json!({ "status": status, "server": server, "answer": answer }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_has_its_route_or_none() {
        let route = |p: &str, m: &str, v: Option<&str>| Wanted::of(p, m, v).map(|w| w.route);
        assert_eq!(
            route("oip-rest", "a b", None).as_deref(),
            Some("/v2/models/a%20b")
        );
        let versioned = route("oip-rest-binary", "m", Some("3"));
        assert_eq!(versioned.as_deref(), Some("/v2/models/m/versions/3"));
        assert_eq!(
            route("tfs-rest", "m", None).as_deref(),
            Some("/v1/models/m/metadata")
        );
        assert_eq!(route("http", "m", None), None);
    }
}
