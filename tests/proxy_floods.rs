//! HTTP/2 frames that a hostile client sends: what they reach, and whom they delay.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test may fail loudly, and its numbers are small"
)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Keeping, PATIENCE, Proxy, RawUpstream, connect, proxy_with, read_until, upstream};
use inferdiff::proxy::{ProxyOptions, Upstream};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// GET / of http://h in HPACK's static table.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'h'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// An upstream for both versions: answers HTTP/1.1, and counts what begins as HTTP/2.
fn counting(asked: Arc<AtomicUsize>) -> RawUpstream {
    upstream(move |mut stream| {
        let mut piece = [0; 65536];
        loop {
            match stream.read(&mut piece) {
                Ok(n @ 1..) if piece[..n].starts_with(b"GET ") => {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                }
                Ok(n @ 1..) => {
                    // Whole frames mostly: near enough to count heads of requests.
                    let heads = piece[..n].windows(2).filter(|w| *w == [0x82, 0x86]).count();
                    asked.fetch_add(heads, Ordering::SeqCst);
                    let _ = stream.write_all(&frame(SETTINGS, 0, 0, &[]));
                }
                _ => return,
            }
        }
    })
}

struct Attacked {
    proxy: Proxy,
    tap: Arc<Keeping>,
    asked: Arc<AtomicUsize>,
}

fn start() -> Attacked {
    let asked = Arc::<AtomicUsize>::default();
    let up = counting(asked.clone());
    let tap = Keeping::new(64 << 20);
    let to = Upstream::plain(up.address.ip().to_string(), up.address.port());
    let proxy = proxy_with(
        ProxyOptions {
            drain_timeout: PATIENCE,
            idle_timeout: Duration::from_millis(500),
            ..ProxyOptions::new(to)
        },
        tap.clone(),
    );
    Attacked { proxy, tap, asked }
}

impl Attacked {
    fn client(&self) -> TcpStream {
        let mut c = connect(self.proxy.address);
        c.set_write_timeout(Some(PATIENCE)).unwrap();
        c.write_all(PREFACE).unwrap();
        c.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        c
    }

    /// Runs the attack while others ask; returns how it ended and the slowest answer of the others.
    fn while_others_ask<T>(&self, attack: impl FnOnce() -> T) -> (T, Duration) {
        let done = AtomicBool::new(false);
        std::thread::scope(|s| {
            let others = s.spawn(|| {
                let mut c = connect(self.proxy.address);
                let (mut worst, mut n) = (Duration::ZERO, 0);
                while !done.load(Ordering::SeqCst) || n < 10 {
                    let at = Instant::now();
                    c.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
                    assert!(
                        read_until(&mut c, b"ok").ends_with(b"ok"),
                        "another client failed"
                    );
                    worst = worst.max(at.elapsed());
                    n += 1;
                }
                worst
            });
            let ended = attack();
            done.store(true, Ordering::SeqCst);
            (ended, others.join().unwrap())
        })
    }
}

/// Reads to the end; the reason of a GOAWAY, if one came.
fn goaway(c: &mut TcpStream) -> Option<u32> {
    let mut all = Vec::new();
    let _ = c.read_to_end(&mut all);
    let mut at = 0;
    let mut reason = None;
    while at + 9 <= all.len() {
        let length = u32::from_be_bytes([0, all[at], all[at + 1], all[at + 2]]) as usize;
        let payload = all.get(at + 9..at + 9 + length)?;
        if all[at + 3] == GOAWAY {
            reason = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        at += 9 + length;
    }
    reason
}

/// Writes pieces until the other side has had enough; bytes that it took.
fn pour(c: &mut TcpStream, mut piece: impl FnMut(u32) -> Vec<u8>, most: usize) -> usize {
    let mut sent = 0;
    for i in 0.. {
        let bytes = piece(i);
        if sent + bytes.len() > most || c.write_all(&bytes).is_err() {
            break;
        }
        sent += bytes.len();
    }
    sent
}

#[test]
fn rapid_resets_end_the_connection() {
    const STREAMS: u32 = 50_000;
    const ENHANCE_YOUR_CALM: u32 = 11;
    let a = start();
    let (reason, worst) = a.while_others_ask(|| {
        let mut c = a.client();
        let one = |i: u32| {
            let id = 2 * i + 1;
            let mut out = frame(HEADERS, END_STREAM | END_HEADERS, id, GET);
            out.extend(frame(RST_STREAM, 0, id, &8u32.to_be_bytes()));
            out
        };
        let batch = |i: u32| (i * 100..(i + 1) * 100).flat_map(one).collect::<Vec<u8>>();
        let mut i = 0;
        while i < STREAMS / 100 && c.write_all(&batch(i)).is_ok() {
            i += 1;
        }
        goaway(&mut c)
    });
    let (asked, accepted) = (a.asked.load(Ordering::SeqCst), a.tap.accepted());
    println!(
        "rapid reset: GOAWAY {reason:?}; {asked} requests reached the upstream; others waited {worst:?} at most"
    );
    // A GOAWAY may be lost with the connection; that the attack ends is what counts.
    assert!(reason.is_none_or(|r| r == ENHANCE_YOUR_CALM), "{reason:?}");
    assert!(
        asked < STREAMS as usize / 10,
        "{asked} of {STREAMS} reached the upstream"
    );
    a.proxy.stop();
    let ended = a.tap.taken.lock().unwrap().len() + a.tap.given_up.lock().unwrap().len();
    assert_eq!(ended, accepted, "every accepted exchange has an end");
}

#[test]
fn a_flood_of_continuation_frames_ends_the_connection() {
    const MOST: usize = 256 << 20;
    let a = start();
    let (sent, worst) = a.while_others_ask(|| {
        let mut c = a.client();
        c.write_all(&frame(HEADERS, END_STREAM, 1, GET)).unwrap();
        // Literal fields without indexing, a new one in every frame.
        let field = [&[0x00, 0x01, b'x', 0x7f, 0x81, 0x7d][..], &[b'v'; 16_000]].concat();
        pour(&mut c, |_| frame(CONTINUATION, 0, 1, &field), MOST)
    });
    println!("CONTINUATION flood: cut after {sent} bytes; others waited {worst:?} at most");
    assert!(sent < MOST / 8, "{sent} bytes were taken");
    let (sent, _) = a.while_others_ask(|| {
        let mut c = a.client();
        c.write_all(&frame(HEADERS, END_STREAM, 1, GET)).unwrap();
        pour(&mut c, |_| frame(CONTINUATION, 0, 1, &[]), MOST)
    });
    println!("empty CONTINUATION frames: cut after {sent} bytes");
    assert!(sent < MOST / 8, "{sent} bytes were taken");
    assert_eq!(a.asked.load(Ordering::SeqCst), 0);
    a.proxy.stop();
}

/// A kilobyte that names one large field of the dynamic table again and again.
#[test]
fn a_header_list_that_swells_is_refused() {
    let a = start();
    let mut c = a.client();
    let mut block = GET.to_vec();
    // x: 4000 bytes, indexed; then that entry 2000 times.
    block.extend([0x40, 0x01, b'x', 0x7f, 0xa1, 0x1e]);
    block.extend([b'v'; 4000]);
    block.extend([0xbe; 2000]);
    c.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block))
        .unwrap();
    let mut head = [0; 9];
    let mut answered = false;
    while c.read_exact(&mut head).is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        c.read_exact(&mut payload).unwrap();
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        answered |= (stream == 1 && matches!(head[3], HEADERS | RST_STREAM)) || head[3] == GOAWAY;
    }
    assert!(answered, "8 MB of fields were taken in silence");
    assert_eq!((a.asked.load(Ordering::SeqCst), a.tap.accepted()), (0, 0));
    a.proxy.stop();
}

#[test]
fn a_head_that_never_ends_is_cut() {
    let a = start();
    let mut c = a.client();
    c.write_all(&frame(HEADERS, END_STREAM, 1, GET)).unwrap();
    let at = Instant::now();
    let mut all = Vec::new();
    // It goes on byte by byte, slower than anybody needs.
    while at.elapsed() < PATIENCE / 2 && c.write_all(&frame(CONTINUATION, 0, 1, &[])).is_ok() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = c.read_to_end(&mut all);
    println!("cut after {:?}", at.elapsed());
    assert!(at.elapsed() < PATIENCE / 2);
    assert_eq!(a.asked.load(Ordering::SeqCst), 0);
    a.proxy.stop();
}
