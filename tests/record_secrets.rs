//! Canary secrets in headers, query strings, tensors and bodies: not found in anything on disk, in
//! logs or in metrics. And the file that says what is kept.

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
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use common::{Program, connect, exchange, model_server, read_until, request, upstream, wait_for};
use inferdiff_schemas::capture::{Capture, Projection, verify};
use inferdiff_schemas::storage::Disk;
use inferdiff_schemas::{Exchange, Payload};

const CANARY: &str = "canary-7f3a91";
/// 77.125 and 99.875 are exact in FP32: their bytes are the canary of a number.
const NUMBERS: [f32; 2] = [77.125, 99.875];

/// Answers every request with canaries in a header and in a tensor.
fn leaky_server() -> common::RawUpstream {
    upstream(|mut stream| {
        loop {
            let head = String::from_utf8_lossy(&read_until(&mut stream, b"\r\n\r\n")).into_owned();
            let Some((head, begun)) = head.split_once("\r\n\r\n") else {
                return;
            };
            if head.starts_with("GET ") {
                // The recorder asks for metadata, which it keeps: this server has none.
                let none = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(none).unwrap();
                continue;
            }
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("Content-Length: "))
                .map_or(0, |n| n.parse::<usize>().unwrap());
            let mut rest = vec![0; length - begun.len()];
            stream.read_exact(&mut rest).unwrap();
            let body = format!(
                r#"{{"model_name":"m","outputs":[{{"name":"user_name","shape":[1],"datatype":"BYTES","data":["{CANARY}"]}},{{"name":"score","shape":[1],"datatype":"FP32","data":[0.5]}}]}}"#
            );
            let answer = format!(
                "HTTP/1.1 200 OK\r\nSet-Cookie: s={CANARY}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
    })
}

fn post(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path}?token={CANARY}&version=3 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {CANARY}\r\n\
         Cookie: id={CANARY}\r\nX-Private: {CANARY}\r\nX-Tenant: acme\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn rows(dir: &Path) -> Vec<Exchange> {
    let capture = Capture::open(Arc::new(Disk), &dir.join("capture")).unwrap();
    let mut all = Vec::new();
    for segment in capture.segments() {
        for group in 0..segment.row_groups {
            all.extend(capture.read(segment, group, Projection::Full).unwrap());
        }
    }
    all
}

/// The canaries as text, in base64 at any offset, and as little-endian numbers.
fn canaries() -> Vec<Vec<u8>> {
    use base64::Engine;
    let mut all = vec![CANARY.as_bytes().to_vec()];
    for offset in 0..3 {
        let shifted = format!("{}{CANARY}", "x".repeat(offset));
        let coded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(shifted);
        // The first and the last characters depend on the neighbours.
        all.push(coded.as_bytes()[4..coded.len() - 2].to_vec());
    }
    all.push(NUMBERS.iter().flat_map(|n| n.to_le_bytes()).collect());
    all
}

fn search(what: &str, bytes: &[u8]) {
    for canary in canaries() {
        let found = bytes.windows(canary.len()).any(|w| w == canary);
        assert!(
            !found,
            "{what} holds {:?}",
            String::from_utf8_lossy(&canary)
        );
    }
}

fn search_folder(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            search_folder(&entry.path());
            continue;
        }
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
        search(
            &format!("{:?}", entry.path()),
            &std::fs::read(entry.path()).unwrap(),
        );
    }
}

#[test]
fn no_canary_reaches_disk_logs_or_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "0123456789abcdef").unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let up = leaky_server();
    let config = dir.path().join("inferdiff.toml");
    let text = format!(
        "[record]\nlisten = \"127.0.0.1:0\"\nupstream = \"http://{}\"\ncapture = \"{}\"\n\
         flush-age = 20\nbodies = \"all\"\nkeep-header = [\"x-tenant\"]\nkeep-query = [\"version\"]\n\
         hash-key = \"{}\"\n[record.tensor]\nuser_id = \"hash\"\n\"user_*\" = \"drop\"\nembedding = \"drop\"\n",
        up.address,
        dir.path().join("capture").display(),
        key.display()
    );
    std::fs::write(&config, text).unwrap();
    let args = ["record", "--config", config.to_str().unwrap()];
    let mut recorder = Program::start(&dir.path().join("log"), &args);
    let address = recorder.address("listening on ");
    let admin = recorder.log();
    let admin = admin.split("admin on http://").nth(1).unwrap();
    let admin = admin.split_whitespace().next().unwrap().parse().unwrap();
    let numbers = format!("{},{}", NUMBERS[0], NUMBERS[1]);
    let good = format!(
        r#"{{"id":"r1","inputs":[{{"name":"user_id","shape":[1],"datatype":"BYTES","data":["{CANARY}"]}},{{"name":"embedding","shape":[2],"datatype":"FP32","data":[{numbers}]}},{{"name":"x","shape":[1],"datatype":"FP32","data":[1.5]}}]}}"#
    );
    for (path, body) in [
        ("/v2/models/m/infer", good.as_str()),
        (
            "/v2/models/m/infer",
            &good.replace("\"BYTES\"", "\"INT32\""),
        ),
        ("/v2/models/m/infer", &format!("{{\"inputs\": \"{CANARY}\"")),
        ("/elsewhere", CANARY),
    ] {
        let answer = exchange(address, &post(path, body));
        assert!(
            answer.starts_with(b"HTTP/1.1 200"),
            "the client still gets everything"
        );
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.contains(CANARY));
    }
    wait_for("a checkpoint", || rows(dir.path()).len() == 4);
    search_folder(&dir.path().join("capture"));
    let metrics = exchange(
        admin,
        b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    assert!(String::from_utf8_lossy(&metrics).contains("inferdiff_accepted"));
    search("metrics", &metrics);
    let (code, log) = recorder.terminate();
    assert_eq!(code, 0, "{log}");
    search("the log", log.as_bytes());
    search_folder(&dir.path().join("capture"));
    // What a decompressing reader sees.
    let all = rows(dir.path());
    search("a row", format!("{all:?}").as_bytes());
    for tensor in all
        .iter()
        .flat_map(|e| e.inputs.iter().chain(&e.outputs).flatten())
    {
        search("a tensor", tensor.data.as_deref().unwrap_or_default());
    }
    let whole = all.iter().find(|e| e.inputs.is_some()).unwrap();
    let inputs = whole.inputs.as_ref().unwrap();
    let payloads: Vec<_> = inputs.iter().map(|t| t.payload).collect();
    assert_eq!(
        payloads,
        [Payload::Hashed, Payload::Dropped, Payload::Inline]
    );
    assert_eq!(whole.query.as_deref(), Some("version=3"));
    let tenant = ("x-tenant".to_owned(), "acme".to_owned());
    assert!(whole.request_headers.contains(&tenant));
    let capture = Capture::open(Arc::new(Disk), &dir.path().join("capture")).unwrap();
    let report = verify(&capture).unwrap();
    assert!(report.ok, "{:?}", report.problems);
}

fn run(args: &[&str]) -> (Option<i32>, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_inferdiff"))
        .args(args)
        .output()
        .unwrap();
    let said = [out.stdout, out.stderr].concat();
    (
        out.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn a_configuration_is_checked_without_touching_anything() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("inferdiff.toml");
    let capture = dir.path().join("capture");
    let check = |more: &str| {
        let text = format!(
            "[record]\nlisten = \"127.0.0.1:0\"\nupstream = \"http://h:1\"\ncapture = \"{}\"\n{more}",
            capture.display()
        );
        std::fs::write(&config, text).unwrap();
        run(&[
            "record",
            "--config",
            config.to_str().unwrap(),
            "--check-config",
        ])
    };
    assert_eq!(
        check(""),
        (Some(0), "the configuration is fine\n".to_owned())
    );
    let open = dir.path().join("open");
    std::fs::write(&open, "0123456789abcdef").unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o644)).unwrap();
    for (text, expected) in [
        ("sampel-rate = 0.5", "did you mean `sample-rate`"),
        ("sample-rate = 2.0", "at most 1"),
        ("keep-header = [\"Cookie\"]", "never kept"),
        ("tensor = [\"x=hash\"]", "--hash-key"),
        ("tensor = [\"x=burn\"]", "NAME=drop"),
        (&format!("hash-key = \"{}\"", open.display()), "chmod 600"),
    ] {
        let (code, said) = check(text);
        assert_eq!(code, Some(2), "{text}: {said}");
        assert!(said.contains(expected), "{text}: {said}");
    }
    assert!(!capture.exists());
}

#[test]
fn sighup_reloads_what_it_can_and_says_what_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let up = model_server();
    let config = dir.path().join("inferdiff.toml");
    let write = |more: &str| {
        let text = format!(
            "[record]\nlisten = \"127.0.0.1:0\"\nupstream = \"http://{}\"\ncapture = \"{}\"\nflush-age = 20\n{more}",
            up.address,
            dir.path().join("capture").display()
        );
        std::fs::write(&config, text).unwrap();
    };
    write("");
    let args = ["record", "--config", config.to_str().unwrap()];
    let mut recorder = Program::start(&dir.path().join("log"), &args);
    let mut client = connect(recorder.address("listening on "));
    let mut ask = |id| {
        client.write_all(request(id).as_bytes()).unwrap();
        assert!(read_until(&mut client, b"]}]}").ends_with(b"]}]}"));
    };
    let hangup = |recorder: &Program| {
        let pid = rustix::process::Pid::from_child(&recorder.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    };
    ask(1);
    wait_for("the first row", || rows(dir.path()).len() == 1);
    write("min-free = 1000000000000\nmemory-budget = 99\n");
    hangup(&recorder);
    wait_for("the reload", || {
        recorder.log().contains("next start only: memory-budget")
    });
    assert!(
        recorder.log().contains("changed: min-free"),
        "{}",
        recorder.log()
    );
    ask(2);
    write("sample-rate = 7.0\n");
    hangup(&recorder);
    wait_for("the refusal", || {
        recorder.log().contains("nothing is changed")
    });
    write("[record.tensor]\nx = \"drop\"\n");
    hangup(&recorder);
    wait_for("the reload", || {
        recorder.log().contains("changed: min-free, tensor")
    });
    ask(3);
    let (code, log) = recorder.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(
        log.contains("accepted 3, recorded 2, dropped 1 disk_watermark"),
        "{log}"
    );
    let dropped = rows(dir.path()).last().unwrap().inputs.as_ref().unwrap()[0].payload;
    assert_eq!(dropped, Payload::Dropped);
}

#[test]
fn sampled_exchanges_carry_their_rate_and_the_others_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let up = model_server();
    let capture = dir.path().join("capture");
    let to = format!("http://{}", up.address);
    let args = [
        "record",
        "--listen",
        "127.0.0.1:0",
        "--upstream",
        &to,
        "--capture",
        capture.to_str().unwrap(),
        "--sample-rate",
        "0.25",
    ];
    let mut recorder = Program::start(&dir.path().join("log"), &args);
    let mut client = connect(recorder.address("listening on "));
    for id in 0..400 {
        client.write_all(request(id).as_bytes()).unwrap();
        read_until(&mut client, b"]}]}");
    }
    drop(client);
    let (code, log) = recorder.terminate();
    assert_eq!(code, 0, "{log}");
    let all = rows(dir.path());
    // Binomial with n = 400, p = 0.25: 100, sigma 8.7; six sigmas either way.
    assert!((48..=152).contains(&all.len()), "{}", all.len());
    assert!(
        all.iter()
            .all(|e| (e.sample_rate - 0.25).abs() < f64::EPSILON)
    );
    let expected = format!(
        "recorded {}, dropped {} not_sampled",
        all.len(),
        400 - all.len()
    );
    assert!(log.contains(&expected), "{log}");
}
