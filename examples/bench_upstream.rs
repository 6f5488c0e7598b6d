//! An upstream for `scripts/bench record`: reads the whole body, answers a fixed V2 JSON body.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a measuring tool may fail loudly"
)]

use std::convert::Infallible;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

const ANSWER: &str = r#"{"model_name":"m","model_version":"1","outputs":[{"name":"y","shape":[1,10],"datatype":"FP32","data":[0.0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9]}]}"#;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("listening on {}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| async {
                let mut body = request.into_body();
                while let Some(Ok(_)) = body.frame().await {}
                let answer = Full::new(Bytes::from_static(ANSWER.as_bytes()));
                let json = "application/json";
                Ok::<_, Infallible>(
                    Response::builder()
                        .header("content-type", json)
                        .body(answer)
                        .unwrap(),
                )
            });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
