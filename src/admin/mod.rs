//! The admin address: `/metrics`, `/healthz`, `/readyz`.

mod metrics;

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::proxy::{Meter, Upstream};
use crate::recorder::Recorder;

/// What the admin address tells of.
pub struct Watched {
    /// The proxy's counters.
    pub meter: Arc<Meter>,
    /// The recorder, where there is one.
    pub recorder: Option<Arc<Recorder>>,
    /// Where requests go: `/readyz` asks whether it can be reached.
    pub upstream: Upstream,
    /// Set when the proxy stops taking new connections.
    pub draining: Rc<Cell<bool>>,
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, watched: Watched) {
    let watched = Rc::new(watched);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let watched = watched.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let watched = watched.clone();
                async move { Ok::<_, Infallible>(answer(&watched, &request).await) }
            });
            // Whoever watches may go away at any time.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(watched: &Watched, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let text = |status: u16, kind: &'static str, body: String| {
        Response::builder()
            .status(status)
            .header("content-type", kind)
            .body(Full::from(body))
            .expect("fixed heads are valid")
    };
    const PLAIN: &str = "text/plain; charset=utf-8";
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(405, PLAIN, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => match metrics::render(watched) {
            Ok(body) => text(
                200,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                body,
            ),
            Err(e) => text(500, PLAIN, format!("{e}\n")),
        },
        "/healthz" => text(200, PLAIN, "ok\n".to_owned()),
        "/readyz" => match readiness(watched).await {
            Ok(()) => text(200, PLAIN, "ready\n".to_owned()),
            Err(why) => text(503, PLAIN, format!("{why}\n")),
        },
        _ => text(404, PLAIN, "/metrics, /healthz, /readyz\n".to_owned()),
    }
}

/// Ready means: production can go through. A recorder in trouble is for `/metrics` to tell; taking
/// the proxy out of service for it would be worse than not recording.
async fn readiness(watched: &Watched) -> Result<(), String> {
    if watched.draining.get() {
        return Err("draining".to_owned());
    }
    let (host, port) = (watched.upstream.host.as_str(), watched.upstream.port);
    let connect = tokio::net::TcpStream::connect((host, port));
    match tokio::time::timeout(Duration::from_secs(1), connect).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(format!(
            "the upstream {} cannot be reached: {e}",
            watched.upstream
        )),
        Err(_) => Err(format!(
            "the upstream {} does not answer within 1 s",
            watched.upstream
        )),
    }
}
