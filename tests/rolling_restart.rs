//! Rolling restarts under load: nothing refused, nothing reset, no exchange unexplained.

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

use std::collections::HashSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use common::{Program, connect, model_server, read_until, request, wait_for};
use inferdiff_schemas::capture::{Capture, Projection, verify};
use inferdiff_schemas::storage::Disk;

fn start(dir: &Path, listen: &str, to: SocketAddr, log: &str) -> Program {
    let (capture, socket) = (dir.join("capture"), dir.join("handover"));
    let upstream = format!("http://{to}");
    let args = [
        "record",
        "--listen",
        listen,
        "--upstream",
        &upstream,
        "--capture",
        capture.to_str().unwrap(),
        "--handover",
        socket.to_str().unwrap(),
        "--flush-age",
        "50",
    ];
    Program::start(&dir.join(log), &args)
}

/// One request; false where it was not answered. Keeps the connection where it may.
fn ask(address: SocketAddr, kept: &mut Option<TcpStream>, id: u64, keep: bool) -> bool {
    let mut stream = kept.take().unwrap_or_else(|| connect(address));
    if stream.write_all(request(id).as_bytes()).is_err() {
        return false;
    }
    let answer = read_until(&mut stream, b"]}]}");
    let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    if keep && !text.contains("connection: close") {
        *kept = Some(stream);
    }
    answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"]}]}")
}

#[test]
fn restarts_under_load_refuse_reset_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let up = model_server();
    let mut running = start(dir.path(), "127.0.0.1:0", up.address, "log0");
    let address = running.address("listening on ");
    let (sent, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in 0..4u64 {
            let (sent, failed, done) = (&sent, &failed, &done);
            scope.spawn(move || {
                let mut kept = None;
                for n in 0.. {
                    if done.load(SeqCst) {
                        break;
                    }
                    let id = client * 1_000_000 + n;
                    // Half of the clients keep their connections, half open one for each request.
                    if !ask(address, &mut kept, id, client % 2 == 0) {
                        failed.fetch_add(1, SeqCst);
                        kept = None;
                    }
                    sent.fetch_add(1, SeqCst);
                }
            });
        }
        for restart in 1..=3u64 {
            let so_far = sent.load(SeqCst);
            wait_for("load", || sent.load(SeqCst) > so_far + 100);
            let listen = address.to_string();
            let mut next = start(dir.path(), &listen, up.address, &format!("log{restart}"));
            assert_eq!(next.address("listening on "), address);
            let (code, log) = std::mem::replace(&mut running, next).ended();
            assert_eq!(code, 0, "{log}");
        }
        let so_far = sent.load(SeqCst);
        wait_for("load", || sent.load(SeqCst) > so_far + 100);
        done.store(true, SeqCst);
    });
    let (code, log) = running.terminate();
    assert_eq!(code, 0, "{log}");
    assert_eq!(failed.load(SeqCst), 0, "requests without an answer");
    assert!(
        !dir.path().join("handover").exists(),
        "the last one tidies up"
    );
    let capture = Capture::open(Arc::new(Disk), &dir.path().join("capture")).unwrap();
    let report = verify(&capture).unwrap();
    assert!(report.ok, "{:?}", report.problems);
    assert_eq!(report.recorders.len(), 4);
    assert!(report.recorders.iter().all(|b| b.state == "stopped"));
    let sum = |f: fn(&inferdiff_schemas::capture::Ledger) -> u64| {
        report.recorders.iter().map(|b| f(&b.ledger)).sum::<u64>()
    };
    assert_eq!(sum(|l| l.accepted), sent.load(SeqCst));
    assert_eq!(
        sum(|l| l.recorded),
        sent.load(SeqCst),
        "dropped under no load to speak of"
    );
    let mut ids = HashSet::new();
    for segment in capture.segments() {
        for group in 0..segment.row_groups {
            let rows = capture.read(segment, group, Projection::Keys).unwrap();
            ids.extend(rows.into_iter().filter_map(|e| e.client_request_id));
        }
    }
    assert_eq!(ids.len() as u64, sent.load(SeqCst), "each of them once");
    println!(
        "{} requests over 3 restarts, none refused, none reset",
        ids.len()
    );
}

#[test]
fn a_new_instance_that_fails_leaves_the_old_one_running() {
    let dir = tempfile::tempdir().unwrap();
    let up = model_server();
    let mut running = start(dir.path(), "127.0.0.1:0", up.address, "log0");
    let address = running.address("listening on ");
    // It takes the sockets and then refuses: the old one listens elsewhere.
    let (code, log) = start(dir.path(), "127.0.0.1:1", up.address, "log1").ended();
    assert_eq!(code, 2, "{log}");
    assert!(log.contains("the running instance listens on"), "{log}");
    let mut kept = None;
    assert!(ask(address, &mut kept, 1, true));
    let (code, log) = running.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("accepted 1, recorded 1"), "{log}");
}
