//! The client's socket sees the same bytes with and without the proxy.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a test may fail loudly, and its numbers are small"
)]

mod common;

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use common::{Keeping, PATIENCE, connect, exchange, proxy, read_until, upstream, wait_for};
use inferdiff_schemas::Outcome;

/// A request that ends with `end` (so that a raw upstream knows when it is whole) and an answer.
struct Case {
    request: String,
    end: &'static str,
    answer: &'static str,
}

fn cases() -> Vec<Case> {
    let requests: [(&str, &str, &'static str); 9] = [
        ("GET", "", "\r\n\r\n"),
        ("HEAD", "", "\r\n\r\n"),
        ("DELETE", "X-Odd:  spaces \r\nx-odd: again\r\n", "\r\n\r\n"),
        ("POST", "Content-Length: 5\r\n", "abEND"),
        ("POST", "cOnTeNt-LeNgTh: 0\r\n", "\r\n\r\n"),
        (
            "PUT",
            "Transfer-Encoding: chunked\r\n",
            "4;x=y\r\nwiki\r\n0\r\nT: END\r\n\r\n",
        ),
        (
            "POST",
            "Transfer-Encoding: chunked\r\nTrailer: T\r\n",
            "0\r\n\r\n",
        ),
        ("PATCH", "Content-Length: 3\r\nX-Utf8: \u{e9}\r\n", "END"),
        ("OPTIONS", "X-Other: \t\r\nExpect: nothing\r\n", "\r\n\r\n"),
    ];
    let answers: [&'static str; 12] = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 Everything is  fine\r\ncontent-LENGTH: 0\r\nX-A: 1\r\nx-a: 2\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"a\"\r\n\r\n",
        "HTTP/1.1 404 \r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nnone",
        "HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n3;q\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nUndeclared: yes\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: until close\n\n",
        "HTTP/1.0 200 OK\r\nServer: old\r\n\r\nuntil close",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 429 Slow Down\r\nRetry-After: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 1\r\n\r\n!",
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/2\r\nContent-Length: 1\r\n\r\nx",
    ];
    let mut all = Vec::new();
    for (method, fields, body) in requests {
        for version in ["1.1", "1.0"] {
            if version == "1.0" && body.contains("0\r\n") {
                continue;
            }
            for answer in answers {
                // An answer to HEAD has no body, whatever its head says.
                let whole = answer.split_inclusive("\r\n\r\n");
                let heads = whole.filter(|p| p.starts_with("HTTP/")).count();
                let answer = if method == "HEAD" {
                    let end = answer.match_indices("\r\n\r\n").nth(heads - 1).unwrap().0 + 4;
                    &answer[..end]
                } else {
                    answer
                };
                let head = format!("{method} /a/b?q=1&r= HTTP/{version}\r\nHost: h\r\n{fields}");
                let close = "Connection: close\r\n\r\n";
                let tail = if body == "\r\n\r\n" { "" } else { body };
                let end = if body.is_empty() { "\r\n\r\n" } else { body };
                all.push(Case {
                    request: format!("{head}{close}{tail}"),
                    end,
                    answer,
                });
            }
        }
    }
    all
}

/// Connection belongs to the hop; everything else must be equal.
fn without_connection(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    text.split_inclusive("\r\n")
        .filter(|l| !l.to_lowercase().starts_with("connection:"))
        .collect()
}

#[test]
fn answers_are_equal_byte_for_byte_with_and_without_the_proxy() {
    let script: &'static Mutex<(&str, &str)> = Box::leak(Box::new(Mutex::new(("", ""))));
    // As a server does: kept open unless the request or the answer's framing says otherwise.
    let up = upstream(move |mut stream| {
        loop {
            let mut got = vec![0; 1];
            if stream.read_exact(&mut got).is_err() {
                return;
            }
            let (end, answer) = *script.lock().unwrap();
            got.extend(read_until(&mut stream, end.as_bytes()));
            if !got.ends_with(end.as_bytes()) {
                return;
            }
            stream.write_all(answer.as_bytes()).unwrap();
            let told = String::from_utf8_lossy(&got).contains("Connection: close");
            if told || answer.contains("until close") || answer.starts_with("HTTP/1.0") {
                return;
            }
        }
    });
    let tap = Keeping::new(64 << 20);
    let p = proxy(up.address, tap.clone());
    let cases = cases();
    for case in &cases {
        *script.lock().unwrap() = (case.end, case.answer);
        let direct = exchange(up.address, case.request.as_bytes());
        let proxied = exchange(p.address, case.request.as_bytes());
        assert!(!direct.is_empty());
        assert_eq!(
            without_connection(&proxied),
            without_connection(&direct),
            "request {:?}",
            case.request
        );
    }
    p.stop();
    println!("{} exchanges, equal byte for byte", cases.len());
    assert_eq!(tap.taken.lock().unwrap().len(), cases.len());
    let taken = std::mem::take(&mut *tap.taken.lock().unwrap());
    assert!(taken.iter().all(|t| t.raw.outcome == Outcome::Complete));
    drop(taken);
    assert_eq!(tap.held(), 0, "every share of the budget was given back");
}

#[test]
fn requests_reach_the_upstream_as_they_were_sent() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let up = upstream(move |mut stream| {
        let got = read_until(&mut stream, b"END");
        tell.lock().unwrap().send(got).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    });
    let p = proxy(up.address, Keeping::new(1 << 20));
    let body = "5;ext=\"v\"\r\nhello\r\n0\r\nTrailer: END\r\n\r\n";
    let head = "POST /x%20y?a=%zz HTTP/1.1\r\nhOST: h\r\nX-A:1\r\nTransfer-Encoding: chunked\r\n";
    let hop =
        "Connection: close, X-Hop\r\nX-Hop: mine\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n";
    exchange(p.address, format!("{head}{hop}\r\n{body}").as_bytes());
    let got = told.recv_timeout(PATIENCE).unwrap();
    let until_end = body.split("END").next().unwrap();
    let expected = format!("{head}\r\n{until_end}END");
    assert_eq!(String::from_utf8_lossy(&got)[..expected.len()], expected);
    p.stop();
}

#[test]
fn ambiguous_framing_never_reaches_the_upstream() {
    let (tell, told) = mpsc::channel::<Vec<u8>>();
    let tell = Mutex::new(tell);
    let up = upstream(move |mut stream| {
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        tell.lock().unwrap().send(got).unwrap();
    });
    let tap = Keeping::new(1 << 20);
    let p = proxy(up.address, tap.clone());
    let refused = [
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nHost: other\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n c\r\n\r\n",
        "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "nonsense\r\n\r\n",
    ];
    for request in refused {
        let answer = exchange(p.address, request.as_bytes());
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with("HTTP/1.1 400 "),
            "{request:?} was answered {answer:?}"
        );
    }
    p.stop();
    assert_eq!(
        up.connections.load(Ordering::SeqCst),
        0,
        "received: {:?}",
        told.try_recv()
    );
    println!(
        "{} ambiguous requests refused; the upstream's socket received nothing",
        refused.len()
    );
    let taken = tap.taken.lock().unwrap();
    assert_eq!(taken.len(), refused.len());
    assert!(
        taken
            .iter()
            .all(|t| t.raw.outcome == Outcome::Refused && t.raw.status == Some(400))
    );
}

#[test]
fn the_first_byte_never_waits_for_the_last() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let up = upstream(move |mut stream| {
        read_until(&mut stream, b"first");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            .unwrap();
        // The rest comes only after the client has seen the beginning.
        wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        read_until(&mut stream, b"last");
        stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").unwrap();
    });
    let p = proxy(up.address, Keeping::new(1 << 20));
    let mut client = connect(p.address);
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nfirst")
        .unwrap();
    assert!(!read_until(&mut client, b"one\r\n").is_empty());
    go.send(()).unwrap();
    client.write_all(b"last").unwrap();
    assert!(read_until(&mut client, b"0\r\n\r\n").ends_with(b"two\r\n0\r\n\r\n"));
    drop(client);
    p.stop();
}

#[test]
fn a_client_that_goes_away_is_a_cancellation_upstream() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let up = upstream(move |mut stream| {
        read_until(&mut stream, b"\r\n\r\n");
        tell.lock().unwrap().send("asked").unwrap();
        // Nothing is answered: the next read ends when the proxy closes.
        let end = stream.read(&mut [0; 1]);
        let closed = matches!(end, Ok(0))
            || end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset);
        tell.lock()
            .unwrap()
            .send(if closed { "closed" } else { "timed out" })
            .unwrap();
    });
    let tap = Keeping::new(1 << 20);
    let p = proxy(up.address, tap.clone());
    let mut client = connect(p.address);
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok("asked"));
    drop(client);
    assert_eq!(told.recv_timeout(PATIENCE), Ok("closed"));
    p.stop();
    assert_eq!(
        tap.taken.lock().unwrap()[0].raw.outcome,
        Outcome::ClientCancelled
    );
}

#[test]
fn connections_are_kept_and_pipelined_requests_answered_in_order() {
    let up = upstream(|mut stream| {
        loop {
            let got = read_until(&mut stream, b"\r\n\r\n");
            let Some(path) = String::from_utf8_lossy(&got)
                .split(' ')
                .nth(1)
                .map(str::to_owned)
            else {
                return;
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
                path.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let p = proxy(up.address, Keeping::new(1 << 20));
    let mut client = connect(p.address);
    client
        .write_all(b"GET /one HTTP/1.1\r\nHost: h\r\n\r\nGET /two HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let got = read_until(&mut client, b"/two");
    assert!(String::from_utf8_lossy(&got).contains("/oneHTTP/1.1 200 OK"));
    client
        .write_all(b"GET /three HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    assert!(read_until(&mut client, b"/three").ends_with(b"/three"));
    drop(client);
    p.stop();
    assert_eq!(up.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn an_upstream_that_cannot_be_reached_or_breaks_off_is_said_in_one_sentence() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let tap = Keeping::new(1 << 20);
    let p = proxy(closed, tap.clone());
    let answer = exchange(p.address, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
        "{answer}"
    );
    assert!(answer.contains(&closed.to_string()), "{answer}");
    p.stop();
    let first = &tap.taken.lock().unwrap()[0].raw;
    assert_eq!(
        (first.outcome, first.status),
        (Outcome::UpstreamUnreachable, Some(502))
    );

    let up = upstream(|mut stream| {
        read_until(&mut stream, b"\r\n\r\n");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")
            .unwrap();
    });
    let tap = Keeping::new(1 << 20);
    let p = proxy(up.address, tap.clone());
    let answer = exchange(p.address, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(answer.ends_with(b"short"));
    p.stop();
    let short = &tap.taken.lock().unwrap()[0].raw;
    assert_eq!(short.outcome, Outcome::UpstreamReset);
    assert!(!short.response_body.complete && short.response_body.seen == 5);
}

#[test]
fn a_copy_over_the_budget_is_given_up_and_the_stream_goes_on() {
    const BODY: usize = 1 << 20;
    let up = upstream(|mut stream| {
        let head = read_until(&mut stream, b"\r\n\r\n");
        let begun = head.len() - head.windows(4).position(|w| w == b"\r\n\r\n").unwrap() - 4;
        let mut rest = vec![0; BODY - begun];
        stream.read_exact(&mut rest).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let tap = Keeping::new(200_000);
    let p = proxy(up.address, tap.clone());
    let mut client = connect(p.address);
    let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {BODY}\r\n\r\n");
    client.write_all(head.as_bytes()).unwrap();
    client.write_all(&vec![7; BODY]).unwrap();
    assert!(read_until(&mut client, b"ok").ends_with(b"ok"));
    drop(client);
    p.stop();
    wait_for("the copy", || !tap.taken.lock().unwrap().is_empty());
    let raw = &tap.taken.lock().unwrap()[0].raw;
    assert_eq!(raw.request_body.gave_up, Some("memory_budget"));
    assert_eq!(
        (raw.request_body.seen, raw.request_body.data.len()),
        (BODY as u64, 0)
    );
    assert_eq!(raw.outcome, Outcome::Complete);
}
