//! Who ends an exchange, when, and who hears of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test may fail loudly, and its numbers are small"
)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{
    Keeping, PATIENCE, Proxy, connect, exchange, proxy, proxy_with, read_until, upstream, wait_for,
};
use inferdiff::proxy::{ProxyOptions, Upstream};
use inferdiff_schemas::Outcome;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn options(to: SocketAddr) -> ProxyOptions {
    ProxyOptions {
        drain_timeout: PATIENCE,
        ..ProxyOptions::new(Upstream::plain(to.ip().to_string(), to.port()))
    }
}

fn outcomes(tap: &Keeping) -> Vec<(Outcome, Option<u16>)> {
    let taken = tap.taken.lock().unwrap();
    taken
        .iter()
        .map(|t| (t.raw.outcome, t.raw.status))
        .collect()
}

/// Resets the connection instead of closing it.
fn reset(stream: TcpStream) {
    let socket = socket2::Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

fn everything(stream: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut got = Vec::new();
    let end = stream.read_to_end(&mut got);
    (got, end.err().map(|e| e.kind()))
}

/// An upstream that reads a request, says so, and answers when told; says how its socket ended.
fn on_command() -> (SocketAddr, mpsc::Receiver<&'static str>, mpsc::Sender<()>) {
    let (tell, told) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let shared = Mutex::new((tell, wait));
    let up = upstream(move |mut stream| {
        let shared = shared.lock().unwrap();
        let (tell, wait) = &*shared;
        if read_until(&mut stream, b"\r\n\r\n").is_empty() {
            return;
        }
        tell.send("asked").unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if wait.try_recv().is_ok() {
                stream.write_all(OK).unwrap();
                let _ = tell.send("answered");
                return;
            }
            match stream.read(&mut [0; 1]) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                _ => {
                    let _ = tell.send("closed");
                    return;
                }
            }
        }
    });
    (up.address, told, go)
}

#[test]
fn a_fin_while_the_answer_is_pending_is_a_cancellation_unless_half_close_is_asked_for() {
    let (to, told, go) = on_command();
    for half_close in [false, true] {
        let tap = Keeping::new(1 << 20);
        let p = proxy_with(
            ProxyOptions {
                half_close,
                ..options(to)
            },
            tap.clone(),
        );
        let mut client = connect(p.address);
        client.write_all(GET).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE), Ok("asked"));
        client.shutdown(Shutdown::Write).unwrap();
        if half_close {
            // What it does not do cannot be waited for: long enough for a close to arrive.
            assert!(told.recv_timeout(Duration::from_millis(200)).is_err());
            go.send(()).unwrap();
            assert_eq!(told.recv_timeout(PATIENCE), Ok("answered"));
            assert_eq!(everything(&mut client).0, OK);
        } else {
            assert_eq!(told.recv_timeout(PATIENCE), Ok("closed"));
            assert!(everything(&mut client).0.is_empty());
        }
        p.stop();
        let expected = match half_close {
            true => (Outcome::Complete, Some(200)),
            false => (Outcome::ClientCancelled, None),
        };
        assert_eq!(outcomes(&tap), [expected]);
    }
}

#[test]
fn cancellation_reaches_the_upstream_wherever_the_client_leaves() {
    let (to, told, _go) = on_command();
    let tap = Keeping::new(1 << 20);
    let p = proxy(to, tap.clone());
    let mut worst = Duration::ZERO;
    for turn in 0..20 {
        let mut client = connect(p.address);
        client.write_all(GET).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE), Ok("asked"));
        let at = Instant::now();
        if turn % 2 == 0 {
            drop(client);
        } else {
            reset(client);
        }
        assert_eq!(told.recv_timeout(PATIENCE), Ok("closed"));
        worst = worst.max(at.elapsed());
    }
    println!("HTTP/1.1: cancellation reached the upstream after {worst:?} at worst");
    p.stop();
    assert!(
        outcomes(&tap)
            .iter()
            .all(|o| o.0 == Outcome::ClientCancelled)
    );
}

/// The upstream reads nothing, so the request is stuck in the middle: that the client resets is
/// noticed all the same. (A FIN would stand behind bytes for which nobody has room.)
#[test]
fn a_client_that_leaves_in_the_middle_of_a_stuck_upload_is_noticed() {
    let (hold, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let up = upstream(move |mut stream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = held.lock().unwrap().recv_timeout(PATIENCE);
        let _ = stream.read(&mut [0; 1]);
    });
    let tap = Keeping::new(256 << 20);
    let p = proxy(up.address, tap.clone());
    let mut client = connect(p.address);
    client
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1073741824\r\n\r\n")
        .unwrap();
    let piece = vec![1; 1 << 20];
    let mut written = 0usize;
    while let Ok(n) = client.write(&piece) {
        written += n;
        assert!(written < 1 << 30, "the upload is not stuck");
    }
    let at = Instant::now();
    reset(client);
    wait_for("the cancellation", || !outcomes(&tap).is_empty());
    println!(
        "noticed after {:?}, with {written} bytes on their way",
        at.elapsed()
    );
    assert_eq!(outcomes(&tap), [(Outcome::ClientCancelled, None)]);
    hold.send(()).unwrap();
    p.stop();
}

#[test]
fn an_answer_before_the_request_ends_is_seen_whole() {
    const ANSWER: &[u8] =
        b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch";
    // One closes in the client's face, one resets, both without reading the body.
    for hard in [false, true] {
        let up = upstream(move |mut stream| {
            read_until(&mut stream, b"\r\n\r\n");
            stream.write_all(ANSWER).unwrap();
            if hard {
                // Only after the answer has left.
                std::thread::sleep(Duration::from_millis(20));
                reset(stream);
            }
        });
        let tap = Keeping::new(64 << 20);
        let p = proxy(up.address, tap.clone());
        for _ in 0..5 {
            let mut client = connect(p.address);
            let mut writer = client.try_clone().unwrap();
            let writing = std::thread::spawn(move || {
                let _ = writer
                    .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8388608\r\n\r\n");
                for _ in 0..128 {
                    if writer.write_all(&[1; 65536]).is_err() {
                        break;
                    }
                }
            });
            let (got, _) = everything(&mut client);
            let got = String::from_utf8_lossy(&got);
            assert!(got.starts_with("HTTP/1.1 413 Too Much\r\n"), "{got}");
            assert!(got.ends_with("\r\n\r\nmuch"), "{got}");
            writing.join().unwrap();
        }
        p.stop();
        assert_eq!(outcomes(&tap), vec![(Outcome::Complete, Some(413)); 5]);
    }
}

#[test]
fn an_early_answer_does_not_cut_the_request_and_the_connection_goes_on() {
    let up = upstream(|mut stream| {
        loop {
            if !read_until(&mut stream, b"\r\n\r\n").ends_with(b"begin") {
                return;
            }
            stream.write_all(OK).unwrap();
            let mut rest = vec![0; 100_003];
            stream.read_exact(&mut rest).unwrap();
            assert!(rest.ends_with(b"END"));
        }
    });
    let tap = Keeping::new(64 << 20);
    let p = proxy(up.address, tap.clone());
    let mut client = connect(p.address);
    for _ in 0..3 {
        client
            .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100008\r\n\r\nbegin")
            .unwrap();
        assert_eq!(read_until(&mut client, b"ok"), OK);
        client.write_all(&[b'.'; 100_000]).unwrap();
        client.write_all(b"END").unwrap();
    }
    drop(client);
    p.stop();
    assert_eq!(outcomes(&tap), vec![(Outcome::Complete, Some(200)); 3]);
    assert_eq!(up.connections.load(Ordering::SeqCst), 1);
    let taken = tap.taken.lock().unwrap();
    assert!(
        taken
            .iter()
            .all(|t| t.raw.request_body.complete && t.raw.request_body.seen == 100_008)
    );
}

#[test]
fn an_upstream_that_never_answers_delays_nobody_else() {
    let up = upstream(|mut stream| {
        loop {
            let got = read_until(&mut stream, b"\r\n\r\n");
            if got.starts_with(b"GET /never") {
                let _ = stream.read(&mut [0; 1]);
                return;
            }
            if got.is_empty() || stream.write_all(OK).is_err() {
                return;
            }
        }
    });
    let tap = Keeping::new(1 << 20);
    let p = proxy(up.address, tap.clone());
    let mut stuck: Vec<_> = (0..50).map(|_| connect(p.address)).collect();
    for c in &mut stuck {
        c.write_all(b"GET /never HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
    }
    let mut client = connect(p.address);
    for _ in 0..200 {
        client.write_all(GET).unwrap();
        assert_eq!(read_until(&mut client, b"ok"), OK);
    }
    wait_for("the records", || outcomes(&tap).len() == 200);
    drop(stuck);
    drop(client);
    p.stop();
    let cancelled = outcomes(&tap)
        .iter()
        .filter(|o| o.0 == Outcome::ClientCancelled)
        .count();
    assert_eq!(cancelled, 50);
}

/// Answers that end anywhere: the client never takes a part for the whole.
#[test]
fn answers_that_break_off_are_never_taken_for_whole() {
    let answers: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nuntil close",
    ];
    let script: &'static Mutex<(usize, usize, bool)> = Box::leak(Box::default());
    let up = upstream(move |mut stream| {
        read_until(&mut stream, b"\r\n\r\n");
        let (answer, cut, hard) = *script.lock().unwrap();
        stream.write_all(&answers[answer][..cut]).unwrap();
        if hard {
            // A reset overtakes what is still in the sender's queue.
            std::thread::sleep(Duration::from_millis(2));
            reset(stream);
        }
    });
    let tap = Keeping::new(64 << 20);
    let p = proxy(up.address, tap.clone());
    let mut n = 0;
    for (which, answer) in answers.iter().enumerate() {
        for cut in 0..=answer.len() {
            for hard in [false, true] {
                *script.lock().unwrap() = (which, cut, hard);
                let mut client = connect(p.address);
                client
                    .write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                    .unwrap();
                let (got, error) = everything(&mut client);
                let head = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
                let by_close = which == 2;
                let whole = cut == answer.len() && !(by_close && hard);
                // The close itself is the end of such an answer.
                let whole = whole || (by_close && !hard && cut >= head);
                let text = String::from_utf8_lossy(&got).into_owned();
                if cut < head {
                    assert!(
                        text.starts_with("HTTP/1.1 502 "),
                        "{which} {cut} {hard}: {text}"
                    );
                } else if by_close && hard {
                    assert_eq!(
                        error,
                        Some(ErrorKind::ConnectionReset),
                        "{which} {cut}: {text}"
                    );
                } else {
                    assert!(
                        got.ends_with(&answer[head..cut]),
                        "{which} {cut} {hard}: {text}"
                    );
                }
                wait_for("the record", || {
                    tap.accepted() == tap.taken.lock().unwrap().len()
                });
                let last = outcomes(&tap).pop().unwrap().0;
                let expected = if whole {
                    Outcome::Complete
                } else {
                    Outcome::UpstreamReset
                };
                assert_eq!(last, expected, "{which} {cut} {hard}");
                n += 1;
            }
        }
    }
    println!("{n} answers cut at every byte, by close and by reset");
    p.stop();
}

fn ask(client: &mut TcpStream) -> String {
    client.write_all(GET).unwrap();
    String::from_utf8_lossy(&read_until(client, b"\n\r\n")).into_owned()
}

/// What a lying upstream sends behind its answer is nobody's answer.
#[test]
fn bytes_behind_an_answer_poison_nobody() {
    let up = upstream(|mut stream| {
        read_until(&mut stream, b"\r\n\r\n");
        let forged = "HTTP/1.1 666 Forged\r\nContent-Length: 0\r\n\r\n";
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{forged}");
        stream.write_all(answer.as_bytes()).unwrap();
        let _ = stream.read(&mut [0; 1]);
    });
    let p = proxy(up.address, Keeping::new(1 << 20));
    let mut client = connect(p.address);
    for _ in 0..20 {
        let got = ask(&mut client);
        assert!(
            got.starts_with("HTTP/1.1 200 OK\r\n") && !got.contains("666"),
            "{got}"
        );
    }
    drop(client);
    p.stop();
    assert_eq!(up.connections.load(Ordering::SeqCst), 20);
}

#[test]
fn a_request_longer_than_it_says_is_two_and_a_shorter_one_is_cancelled() {
    let up = upstream(|mut stream| {
        while read_until(&mut stream, b"body!").ends_with(b"body!") {
            stream.write_all(OK).unwrap();
        }
    });
    let tap = Keeping::new(1 << 20);
    let p = proxy(up.address, tap.clone());
    let post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n";
    let got = exchange(p.address, format!("{post}body!surplus\r\n\r\n").as_bytes());
    let got = String::from_utf8_lossy(&got);
    assert!(
        got.starts_with("HTTP/1.1 200 OK\r\n") && got.contains("okHTTP/1.1 400 "),
        "{got}"
    );
    let mut client = connect(p.address);
    client.write_all(format!("{post}bo").as_bytes()).unwrap();
    wait_for("the request", || tap.accepted() == 3);
    drop(client);
    p.stop();
    let ends: Vec<_> = outcomes(&tap).into_iter().map(|o| o.0).collect();
    assert_eq!(
        ends,
        [
            Outcome::Complete,
            Outcome::Refused,
            Outcome::ClientCancelled
        ]
    );
}

/// A kept connection that the upstream closed meanwhile costs nobody a request.
#[test]
fn a_kept_connection_that_died_is_replaced_before_anything_is_sent() {
    for (hard, pause) in [(false, 0), (true, 0), (false, 5), (true, 5)] {
        let (tell, told) = mpsc::channel();
        let tell = Mutex::new(tell);
        let up = upstream(move |mut stream| {
            if read_until(&mut stream, b"\r\n\r\n").is_empty() {
                return;
            }
            stream.write_all(OK).unwrap();
            let tell = tell.lock().unwrap();
            if hard {
                std::thread::sleep(Duration::from_millis(1));
                reset(stream);
            } else {
                drop(stream);
            }
            tell.send(()).unwrap();
        });
        let tap = Keeping::new(1 << 20);
        let p = proxy(up.address, tap.clone());
        let mut client = connect(p.address);
        for _ in 0..50 {
            client.write_all(GET).unwrap();
            assert_eq!(read_until(&mut client, b"ok"), OK, "{hard} {pause}");
            told.recv_timeout(PATIENCE).unwrap();
            std::thread::sleep(Duration::from_millis(pause));
        }
        drop(client);
        p.stop();
        assert_eq!(outcomes(&tap), vec![(Outcome::Complete, Some(200)); 50]);
        assert_eq!(up.connections.load(Ordering::SeqCst), 50);
    }
}

#[test]
fn what_was_sent_once_is_never_sent_again() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let up = upstream(move |mut stream| {
        for turn in 0.. {
            let got = read_until(&mut stream, b"\r\n\r\n");
            if got.is_empty() {
                return;
            }
            tell.lock().unwrap().send(turn).unwrap();
            if turn == 1 {
                // It took the request, and dies over it.
                return;
            }
            stream.write_all(OK).unwrap();
        }
    });
    let tap = Keeping::new(1 << 20);
    let p = proxy(up.address, tap.clone());
    let mut client = connect(p.address);
    client.write_all(GET).unwrap();
    assert_eq!(read_until(&mut client, b"ok"), OK);
    assert!(ask(&mut client).starts_with("HTTP/1.1 502 "));
    p.stop();
    assert_eq!(told.try_iter().collect::<Vec<i32>>(), [0, 1]);
    let expected = [
        (Outcome::Complete, Some(200)),
        (Outcome::UpstreamReset, Some(502)),
    ];
    assert_eq!(outcomes(&tap), expected);
}

#[test]
fn idle_connections_end_as_their_time_outs_say() {
    let up = upstream(|mut stream| {
        while !read_until(&mut stream, b"\r\n\r\n").is_empty() {
            stream.write_all(OK).unwrap();
        }
    });
    let tap = Keeping::new(1 << 20);
    let p = proxy_with(
        ProxyOptions {
            head_timeout: Duration::from_millis(200),
            idle_timeout: Duration::from_millis(300),
            pool_idle: Duration::from_millis(100),
            ..options(up.address)
        },
        tap.clone(),
    );
    // Idle: closed without a word. Half a head: 408.
    let mut idle = connect(p.address);
    let mut half = connect(p.address);
    half.write_all(b"GET / HT").unwrap();
    assert_eq!(everything(&mut idle), (Vec::new(), None));
    let (got, _) = everything(&mut half);
    assert!(
        got.starts_with(b"HTTP/1.1 408 "),
        "{}",
        String::from_utf8_lossy(&got)
    );
    // An upstream connection that was idle for too long is not used again.
    let mut client = connect(p.address);
    for _ in 0..3 {
        ask(&mut client);
        std::thread::sleep(Duration::from_millis(150));
    }
    p.stop();
    assert_eq!(up.connections.load(Ordering::SeqCst), 3);
    let refused = outcomes(&tap)
        .into_iter()
        .filter(|o| *o == (Outcome::Refused, Some(408)));
    assert_eq!(refused.count(), 1);
}

/// However busy it is: its name may mean another machine by now.
#[test]
fn an_upstream_connection_grows_only_so_old() {
    let up = upstream(|mut stream| {
        while !read_until(&mut stream, b"\r\n\r\n").is_empty() {
            stream.write_all(OK).unwrap();
        }
    });
    let p = proxy_with(
        ProxyOptions {
            pool_age: Duration::from_millis(100),
            ..options(up.address)
        },
        Keeping::new(1 << 20),
    );
    let mut client = connect(p.address);
    let began = Instant::now();
    let mut n = 0;
    while began.elapsed() < Duration::from_millis(350) {
        client.write_all(GET).unwrap();
        assert_eq!(read_until(&mut client, b"ok"), OK);
        n += 1;
    }
    drop(client);
    p.stop();
    let connections = up.connections.load(Ordering::SeqCst);
    println!("{n} exchanges over {connections} connections");
    assert!((2..n).contains(&connections));
}

/// Sent by the client in the middle of a body: nothing behind the lie is forwarded.
#[test]
fn chunks_that_lie_stop_at_the_lie() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let up = upstream(move |mut stream| {
        let got = everything(&mut stream).0;
        tell.lock().unwrap().send(got).unwrap();
    });
    let tap = Keeping::new(1 << 20);
    let p = proxy(up.address, tap.clone());
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n";
    for lie in [
        "5\r\nshort\r\r\n",
        "-1\r\n",
        "4;a\rGET\r\n",
        "4\n",
        "ffffffffffffffffff\r\n",
        "0\r\nX\r\n\r\n",
    ] {
        let mut client = connect(p.address);
        client.write_all(head.as_bytes()).unwrap();
        wait_for("the first chunk", || {
            up.connections.load(Ordering::SeqCst) > outcomes(&tap).len()
        });
        client.write_all(lie.as_bytes()).unwrap();
        client
            .write_all(b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
        let answer = everything(&mut client).0;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{lie:?}: {answer}");
        let got = told.recv_timeout(PATIENCE).unwrap();
        let got = String::from_utf8_lossy(&got);
        println!("{lie:?}: the upstream's socket received {got:?}");
        assert!(
            !got.contains("smuggled") && head.starts_with(&*got),
            "{lie:?}: {got}"
        );
        wait_for("the record", || tap.accepted() == outcomes(&tap).len());
    }
    p.stop();
    assert!(
        outcomes(&tap)
            .iter()
            .all(|o| *o == (Outcome::Refused, Some(400)))
    );
}

fn upgrading() -> common::RawUpstream {
    upstream(|mut stream| {
        let got = read_until(&mut stream, b"\r\n\r\n");
        let text = String::from_utf8_lossy(&got).into_owned();
        if text.starts_with("GET /no ") {
            stream.write_all(OK).unwrap();
            return;
        }
        assert!(
            text.contains("Connection: Upgrade\r\n") || text.starts_with("GET /unasked "),
            "{text}"
        );
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nhello";
        stream.write_all(switch).unwrap();
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut piece) {
            if stream.write_all(&piece[..n]).is_err() {
                return;
            }
        }
    })
}

#[test]
fn an_upgrade_is_tunnelled_and_only_where_it_was_asked_for() {
    let up = upgrading();
    let tap = Keeping::new(1 << 20);
    let p = proxy(up.address, tap.clone());
    let upgrade = "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    let mut client = connect(p.address);
    // Bytes behind the request are the tunnel's already.
    client
        .write_all(format!("GET / HTTP/1.1\r\nHost: h\r\n{upgrade}early").as_bytes())
        .unwrap();
    let got = read_until(&mut client, b"early");
    let text = String::from_utf8_lossy(&got);
    assert!(
        text.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{text}"
    );
    assert!(
        text.contains("\r\nUpgrade: echo\r\n") && text.ends_with("\r\n\r\nhelloearly"),
        "{text}"
    );
    for i in 0..100 {
        let frame = format!("\r\n\r\n{i}\0GET / HTTP/1.1;");
        client.write_all(frame.as_bytes()).unwrap();
        assert_eq!(read_until(&mut client, b";"), frame.as_bytes());
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert!(everything(&mut client).0.is_empty());

    let mut declined = connect(p.address);
    declined
        .write_all(format!("GET /no HTTP/1.1\r\nHost: h\r\n{upgrade}").as_bytes())
        .unwrap();
    assert_eq!(read_until(&mut declined, b"ok"), OK);
    let unasked = exchange(p.address, b"GET /unasked HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(
        unasked.starts_with(b"HTTP/1.1 502 "),
        "{}",
        String::from_utf8_lossy(&unasked)
    );
    drop(declined);
    p.stop();
    let statuses: Vec<_> = outcomes(&tap).into_iter().map(|o| o.1).collect();
    assert_eq!(statuses, [Some(101), Some(200), Some(502)]);
}

#[test]
fn a_client_that_waits_for_100_gets_it_before_it_sends() {
    let up = upstream(|mut stream| {
        read_until(&mut stream, b"\r\n\r\n");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        read_until(&mut stream, b"body!");
        stream
            .write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            .unwrap();
        stream.write_all(OK).unwrap();
    });
    let p = proxy(up.address, Keeping::new(1 << 20));
    let mut client = connect(p.address);
    client
        .write_all(
            b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        )
        .unwrap();
    assert_eq!(
        read_until(&mut client, b"\r\n\r\n"),
        b"HTTP/1.1 100 Continue\r\n\r\n"
    );
    client.write_all(b"body!").unwrap();
    let rest = read_until(&mut client, b"ok");
    assert!(rest.starts_with(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n"));
    drop(client);
    p.stop();
}

/// A body of single bytes has frames that weigh more than it does: they count.
#[test]
fn memory_beside_the_bodies_is_counted() {
    let up = upstream(|mut stream| {
        read_until(&mut stream, b"END: \r\n\r\n");
        stream.write_all(OK).unwrap();
    });
    let tap = Keeping::new(64 << 20);
    let p: Proxy = proxy(up.address, tap.clone());
    let mut body = "1\r\nx\r\n".repeat(3000) + "0\r\n";
    for i in 0..100 {
        body += &format!("T{i}: {i}\r\n");
    }
    body += "END: \r\n\r\n";
    let head =
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(exchange(p.address, format!("{head}{body}").as_bytes()).ends_with(b"ok"));
    p.stop();
    let held = tap.held();
    let taken = tap.taken.lock().unwrap();
    let raw = &taken[0].raw;
    let frames = raw.request_body.frames.capacity() * size_of::<inferdiff_schemas::Frame>();
    let trailers = raw.request_trailers.held();
    assert_eq!(
        (raw.request_body.frames.len(), raw.request_trailers.len()),
        (3000, 101)
    );
    println!(
        "{held} bytes counted for 3000 bytes of body, {frames} of frames, {trailers} of trailers"
    );
    assert!(held as usize >= raw.request_body.data.len() + frames + trailers);
}
