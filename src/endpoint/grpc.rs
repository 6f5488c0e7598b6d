//! The protocol over gRPC, on HTTP/2.
//!
//! Sources: `grpc_predict_v2.proto` of the Open Inference Protocol; "gRPC over HTTP2".

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use http::HeaderMap;
use inferdiff_schemas::tensor::MAX_PAYLOAD_BYTES;
use inferdiff_schemas::wire::{
    Answered, Ask, Signature, WireError, decode_grpc_answer, encode_grpc_request, grpc_message,
    model_metadata_request, read_model_metadata, read_ready, read_server_metadata, ready_request,
};

use super::link::{Broken, Heads, Server};

const SERVICE: &str = "/inference.GRPCInferenceService";
const PREFIX: usize = 5;
/// Answers of the size of tensors must not wait for window updates.
const WINDOW: u32 = 16 << 20;
const INVALID_ARGUMENT: &str = "3";

/// A connection, opened when it is needed.
pub(super) struct Grpc {
    heads: Heads,
    open: Option<SendRequest<Bytes>>,
}

impl Grpc {
    pub fn new(heads: Heads) -> Self {
        Self { heads, open: None }
    }

    pub async fn server(&mut self) -> Result<Server, Broken> {
        let said = self.call("ServerMetadata", &[]).await?;
        let (name, version) = read_server_metadata(&said).map_err(unreadable)?;
        Ok(Server {
            name,
            version,
            binary: true,
        })
    }

    pub async fn ready(&mut self, model: &str, version: Option<&str>) -> Result<(), Broken> {
        let said = self
            .call("ModelReady", &ready_request(model, version))
            .await?;
        if read_ready(&said).map_err(unreadable)? {
            return Ok(());
        }
        Err(Broken::Server(format!(
            "the server says that model `{model}` is not ready"
        )))
    }

    pub async fn metadata(
        &mut self,
        model: &str,
        version: Option<&str>,
    ) -> Result<Signature, Broken> {
        let request = model_metadata_request(model, version);
        let said = self.call("ModelMetadata", &request).await?;
        read_model_metadata(&said).map_err(unreadable)
    }

    pub async fn infer(&mut self, ask: &Ask<'_>) -> Result<Answered, Broken> {
        let message = encode_grpc_request(ask).map_err(|e| Broken::Protocol(e.to_string()))?;
        let said = self.call("ModelInfer", &message).await?;
        decode_grpc_answer(&said).map_err(unreadable)
    }

    /// One unary call on the open connection, or on a new one where that was closed meanwhile.
    async fn call(&mut self, method: &str, message: &[u8]) -> Result<Bytes, Broken> {
        let length = u32::try_from(message.len())
            .map_err(|_| Broken::Protocol("a message of 4 GiB or more is none of gRPC".into()))?;
        let mut framed = BytesMut::with_capacity(PREFIX + message.len());
        framed.put_u8(0);
        framed.put_u32(length);
        framed.put_slice(message);
        let mut send = self.ready_connection().await?;
        let head = self.heads.http2("POST", &format!("{SERVICE}/{method}"))?;
        let head = head
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|e| Broken::Protocol(e.to_string()))?;
        let broken = |e: h2::Error| self.heads.broken("it gave no answer", e);
        let (response, mut stream) = send.send_request(head, false).map_err(broken)?;
        self.open = Some(send);
        stream.send_data(framed.freeze(), true).map_err(broken)?;
        let (head, mut body) = response.await.map_err(broken)?.into_parts();
        if !head.status.is_success() {
            let status = head.status.as_u16();
            return Err(Broken::Server(format!(
                "HTTP status {status}, which is no gRPC answer"
            )));
        }
        let limit = usize::try_from(MAX_PAYLOAD_BYTES).unwrap_or(usize::MAX);
        let mut said = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(broken)?;
            let _ = body.flow_control().release_capacity(data.len());
            if said.len() + data.len() > limit {
                return Err(Broken::Protocol(format!(
                    "its answer is longer than {limit} bytes"
                )));
            }
            said.extend_from_slice(&data);
        }
        let trailers = body.trailers().await.map_err(broken)?;
        status(trailers.as_ref().unwrap_or(&head.headers))?;
        unframed(said.freeze())
    }

    /// A connection that takes a request now. A server may have closed an idle one.
    async fn ready_connection(&mut self) -> Result<SendRequest<Bytes>, Broken> {
        if let Some(send) = self.open.take()
            && let Ok(send) = send.ready().await
        {
            return Ok(send);
        }
        let stream = self.heads.upstream.connect(true).await;
        let stream = stream.map_err(|e| self.heads.broken("no connection", e))?;
        let broken = |e: h2::Error| self.heads.broken("no connection", e);
        let (send, connection) = Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(broken)?;
        tokio::spawn(connection);
        send.ready().await.map_err(broken)
    }
}

fn unreadable(e: WireError) -> Broken {
    Broken::Protocol(format!("its answer cannot be read: {e}"))
}

/// The final status of a call.
fn status(fields: &HeaderMap) -> Result<(), Broken> {
    let field = |name: &str| fields.get(name).and_then(|v| v.to_str().ok());
    match field("grpc-status") {
        Some("0") => Ok(()),
        None => Err(Broken::Protocol("its answer has no grpc-status".to_owned())),
        Some(code) => {
            let why = grpc_message(field("grpc-message").unwrap_or_default());
            let why = format!("gRPC status {code}: {why}");
            Err(if code == INVALID_ARGUMENT {
                Broken::Refused(why)
            } else {
                Broken::Server(why)
            })
        }
    }
}

/// The one message of an answer.
fn unframed(body: Bytes) -> Result<Bytes, Broken> {
    let fail = |why: &str| Err(Broken::Protocol(format!("its answer {why}")));
    let Some([flag, length @ ..]) = body.first_chunk::<PREFIX>() else {
        return fail("is shorter than a message's prefix");
    };
    if *flag != 0 {
        return fail("is compressed, which was not asked for");
    }
    let length = u32::from_be_bytes(*length) as usize;
    if body.len() - PREFIX != length {
        return fail("is not one whole message");
    }
    Ok(body.slice(PREFIX..))
}
