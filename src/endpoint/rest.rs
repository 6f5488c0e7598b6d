//! The protocol over HTTP/1.1 with JSON, with or without the binary tensor data extension.
//!
//! Sources: Open Inference Protocol v2 REST; Triton's binary tensor data extension.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use inferdiff_schemas::tensor::MAX_PAYLOAD_BYTES;
use inferdiff_schemas::wire::{
    Answered, Ask, Models, Signature, binary_header, decode_response, encode_request, model_route,
};
use serde_json::Value;

use super::link::{Broken, Heads, Server};

const HEADER_LENGTH: &str = "inference-header-content-length";
const BINARY_EXTENSION: &str = "binary_tensor_data";

/// A connection, opened when it is needed.
pub(super) struct Rest {
    heads: Heads,
    open: Option<SendRequest<Full<Bytes>>>,
}

/// An answer, whole.
struct Reply {
    status: StatusCode,
    header_length: Option<String>,
    content_type: Option<String>,
    body: Bytes,
}

impl Rest {
    pub fn new(heads: Heads) -> Self {
        Self { heads, open: None }
    }

    pub async fn server(&mut self) -> Result<Server, Broken> {
        let said = self.get("/v2").await?;
        let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        let extensions = said["extensions"].as_array();
        let mut extensions = extensions.into_iter().flatten();
        Ok(Server {
            name: text("name"),
            version: text("version"),
            binary: extensions.any(|e| e == BINARY_EXTENSION),
        })
    }

    pub async fn ready(&mut self, model: &str, version: Option<&str>) -> Result<(), Broken> {
        let route = format!("{}/ready", model_route(model, version));
        let head = self.heads.http1("GET", &route);
        self.ask(head, Bytes::new()).await?.checked()?;
        Ok(())
    }

    pub async fn metadata(
        &mut self,
        model: &str,
        version: Option<&str>,
    ) -> Result<Signature, Broken> {
        let said = self.get(&model_route(model, version)).await?;
        let mut models = Models::default();
        models
            .learn(model, version, &said)
            .map_err(|e| Broken::Protocol(e.to_string()))?;
        Ok(models.oip(model, version).cloned().unwrap_or_default())
    }

    pub async fn infer(&mut self, ask: &Ask<'_>, binary: bool) -> Result<Answered, Broken> {
        let protocol = |e: inferdiff_schemas::wire::WireError| Broken::Protocol(e.to_string());
        let sent = encode_request(ask, binary).map_err(protocol)?;
        let route = format!("{}/infer", model_route(ask.model, ask.version));
        let mut head = self.heads.http1("POST", &route);
        head = match sent.header_length {
            Some(length) => head
                .header("content-type", "application/octet-stream")
                .header(HEADER_LENGTH, length),
            None => head.header("content-type", "application/json"),
        };
        let reply = self.ask(head, sent.body).await?.checked()?;
        let header = binary_header(
            reply.header_length.as_deref(),
            reply.content_type.as_deref(),
        );
        let answer = header
            .and_then(|header| decode_response(&reply.body, header))
            .map_err(|e| Broken::Protocol(format!("its answer cannot be read: {e}")))?;
        Ok(Answered {
            version: answer.model_version,
            outputs: answer.outputs,
        })
    }

    async fn get(&mut self, route: &str) -> Result<Value, Broken> {
        let head = self.heads.http1("GET", route);
        let reply = self.ask(head, Bytes::new()).await?.checked()?;
        serde_json::from_slice(&reply.body)
            .map_err(|e| Broken::Protocol(format!("{route} answers no JSON: {e}")))
    }

    /// One request on the open connection, or on a new one where that was closed meanwhile.
    async fn ask(&mut self, head: http::request::Builder, body: Bytes) -> Result<Reply, Broken> {
        let request = head
            .body(Full::new(body))
            .map_err(|e| Broken::Protocol(e.to_string()))?;
        if let Some(mut send) = self.open.take()
            && send.ready().await.is_ok()
        {
            let sent = send.try_send_request(request).await;
            match sent {
                Ok(response) => return self.read(send, response).await,
                // Not one byte of it went out: a server may close what is idle.
                Err(mut e) => match e.take_message() {
                    Some(request) => return self.on_a_new_connection(request).await,
                    None => return Err(self.heads.broken("it gave no answer", e.into_error())),
                },
            }
        }
        self.on_a_new_connection(request).await
    }

    async fn on_a_new_connection(
        &mut self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Reply, Broken> {
        let failed = |what: &'static str| {
            let heads = &self.heads;
            move |e: &dyn std::fmt::Display| heads.broken(what, e)
        };
        let stream = self.heads.upstream.connect(false).await;
        let stream = stream.map_err(|e| failed("no connection")(&e))?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (mut send, connection) = shaken.map_err(|e| failed("no connection")(&e))?;
        tokio::spawn(connection);
        let response = send.send_request(request).await;
        let response = response.map_err(|e| failed("it gave no answer")(&e))?;
        self.read(send, response).await
    }

    async fn read(
        &mut self,
        send: SendRequest<Full<Bytes>>,
        response: Response<Incoming>,
    ) -> Result<Reply, Broken> {
        let (head, body) = response.into_parts();
        let limit = usize::try_from(MAX_PAYLOAD_BYTES).unwrap_or(usize::MAX);
        let body = Limited::new(body, limit).collect().await;
        let body = body.map_err(|e| self.heads.broken("its answer broke off", e))?;
        self.open = Some(send);
        let text = |name: &str| {
            let value = head.headers.get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        Ok(Reply {
            status: head.status,
            header_length: text(HEADER_LENGTH),
            content_type: text("content-type"),
            body: body.to_bytes(),
        })
    }
}

/// As much of a server's words as a message bears.
const WORDS: usize = 500;

impl Reply {
    fn checked(self) -> Result<Self, Broken> {
        if self.status.is_success() {
            return Ok(self);
        }
        let said: Option<Value> = serde_json::from_slice(&self.body).ok();
        let error = said.as_ref().and_then(|s| s["error"].as_str());
        let text = String::from_utf8_lossy(&self.body);
        let words: String = error.unwrap_or(text.trim()).chars().take(WORDS).collect();
        let why = format!("status {}: {words}", self.status.as_u16());
        Err(if self.status == StatusCode::BAD_REQUEST {
            Broken::Refused(why)
        } else {
            Broken::Server(why)
        })
    }
}
