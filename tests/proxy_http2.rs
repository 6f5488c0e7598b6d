//! HTTP/2 and TLS through the proxy, against a real h2 server and client.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test may fail loudly, and its numbers are small"
)]

mod common;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Keeping, PATIENCE, connect, proxy, proxy_with, read_until, wait_for};
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use inferdiff::proxy::{Acceptor, ProxyOptions, Upstream};
use inferdiff_schemas::Outcome;
use tokio::net::{TcpListener, TcpStream};

/// Runs a future on a runtime of its own, at most [`PATIENCE`].
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, future)
            .await
            .expect("in time")
    })
}

/// A server that does by path what a test needs; tells what reset codes it sees.
fn server() -> (SocketAddr, mpsc::Receiver<(String, Instant)>) {
    let (tell, told) = mpsc::channel();
    let (bound, address) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            bound.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                let tell = tell.clone();
                tokio::task::spawn_local(async move {
                    let handshake = h2::server::Builder::new()
                        .max_concurrent_streams(3)
                        .handshake::<_, Bytes>(socket);
                    // What speaks no HTTP/2 is sent away.
                    let Ok(mut connection) = handshake.await else {
                        return;
                    };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::task::spawn_local(handle(request, respond, tell.clone()));
                    }
                });
            }
        });
    });
    (address.recv().unwrap(), told)
}

async fn handle(
    request: Request<RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    tell: mpsc::Sender<(String, Instant)>,
) {
    let path = request.uri().path().to_owned();
    let (head, mut body) = request.into_parts();
    let response = || Response::builder().header("x-seen", format!("{:?}", head.uri));
    if path == "/first" {
        // Answers chunk by chunk, each only after one of the request's came.
        let mut send = respond
            .send_response(response().body(()).unwrap(), false)
            .unwrap();
        while let Some(piece) = body.data().await {
            let piece = piece.unwrap();
            let _ = body.flow_control().release_capacity(piece.len());
            send.send_data(piece, false).unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        return send.send_trailers(trailers).unwrap();
    }
    if path == "/hang" {
        tell.send(("asked".to_owned(), Instant::now())).unwrap();
        let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        return tell.send((format!("{reason:?}"), Instant::now())).unwrap();
    }
    if path == "/reset" {
        return respond.send_reset(Reason::ENHANCE_YOUR_CALM);
    }
    if path == "/half" {
        let mut send = respond
            .send_response(response().body(()).unwrap(), false)
            .unwrap();
        send.send_data("half".into(), false).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        return send.send_reset(Reason::INTERNAL_ERROR);
    }
    if path == "/hint" {
        let hint = Response::builder()
            .status(103)
            .header("link", "</a>")
            .body(())
            .unwrap();
        respond.send_informational(hint).unwrap();
    }
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        let _ = body.flow_control().release_capacity(piece.len());
        all.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await.unwrap();
    let status = if path == "/missing" { 404 } else { 200 };
    let response = response()
        .status(status)
        .header("x-trailers", format!("{trailers:?}"))
        .header("set-cookie", "a")
        .header("set-cookie", "b")
        .body(())
        .unwrap();
    let empty = all.is_empty();
    let mut send = respond.send_response(response, empty).unwrap();
    if empty {
        return;
    }
    let mut rest = Bytes::from(all);
    while !rest.is_empty() {
        send.reserve_capacity(rest.len());
        let Some(Ok(n)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else {
            return;
        };
        send.send_data(rest.split_to(n.min(rest.len())), false)
            .unwrap();
    }
    let mut end = HeaderMap::new();
    end.insert("x-end", "yes".parse().unwrap());
    send.send_trailers(end).unwrap();
}

async fn client(to: SocketAddr) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(to).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    send
}

/// The next thing told, without blocking the runtime.
async fn hear(told: &mpsc::Receiver<(String, Instant)>) -> (String, Instant) {
    loop {
        if let Ok(heard) = told.try_recv() {
            return heard;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn post(path: &str) -> Request<()> {
    Request::builder()
        .method("POST")
        .uri(format!("http://model.example{path}"))
        .header("x-a", "1")
        .header("x-a", "2")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// Status, headers, body, trailers.
type Whole = (u16, Vec<(String, String)>, Vec<u8>, Option<HeaderMap>);

async fn whole(
    to: SocketAddr,
    path: &str,
    body: Vec<u8>,
    trailers: bool,
) -> Result<Whole, h2::Error> {
    let (response, mut send) = client(to)
        .await
        .ready()
        .await?
        .send_request(post(path), false)?;
    let sending = async move {
        let mut rest = Bytes::from(body);
        while !rest.is_empty() {
            send.reserve_capacity(rest.len());
            let Some(Ok(n)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else {
                return;
            };
            let _ = send.send_data(rest.split_to(n.min(rest.len())), false);
        }
        if trailers {
            let mut end = HeaderMap::new();
            end.insert("x-request-end", "yes".parse().unwrap());
            let _ = send.send_trailers(end);
        } else {
            let _ = send.send_data(Bytes::new(), true);
        }
    };
    let receiving = async move {
        let response = response.await?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned()))
            .collect();
        let mut body = response.into_body();
        let mut got = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            got.extend_from_slice(&piece);
        }
        Ok((status, headers, got, body.trailers().await?))
    };
    tokio::join!(sending, receiving).1
}

#[test]
fn answers_are_equal_with_and_without_the_proxy() {
    let (up, _) = server();
    let tap = Keeping::new(256 << 20);
    let p = proxy(up, tap.clone());
    let mut n = 0;
    for path in ["/", "/a?b=c&d", "/missing", "/hint"] {
        for size in [0usize, 1, 16_383, 16_384, 16_385, 70_000, 3_000_000] {
            for trailers in [false, true] {
                let body: Vec<u8> = (0..size).map(|i| i as u8).collect();
                let direct = run(whole(up, path, body.clone(), trailers)).unwrap();
                let proxied = run(whole(p.address, path, body, trailers)).unwrap();
                assert!(proxied == direct, "{path} {size} {trailers}");
                n += 1;
            }
        }
    }
    p.stop();
    println!("{n} HTTP/2 exchanges, equal in status, fields, body and trailers");
    let taken = std::mem::take(&mut *tap.taken.lock().unwrap());
    assert_eq!(taken.len(), n);
    for t in &taken {
        assert_eq!(t.raw.outcome, Outcome::Complete, "{:?}", t.raw.error);
        assert!(t.raw.request_body.complete && t.raw.response_body.complete);
        assert!(
            t.raw.request_body.data == t.raw.response_body.data,
            "{:?}",
            t.raw.request_body.gave_up
        );
        let ended = !t.raw.response_body.data.is_empty();
        assert_eq!(t.raw.response_trailer("x-end"), ended.then_some("yes"));
        assert_eq!(
            t.raw
                .request_headers
                .iter()
                .filter(|(n, _)| *n == "x-a")
                .count(),
            2
        );
    }
    drop(taken);
    assert_eq!(tap.held(), 0, "every share of the budget was given back");
}

#[test]
fn reset_codes_pass_through() {
    let (up, _) = server();
    let tap = Keeping::new(1 << 20);
    let p = proxy(up, tap.clone());
    for (path, direct) in [("/reset", false), ("/half", false), ("/reset", true)] {
        let to = if direct { up } else { p.address };
        let e = run(whole(to, path, vec![1], false));
        match (path, e) {
            // Without a head there is still a status to answer with.
            ("/reset", Ok((502, ..))) if !direct => {}
            ("/reset", Err(e)) if direct => assert_eq!(e.reason(), Some(Reason::ENHANCE_YOUR_CALM)),
            ("/half", Err(e)) => assert_eq!(e.reason(), Some(Reason::INTERNAL_ERROR)),
            (path, other) => panic!("{path} {direct}: {other:?}"),
        }
    }
    p.stop();
    let taken = tap.taken.lock().unwrap();
    assert!(
        taken
            .iter()
            .all(|t| t.raw.outcome == Outcome::UpstreamReset)
    );
}

#[test]
fn the_first_byte_never_waits_for_the_last() {
    let (up, _) = server();
    let p = proxy(up, Keeping::new(1 << 20));
    run(async {
        let (response, mut send) = client(p.address)
            .await
            .ready()
            .await
            .unwrap()
            .send_request(post("/first"), false)
            .unwrap();
        let mut body = response.await.unwrap().into_body();
        for piece in ["one", "two", "three"] {
            // The next piece is sent only after the answer to this one came.
            send.send_data(piece.into(), false).unwrap();
            assert_eq!(body.data().await.unwrap().unwrap(), piece);
        }
        // Half-close: the answer still ends as the upstream wants.
        send.send_data(Bytes::new(), true).unwrap();
        assert!(body.data().await.is_none());
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
    });
    p.stop();
}

#[test]
fn cancellation_reaches_the_upstream_at_once() {
    let (up, told) = server();
    let tap = Keeping::new(1 << 20);
    let p = proxy(up, tap.clone());
    let mut worst = Duration::ZERO;
    for _ in 0..20 {
        let cancelled = run(async {
            let (response, mut send) = client(p.address)
                .await
                .ready()
                .await
                .unwrap()
                .send_request(post("/hang"), true)
                .unwrap();
            assert_eq!(hear(&told).await.0, "asked");
            let at = Instant::now();
            send.send_reset(Reason::CANCEL);
            drop(response);
            tokio::time::sleep(Duration::from_millis(50)).await;
            at
        });
        let (reason, at) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(reason, "Ok(CANCEL)");
        worst = worst.max(at.saturating_duration_since(cancelled));
    }
    println!("cancellation reached the upstream after {worst:?} at worst");
    p.stop();
    let taken = tap.taken.lock().unwrap();
    assert_eq!(taken.len(), 20);
    assert!(
        taken
            .iter()
            .all(|t| t.raw.outcome == Outcome::ClientCancelled)
    );
}

#[test]
fn more_streams_than_one_upstream_connection_allows_do_not_wait() {
    let (up, told) = server();
    let p = proxy(up, Keeping::new(1 << 20));
    run(async {
        let mut send = client(p.address).await;
        let mut open = Vec::new();
        for _ in 0..8 {
            send = send.ready().await.unwrap();
            open.push(send.send_request(post("/hang"), true).unwrap());
        }
        // The upstream allows three streams a connection; all eight were asked.
        for _ in 0..8 {
            assert_eq!(hear(&told).await.0, "asked");
        }
        drop(open);
        drop(send);
    });
    p.stop();
}

#[test]
fn an_upstream_without_http2_is_a_502_that_says_so() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let tap = Keeping::new(1 << 20);
    let p = proxy(dead, tap.clone());
    let (status, _, body, _) = run(whole(p.address, "/", vec![1], false)).unwrap();
    assert_eq!(status, 502);
    assert!(String::from_utf8(body).unwrap().contains(&dead.to_string()));
    p.stop();
    assert_eq!(
        tap.taken.lock().unwrap()[0].raw.outcome,
        Outcome::UpstreamUnreachable
    );
}

#[test]
fn what_only_begins_like_http2_is_refused() {
    let (up, _) = server();
    let tap = Keeping::new(1 << 20);
    let p = proxy(up, tap.clone());
    let mut c = connect(p.address);
    std::io::Write::write_all(&mut c, b"PRI * HTTP/2.0\r\nHost: h\r\n\r\n").unwrap();
    let answer = read_until(&mut c, b"\r\n\r\n");
    assert!(
        answer.starts_with(b"HTTP/1.1 400 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    drop(c);
    p.stop();
}

#[test]
fn tls_on_both_sides_by_alpn() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let acceptor = Acceptor::load(&cert, &key).unwrap();
    // A proxy that terminates TLS stands before the server; another speaks TLS to it.
    let (up, _) = server();
    let inner_tap = Keeping::new(1 << 24);
    let inner = proxy_with(
        ProxyOptions {
            tls: Some(acceptor),
            drain_timeout: PATIENCE,
            ..ProxyOptions::new(Upstream::plain(up.ip().to_string(), up.port()))
        },
        inner_tap.clone(),
    );
    let url = format!("https://localhost:{}", inner.address.port());
    let outer_tap = Keeping::new(1 << 24);
    let outer = proxy_with(
        ProxyOptions {
            drain_timeout: PATIENCE,
            ..ProxyOptions::new(Upstream::parse(&url, Some(&cert)).unwrap())
        },
        outer_tap.clone(),
    );
    let body = vec![9; 300_000];
    let (status, _, got, trailers) = run(whole(outer.address, "/x", body.clone(), true)).unwrap();
    assert_eq!((status, got == body, trailers.is_some()), (200, true, true));
    // HTTP/1.1 stays HTTP/1.1: the h2-only server behind answers it with a broken connection.
    let answer = common::exchange(
        outer.address,
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    assert!(
        answer.starts_with(b"HTTP/1.1 502 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    // Nobody vouches for the certificate: refused, and said.
    let distrusting = proxy_with(
        ProxyOptions {
            drain_timeout: PATIENCE,
            ..ProxyOptions::new(Upstream::parse(&url, None).unwrap())
        },
        Keeping::new(1 << 20),
    );
    let (status, _, why, _) = run(whole(distrusting.address, "/", vec![], false)).unwrap();
    assert_eq!(status, 502);
    assert!(
        String::from_utf8_lossy(&why).contains("certificate"),
        "{}",
        String::from_utf8_lossy(&why)
    );
    distrusting.stop();
    outer.stop();
    inner.stop();
    wait_for("records", || inner_tap.taken.lock().unwrap().len() >= 2);
    for tap in [&inner_tap, &outer_tap] {
        let taken = tap.taken.lock().unwrap();
        assert_eq!(
            (taken[0].raw.outcome, taken[0].raw.request_body.data.len()),
            (Outcome::Complete, 300_000)
        );
    }
}
