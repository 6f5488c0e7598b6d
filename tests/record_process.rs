//! The real `inferdiff record`: what crossed is on disk, also after `kill -9`.

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
use std::path::Path;
use std::sync::Arc;

use common::{PATIENCE, Program, connect, model_server, read_until, request, wait_for};
use inferdiff_schemas::capture::{Capture, Projection, verify};
use inferdiff_schemas::storage::Disk;
use inferdiff_schemas::{Datatype, Exchange};

fn start(dir: &Path, to: std::net::SocketAddr, log: &str) -> Program {
    let capture = dir.join("capture");
    let upstream = format!("http://{to}");
    let args = [
        "record",
        "--listen",
        "127.0.0.1:0",
        "--upstream",
        &upstream,
        "--capture",
        capture.to_str().unwrap(),
        "--flush-age",
        "50",
    ];
    Program::start(&dir.join(log), &args)
}

fn rows(dir: &Path) -> Vec<Exchange> {
    let Ok(capture) = Capture::open(Arc::new(Disk), &dir.join("capture")) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for segment in capture.segments() {
        for group in 0..segment.row_groups {
            all.extend(capture.read(segment, group, Projection::Full).unwrap());
        }
    }
    all
}

#[test]
fn what_crossed_is_typed_on_disk_and_the_books_balance() {
    let dir = tempfile::tempdir().unwrap();
    let up = model_server();
    let mut recorder = start(dir.path(), up.address, "log");
    let mut client = connect(recorder.address("listening on "));
    for id in 0..20 {
        client.write_all(request(id).as_bytes()).unwrap();
        assert!(read_until(&mut client, b"]}]}").ends_with(b"]}]}"));
    }
    drop(client);
    let (code, log) = recorder.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("accepted 20, recorded 20, dropped 0"), "{log}");
    let all = rows(dir.path());
    assert_eq!(all.len(), 20);
    for (i, e) in all.iter().enumerate() {
        let x = &e.inputs.as_ref().unwrap()[0];
        let values: Vec<u8> = [i as f32, 0.5, -1e-3]
            .iter()
            .flat_map(|v: &f32| v.to_le_bytes())
            .collect();
        assert_eq!(
            (x.datatype, x.data.as_deref()),
            (Datatype::Fp32, Some(&values[..]))
        );
        assert_eq!(e.client_request_id, Some(format!("r{i}")));
        assert_eq!(
            (e.protocol.as_str(), e.model_version.as_deref()),
            ("oip-rest", Some("7"))
        );
        let y = &e.outputs.as_ref().unwrap()[0];
        assert_eq!(
            y.data.as_deref(),
            Some([0.1f32, -2.5].map(f32::to_le_bytes).concat().as_slice())
        );
        assert_eq!((e.request_body.clone(), e.query.clone()), (None, None));
    }
    let report =
        verify(&Capture::open(Arc::new(Disk), &dir.path().join("capture")).unwrap()).unwrap();
    assert!(report.ok, "{:?}", report.problems);
    // Nothing of a credential reached the disk.
    for file in std::fs::read_dir(dir.path().join("capture"))
        .unwrap()
        .flatten()
    {
        if let Ok(bytes) = std::fs::read(file.path()) {
            assert!(
                !bytes.windows(6).any(|w| w == b"secret"),
                "{:?}",
                file.path()
            );
        }
    }
}

#[test]
fn a_kill_loses_nothing_older_than_the_flush_window() {
    let dir = tempfile::tempdir().unwrap();
    let up = model_server();
    let mut recorder = start(dir.path(), up.address, "log1");
    let mut client = connect(recorder.address("listening on "));
    for id in 0..50 {
        client.write_all(request(id).as_bytes()).unwrap();
        read_until(&mut client, b"]}]}");
        if id % 10 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(60));
        }
    }
    // Older than the window: they are in a checkpoint of the growing segment.
    wait_for("the checkpoint", || rows(dir.path()).len() == 50);
    for id in 50..60 {
        client.write_all(request(id).as_bytes()).unwrap();
        read_until(&mut client, b"]}]}");
    }
    recorder.child.kill().unwrap();
    recorder.child.wait().unwrap();
    drop(client);

    let mut again = start(dir.path(), up.address, "log2");
    let address = again.address("listening on ");
    assert!(again.log().contains("recovered segment"), "{}", again.log());
    let mut client = connect(address);
    client.write_all(request(99).as_bytes()).unwrap();
    read_until(&mut client, b"]}]}");
    drop(client);
    let (code, log) = again.terminate();
    assert_eq!(code, 0, "{log}");
    let seen: HashSet<String> = rows(dir.path())
        .into_iter()
        .filter_map(|e| e.client_request_id)
        .collect();
    for id in (0..50).chain([99]) {
        assert!(seen.contains(&format!("r{id}")), "r{id} is lost");
    }
    let report =
        verify(&Capture::open(Arc::new(Disk), &dir.path().join("capture")).unwrap()).unwrap();
    assert!(report.ok, "{:?}", report.problems);
    assert_eq!(report.recorders[0].state, "crashed");
}

#[test]
fn what_cannot_work_is_said_in_one_sentence_with_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let capture = dir.path().join("c");
    let capture = capture.to_str().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let file = file.to_str().unwrap();
    let cases: [(&[&str], &str); 5] = [
        (
            &[
                "record",
                "--listen",
                &port,
                "--upstream",
                "http://127.0.0.1:1",
                "--capture",
                capture,
            ],
            "cannot listen on",
        ),
        (
            &[
                "record",
                "--listen",
                "127.0.0.1:0",
                "--upstream",
                "localhost:1",
                "--capture",
                capture,
            ],
            "must begin with http://",
        ),
        (
            &[
                "record",
                "--listen",
                "127.0.0.1:0",
                "--upstream",
                "http://127.0.0.1:1",
                "--capture",
                file,
            ],
            "cannot record",
        ),
        (&["captures", "verify", capture], "no capture at"),
        (
            &["replay", capture, "--model", "none.onnx", "--run", file],
            "none.onnx",
        ),
    ];
    for (args, expected) in cases {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_inferdiff"))
            .args(args)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {text}");
        assert!(
            text.contains(expected) && !text.contains("panicked"),
            "{args:?}: {text}"
        );
        assert_eq!(text.trim().lines().count(), 1, "{text}");
    }
    let _ = PATIENCE;
}
