//! The real `inferdiff record` over a storage that fails: clients see nothing of it, what is not
//! recorded is counted by reason, recording resumes by itself.

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

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{ANSWER, Program, connect, model_server, read_until, request, wait_for};
use inferdiff_schemas::capture::{Capture, Report, verify};
use inferdiff_schemas::storage::Disk;

fn start(dir: &Path, to: std::net::SocketAddr, more: &[&str]) -> Program {
    let capture = dir.join("capture");
    let upstream = format!("http://{to}");
    let mut args = vec![
        "record",
        "--listen",
        "127.0.0.1:0",
        "--upstream",
        &upstream,
        "--capture",
        capture.to_str().unwrap(),
        "--flush-age",
        "20",
    ];
    args.extend(more);
    Program::start(&dir.join("log"), &args)
}

/// Sends `n` requests, a few in each flush window, and checks every byte of the answers.
fn load(recorder: &mut Program, n: u64) {
    let expected = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let mut client = connect(recorder.address("listening on "));
    for id in 0..n {
        client.write_all(request(id).as_bytes()).unwrap();
        let answer = read_until(&mut client, b"]}]}");
        assert_eq!(String::from_utf8_lossy(&answer), expected);
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn report(dir: &Path) -> Report {
    let capture = Capture::open(Arc::new(Disk), &dir.join("capture")).unwrap();
    verify(&capture).unwrap()
}

#[test]
fn clients_see_nothing_of_a_storage_that_fails_and_the_books_say_what_was_lost() {
    for (faults, reason) in [
        (
            &["write=enospc,after=30000,times=3,name=.open"][..],
            "disk_full",
        ),
        (&["create=erofs,after=0,times=2,name=.open"], "read_only"),
        (&["sync=eio,after=2,times=2,name=.open"], "write_error"),
        (
            &[
                "write=eio,after=20000,times=2,name=.open",
                "truncate=eio,times=1",
            ],
            "write_error",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let up = model_server();
        let mut args: Vec<&str> = Vec::new();
        for fault in faults {
            args.extend(["--storage-fault", fault]);
        }
        let mut recorder = start(dir.path(), up.address, &args);
        load(&mut recorder, 60);
        let (code, log) = recorder.terminate();
        assert_eq!(code, 0, "{faults:?}: {log}");
        assert!(log.contains("recording resumed"), "{faults:?}: {log}");
        let report = report(dir.path());
        assert!(report.ok, "{faults:?}: {:?}", report.problems);
        let ledger = &report.recorders[0].ledger;
        assert_eq!((ledger.accepted, ledger.in_flight), (60, 0), "{faults:?}");
        let reasons: Vec<_> = ledger.dropped.keys().map(String::as_str).collect();
        assert_eq!(reasons, [reason], "{faults:?}");
        assert!(ledger.recorded > 20, "{faults:?}: {ledger:?}");
    }
}

#[test]
fn a_capture_directory_that_vanishes_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let up = model_server();
    let mut recorder = start(dir.path(), up.address, &[]);
    load(&mut recorder, 10);
    wait_for("checkpoints", || {
        Capture::open(Arc::new(Disk), &dir.path().join("capture"))
            .is_ok_and(|c| c.segments().iter().map(|s| s.rows).sum::<u64>() == 10)
    });
    std::fs::remove_dir_all(dir.path().join("capture")).unwrap();
    load(&mut recorder, 10);
    let (code, log) = recorder.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("accepted 20, recorded 20, dropped 0"), "{log}");
    assert_eq!(
        report(dir.path()).exchanges,
        10,
        "those since it was made again"
    );
}

#[test]
fn below_the_watermark_exchanges_are_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let up = model_server();
    // No disk has as much free.
    let mut recorder = start(dir.path(), up.address, &["--min-free", "1000000000000"]);
    load(&mut recorder, 5);
    let (code, log) = recorder.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(
        log.contains("accepted 5, recorded 0, dropped 5 disk_watermark"),
        "{log}"
    );
    assert!(report(dir.path()).ok);
}

#[test]
fn small_segments_are_merged_and_the_oldest_retired_while_traffic_runs() {
    let dir = tempfile::tempdir().unwrap();
    let up = model_server();
    let more = [
        "--segment-row-groups",
        "1",
        "--upkeep-interval",
        "100",
        "--merge-rate",
        "1000",
    ];
    let mut recorder = start(dir.path(), up.address, &more);
    load(&mut recorder, 80);
    wait_for("a merge", || {
        Capture::open(Arc::new(Disk), &dir.path().join("capture"))
            .is_ok_and(|c| c.segments().iter().any(|s| s.rows > 8))
    });
    let (code, log) = recorder.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("accepted 80, recorded 80, dropped 0"), "{log}");
    let merged = report(dir.path());
    assert!(merged.ok, "{:?}", merged.problems);
    assert_eq!(merged.exchanges, 80);
    // A recorder that may keep nothing: what was sealed before it leaves, and is counted.
    let more = ["--retain-size", "0", "--upkeep-interval", "50"];
    let recorder = start(dir.path(), up.address, &more);
    wait_for("retention", || {
        Capture::open(Arc::new(Disk), &dir.path().join("capture"))
            .is_ok_and(|c| c.segments().is_empty())
    });
    let (code, log) = recorder.terminate();
    assert_eq!(code, 0, "{log}");
    let retired = report(dir.path());
    assert!(retired.ok, "{:?}", retired.problems);
    let books = &retired.recorders[0];
    assert_eq!((books.on_disk, books.ledger.removed["retention"]), (0, 80));
}
