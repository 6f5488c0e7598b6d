//! An upstream for measurements: reads the whole body, answers a fixed V2 inference, over HTTP/1.1
//! JSON, or with `--grpc` over HTTP/2.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a measuring tool may fail loudly"
)]

use std::convert::Infallible;

use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const ANSWER: &str = r#"{"model_name":"m","model_version":"1","outputs":[{"name":"y","shape":[1,10],"datatype":"FP32","data":[0.0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9]}]}"#;
/// The frame of a `ModelInferResponse{model_name: "m", outputs: [{y, FP32, [1, 10]}], raw: 40 bytes}`.
const GRPC_ANSWER: &[u8] = b"\0\0\0\0\x40\x0a\x01m\x2a\x0f\x0a\x01y\x12\x04FP32\x1a\x02\x01\x0a\x32\x28\
\0\0\0\0\xcd\xcc\xcc\x3d\xcd\xcc\x4c\x3e\x9a\x99\x99\x3e\xcd\xcc\xcc\x3e\0\0\0\x3f\x9a\x99\x19\x3f\x33\x33\x33\x3f\xcd\xcc\x4c\x3f\x66\x66\x66\x3f";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let grpc = std::env::args().any(|a| a == "--grpc");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("listening on {}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        if grpc {
            tokio::spawn(http2(stream));
        } else {
            tokio::spawn(http1(stream));
        }
    }
}

async fn http1(stream: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| async {
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        let answer = Full::new(Bytes::from_static(ANSWER.as_bytes()));
        let json = "application/json";
        let response = Response::builder().header("content-type", json);
        Ok::<_, Infallible>(response.body(answer).unwrap())
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn http2(stream: TcpStream) {
    let handshake = h2::server::Builder::new()
        .initial_window_size(4 << 20)
        .initial_connection_window_size(64 << 20)
        .max_frame_size(1 << 20)
        .handshake::<_, Bytes>(stream);
    let Ok(mut connection) = handshake.await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(piece)) = body.data().await {
                let _ = body.flow_control().release_capacity(piece.len());
            }
            let head = Response::builder().header("content-type", "application/grpc");
            let Ok(mut send) = respond.send_response(head.body(()).unwrap(), false) else {
                return;
            };
            let _ = send.send_data(Bytes::from_static(GRPC_ANSWER), false);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let _ = send.send_trailers(trailers);
        });
    }
}
