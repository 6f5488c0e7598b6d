//! What both forms of the protocol have in common: an answer, an error, a head.

use http::{HeaderName, HeaderValue, Uri};
use inferdiff_replay::runtime::InferError;
use inferdiff_schemas::wire::{Answered, Ask, Signature};

use super::grpc::Grpc;
use super::options::{EndpointOptions, Form};
use super::rest::Rest;
use crate::proxy::Upstream;

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// Nothing came back: the connection, in words.
    Connection(String),
    /// The server refuses the request as such: status and its words.
    Refused(String),
    /// The server failed: status and its words.
    Server(String),
    /// The request or the answer is none of the protocol.
    Protocol(String),
}

impl Broken {
    pub fn words(&self) -> &str {
        match self {
            Self::Connection(why)
            | Self::Refused(why)
            | Self::Server(why)
            | Self::Protocol(why) => why,
        }
    }
}

impl From<Broken> for InferError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Refused(why) => Self::BadRequest(why),
            other => Self::Engine(other.words().to_owned()),
        }
    }
}

/// Who answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Server {
    pub name: String,
    pub version: String,
    /// Blobs are understood.
    pub binary: bool,
}

/// A connection in one of the two forms.
pub(super) enum Link {
    Rest(Rest),
    Grpc(Grpc),
}

impl Link {
    pub fn new(options: &EndpointOptions) -> Result<Self, String> {
        let (form, upstream) = options.upstream()?;
        let heads = Heads::new(upstream, options)?;
        Ok(match form {
            Form::Rest => Self::Rest(Rest::new(heads)),
            Form::Grpc => Self::Grpc(Grpc::new(heads)),
        })
    }

    /// Who answers there.
    pub async fn server(&mut self) -> Result<Server, Broken> {
        match self {
            Self::Rest(rest) => rest.server().await,
            Self::Grpc(grpc) => grpc.server().await,
        }
    }

    /// Whether the model answers requests.
    pub async fn ready(&mut self, model: &str, version: Option<&str>) -> Result<(), Broken> {
        match self {
            Self::Rest(rest) => rest.ready(model, version).await,
            Self::Grpc(grpc) => grpc.ready(model, version).await,
        }
    }

    /// Inputs and outputs of the model.
    pub async fn metadata(
        &mut self,
        model: &str,
        version: Option<&str>,
    ) -> Result<Signature, Broken> {
        match self {
            Self::Rest(rest) => rest.metadata(model, version).await,
            Self::Grpc(grpc) => grpc.metadata(model, version).await,
        }
    }

    /// One request. `binary`: as blobs, over REST.
    pub async fn infer(&mut self, ask: &Ask<'_>, binary: bool) -> Result<Answered, Broken> {
        match self {
            Self::Rest(rest) => rest.infer(ask, binary).await,
            Self::Grpc(grpc) => grpc.infer(ask).await,
        }
    }
}

/// Where requests go and the headers that each gets.
pub(super) struct Heads {
    pub upstream: Upstream,
    /// As the ladder says it.
    url: String,
    /// Name of the host that the server hears.
    authority: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Heads {
    fn new(upstream: Upstream, options: &EndpointOptions) -> Result<Self, String> {
        let mut headers = options.read_headers()?;
        let host = headers
            .iter()
            .position(|(name, _)| *name == http::header::HOST);
        let host = host.map(|at| headers.remove(at).1);
        let authority = match host.as_ref().map(|h| h.to_str()) {
            Some(Ok(host)) => host.to_owned(),
            _ => {
                let url = upstream.to_string();
                let (_, authority) = url.split_once("://").unwrap_or_default();
                authority.to_owned()
            }
        };
        Ok(Self {
            upstream,
            url: options.url.clone(),
            authority,
            headers,
        })
    }

    /// The head of an HTTP/1.1 request: `Host` is a header.
    pub fn http1(&self, method: &str, path: &str) -> http::request::Builder {
        self.head(method).uri(path).header("host", &self.authority)
    }

    /// The head of an HTTP/2 request: the host is in the address.
    pub fn http2(&self, method: &str, path: &str) -> Result<http::request::Builder, Broken> {
        let scheme = if self.upstream.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(self.authority.as_str())
            .path_and_query(path)
            .build()
            .map_err(|e| Broken::Protocol(format!("{}: {e}", self.authority)))?;
        Ok(self.head(method).uri(uri))
    }

    fn head(&self, method: &str) -> http::request::Builder {
        let agent = concat!("inferdiff/", env!("CARGO_PKG_VERSION"));
        let head = http::Request::builder().method(method);
        let head = head.header("user-agent", agent);
        self.headers
            .iter()
            .fold(head, |head, (name, value)| head.header(name, value))
    }

    /// The sentence of a connection that failed.
    pub fn broken(&self, what: &str, why: impl std::fmt::Display) -> Broken {
        Broken::Connection(format!("{}: {what}: {why}", self.url))
    }
}
