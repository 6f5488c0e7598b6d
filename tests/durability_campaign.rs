//! The durability campaign: kills under load, cuts at every byte, flipped bits. Short by default;
//! `scripts/campaign_durability` runs it whole and prints its table.

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

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use common::{Program, model_server, read_until, request};
use inferdiff_schemas::capture::{
    Capture, CaptureMeta, CaptureWriter, Layout, Ledger, PAYLOAD_COLUMNS, Projection, RecorderMeta,
    SpanDigest, Upkeep, WriterOptions, verify,
};
use inferdiff_schemas::digest::input_digest;
use inferdiff_schemas::storage::{Disk, Simulated, Storage};
use inferdiff_schemas::{Datatype, Exchange, Payload, Tensor};
use ulid::Ulid;

fn whole() -> bool {
    std::env::var("INFERDIFF_CAMPAIGN").is_ok_and(|v| v == "whole")
}

/// One line of the table.
fn line(what: &str, runs: u64, result: &str) {
    println!("| {what} | {runs} | {result} |");
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

const DIR: &str = "/capture";
const CHECKPOINTS: usize = 20;

/// A segment of 20 checkpoints of one row, each payload kind among them, and a whole Parquet file
/// as the payload of some.
struct Specimen {
    id: Ulid,
    bytes: Vec<u8>,
    /// Length of the file after each checkpoint.
    lengths: Vec<usize>,
    sent: Vec<Exchange>,
}

fn write(payloads: &[Bytes]) -> Specimen {
    let disk = Simulated::new();
    let recorder = Ulid::generate();
    let (mut writer, _) = CaptureWriter::open(
        Arc::new(disk.clone()),
        Path::new(DIR),
        CaptureMeta::new("2026-01-01T00:00:00Z"),
        RecorderMeta::new(recorder, "2026-01-01T00:00:00Z"),
        WriterOptions::default(),
    )
    .unwrap();
    let open = || Capture::open(Arc::new(disk.clone()), Path::new(DIR)).unwrap();
    let mut ledger = Ledger::default();
    let (mut sent, mut lengths) = (Vec::new(), Vec::new());
    for (seq, payload) in payloads.iter().enumerate() {
        let n = i64::try_from(payload.len()).unwrap();
        let mut inputs =
            vec![Tensor::inline("x", Datatype::Uint8, vec![1, n], payload.clone()).unwrap()];
        for (i, kind) in Payload::ALL.into_iter().enumerate() {
            let mut tensor = inputs[0].clone();
            tensor.name = format!("t{i}");
            tensor.payload = kind;
            if kind != Payload::Inline {
                tensor.data = None;
            }
            inputs.push(tensor);
        }
        let e = Exchange {
            client_request_id: Some(format!("r{seq}")),
            input_digest: Some(input_digest(&inputs)),
            outputs: Some(inputs[..1].to_vec()),
            inputs: Some(inputs),
            request_body: Some(payload.clone()),
            ..Exchange::new(recorder, seq as u64)
        };
        sent.push(e.clone());
        ledger.accepted += 1;
        ledger.in_flight += 1;
        writer.append(e);
        writer.checkpoint(&mut ledger).unwrap();
        lengths.push(usize::try_from(open().segments()[0].bytes).unwrap());
    }
    let segment = open().segments()[0].clone();
    let file = disk.open(&segment.path).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Specimen {
        id: segment.id,
        bytes,
        lengths,
        sent,
    }
}

fn specimen() -> Specimen {
    let inner = Bytes::from(write(&[Bytes::from_static(b"inner")]).bytes);
    let payloads: Vec<Bytes> = (0..CHECKPOINTS)
        .map(|i| match i % 7 {
            3 => inner.clone(),
            5 => Bytes::new(),
            _ => Bytes::from(vec![i as u8 + 1; 40 * i]),
        })
        .collect();
    let specimen = write(&payloads);
    assert_eq!(specimen.lengths.len(), CHECKPOINTS);
    specimen
}

/// A capture that holds one file.
fn holding(path: &Path, bytes: &[u8]) -> Simulated {
    let disk = Simulated::new();
    let layout = Layout::new(DIR);
    disk.create_dir(&layout.recorders()).unwrap();
    let meta = serde_json::to_vec(&CaptureMeta::new("2026-01-01T00:00:00Z")).unwrap();
    for (path, bytes) in [(layout.meta().as_path(), meta.as_slice()), (path, bytes)] {
        let mut file = disk.create(path).unwrap();
        file.write_all(bytes).unwrap();
        file.sync().unwrap();
    }
    disk
}

fn rows(disk: &Simulated) -> Vec<Exchange> {
    let capture = Capture::open(Arc::new(disk.clone()), Path::new(DIR)).unwrap();
    assert!(
        capture.unreadable().is_empty(),
        "{:?}",
        capture.unreadable()
    );
    let mut all = Vec::new();
    for segment in capture.segments() {
        for group in 0..segment.row_groups {
            all.extend(capture.read(segment, group, Projection::Full).unwrap());
        }
    }
    all
}

/// Cuts the growing segment at `at`, recovers, and checks what is left.
fn cut(specimen: &Specimen, at: usize, read_rows: bool) {
    let layout = Layout::new(DIR);
    let disk = holding(&layout.open(specimen.id), &specimen.bytes[..at]);
    let upkeep = Upkeep::lock(Arc::new(disk.clone()), Path::new(DIR));
    upkeep.unwrap().unwrap().recover().unwrap();
    let kept = specimen.lengths.iter().filter(|&&l| l <= at).count();
    let sealed = disk.open(&layout.sealed(specimen.id));
    match (kept, sealed) {
        (0, sealed) => assert!(sealed.is_err(), "cut at {at}: no checkpoint was complete"),
        (kept, sealed) => {
            let length = specimen.lengths[kept - 1];
            let sealed = sealed.unwrap();
            assert_eq!(sealed.len(), length as u64, "cut at {at}");
            let mut bytes = vec![0; length];
            sealed.read_exact_at(&mut bytes, 0).unwrap();
            assert!(bytes == specimen.bytes[..length], "cut at {at}");
        }
    }
    if read_rows {
        assert_eq!(rows(&disk), specimen.sent[..kept], "cut at {at}");
    }
}

#[test]
fn a_segment_cut_at_every_byte_keeps_every_complete_checkpoint() {
    let specimen = specimen();
    let stride = if whole() { 1 } else { 1009 };
    let near = |at: usize| specimen.lengths.iter().any(|l| l.abs_diff(at) <= 9);
    let cuts: Vec<usize> = (0..=specimen.bytes.len())
        .filter(|at| at % stride == 0 || near(*at))
        .collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for part in cuts.chunks(cuts.len().div_ceil(threads)) {
            let specimen = &specimen;
            scope.spawn(move || {
                // The bytes are compared at every cut; rows follow from them.
                part.iter()
                    .enumerate()
                    .for_each(|(i, &at)| cut(specimen, at, i % 97 == 0));
            });
        }
    });
    let result = format!(
        "of {} bytes with {CHECKPOINTS} checkpoints: every complete checkpoint came back by value",
        specimen.bytes.len()
    );
    line("cut", cuts.len() as u64, &result);
}

/// The piece of a span that byte `at` lies in.
fn page_at(span: &SpanDigest, at: u64) -> std::ops::Range<u64> {
    let mut start = span.start;
    for piece in &span.pieces {
        if at < start + piece.length {
            return start..start + piece.length;
        }
        start += piece.length;
    }
    panic!("{at} lies behind the span's pieces")
}

#[test]
fn a_flipped_bit_is_named_and_every_other_checkpoint_is_whole() {
    let specimen = specimen();
    let flips = if whole() { 10_000 } else { 150 };
    let mut random = Random(7);
    let path = Layout::new(DIR).sealed(specimen.id);
    let sealed = holding(&path, &specimen.bytes);
    let intact = Capture::open(Arc::new(sealed), Path::new(DIR)).unwrap();
    let spans = intact.segments()[0].digests().unwrap();
    let last_footer = spans.last().unwrap().end;
    let (mut named, mut payloads, mut between) = (0u64, 0u64, 0u64);
    for _ in 0..flips {
        let at = random.below(specimen.bytes.len() as u64);
        let mut bytes = specimen.bytes.clone();
        bytes[at as usize] ^= 1 << random.below(8);
        let disk = holding(&path, &bytes);
        let capture = Capture::open(Arc::new(disk), Path::new(DIR)).unwrap();
        let report = verify(&capture).unwrap();
        let problems = report.problems.join("\n");
        let hit = spans.iter().position(|s| (s.start..s.end).contains(&at));
        let readable = match hit {
            Some(group) => {
                let page = page_at(&spans[group], at);
                let (from, to) = (page.start, page.end);
                assert!(
                    problems.contains(&format!("row group {group} "))
                        && problems.contains(&format!("(bytes {from}..{to})")),
                    "bit at {at} of {page:?}: {problems}"
                );
                assert_eq!(problems.matches("has changed since").count(), 1);
                // A payload that is hit takes nothing but itself away.
                if PAYLOAD_COLUMNS
                    .iter()
                    .any(|c| problems.contains(&format!("a page of {c} (")))
                {
                    let segment = &capture.segments()[0];
                    let rest = capture.read(segment, group, Projection::Shapes).unwrap();
                    let sent = &specimen.sent[group];
                    assert_eq!(rest[0].client_request_id, sent.client_request_id);
                    assert_eq!(rest[0].input_digest, sent.input_digest);
                    payloads += 1;
                }
                named += 1;
                CHECKPOINTS
            }
            None if at >= last_footer => {
                assert!(
                    problems.contains("does not end with a footer"),
                    "bit at {at}: {problems}"
                );
                named += 1;
                CHECKPOINTS - 1
            }
            // An earlier checkpoint's footer: nobody reads it any more.
            None => {
                assert!(!problems.contains("damaged") && !problems.contains("changed"));
                between += 1;
                CHECKPOINTS
            }
        };
        let segment = &capture.segments()[0];
        assert_eq!(segment.row_groups, readable, "bit at {at}");
        for group in (0..readable).filter(|group| Some(*group) != hit) {
            let rows = capture.read(segment, group, Projection::Full).unwrap();
            assert_eq!(
                rows,
                specimen.sent[group..=group],
                "bit at {at}, row group {group}"
            );
        }
        if let Some(group) = hit {
            // Whatever it gives, it gives it without a panic.
            let _ = capture.read(segment, group, Projection::Full);
        }
    }
    let result = format!(
        "{named} named (page or footer; {payloads} in payloads, whose rows are read without them), \
         {between} in footers of earlier checkpoints; every other row group equal by value"
    );
    line("flipped bit", flips, &result);
}

/// A recorder with tiny segments, merged all the time.
fn start(dir: &Path, to: SocketAddr, log: &str) -> Program {
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
        "10",
        "--segment-row-groups",
        "3",
        "--upkeep-interval",
        "30",
        "--merge-rate",
        "1000",
        "--no-metadata",
    ];
    Program::start(&dir.join(log), &args)
}

/// Sends requests with ever new ids until the recorder is gone.
fn load(address: SocketAddr, next: &AtomicU64) {
    let Ok(mut stream) = std::net::TcpStream::connect(address) else {
        return;
    };
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    loop {
        let id = next.fetch_add(1, SeqCst);
        if stream.write_all(request(id).as_bytes()).is_err()
            || !read_until(&mut stream, b"]}]}").ends_with(b"]}]}")
        {
            return;
        }
    }
}

/// Every row on disk by client id; each is what was sent.
fn recorded(dir: &Path) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    let Ok(capture) = Capture::open(Arc::new(Disk), &dir.join("capture")) else {
        return all;
    };
    for segment in capture.segments() {
        for group in 0..segment.row_groups {
            for e in capture.read(segment, group, Projection::Full).unwrap() {
                let id = e.client_request_id.clone().unwrap();
                // A request that was cut by the kill has no inputs to speak of.
                if let Some(inputs) = &e.inputs {
                    let number: f32 = id[1..].parse().unwrap();
                    let sent = [number, 0.5, -1e-3].map(f32::to_le_bytes).concat();
                    assert_eq!(inputs[0].data.as_deref(), Some(sent.as_slice()), "{id}");
                }
                *all.entry(id).or_default() += 1;
            }
        }
    }
    all
}

/// Row counts and sums that pyarrow and DuckDB find.
fn strangers(capture: &Path) -> Option<String> {
    let python = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    if !python.exists() {
        return None;
    }
    let script = "import sys, duckdb, pyarrow.parquet as pq\n\
        t = pq.read_table(sys.argv[1], columns=['seq'])\n\
        d = duckdb.sql(f\"select count(*), sum(seq) from '{sys.argv[1]}/*.parquet'\").fetchone()\n\
        print(t.num_rows, sum(t['seq'].to_pylist()), d[0], int(d[1]))";
    let out = Command::new(python)
        .args(["-c", script, capture.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

#[test]
fn kills_under_load_lose_no_complete_checkpoint() {
    let (kills, each) = if whole() { (1000, 20) } else { (12, 6) };
    let up = model_server();
    let mut random = Random(11);
    let next = AtomicU64::new(0);
    let (mut kept, mut sealed, mut merges) = (0u64, 0u64, 0u64);
    let mut compared = 0u64;
    for _ in 0..kills / each {
        let dir = tempfile::tempdir().unwrap();
        let mut before = BTreeSet::new();
        for kill in 0..each {
            let mut recorder = start(dir.path(), up.address, &format!("log{kill}"));
            let address = recorder.address("listening on ");
            std::thread::scope(|scope| {
                let next = &next;
                scope.spawn(move || load(address, next));
                scope.spawn(move || load(address, next));
                std::thread::sleep(Duration::from_millis(20 + random.below(130)));
                // What a checkpoint holds now must outlive the kill.
                before.extend(recorded(dir.path()).into_keys());
                recorder.child.kill().unwrap();
                recorder.child.wait().unwrap();
            });
        }
        let mut last = start(dir.path(), up.address, "log");
        last.address("listening on ");
        let (code, log) = last.terminate();
        assert_eq!(code, 0, "{log}");
        let found = recorded(dir.path());
        for id in &before {
            assert!(
                found.contains_key(id),
                "{id} was in a checkpoint and is lost"
            );
        }
        assert!(found.values().all(|&n| n == 1), "something is there twice");
        let capture = Capture::open(Arc::new(Disk), &dir.path().join("capture")).unwrap();
        let report = verify(&capture).unwrap();
        assert!(report.ok, "{:?}", report.problems);
        let crashed = report.recorders.iter().filter(|b| b.state == "crashed");
        assert_eq!(crashed.count() as u64, each, "each killed recorder says so");
        kept += found.len() as u64;
        sealed += report.segments;
        merges += capture
            .segments()
            .iter()
            .filter(|s| s.row_groups == 1 && s.rows > 3)
            .count() as u64;
        if let Some(said) = strangers(&dir.path().join("capture")) {
            let sum: u64 = capture
                .segments()
                .iter()
                .flat_map(|s| (0..s.row_groups).map(move |g| (s, g)))
                .flat_map(|(s, g)| capture.read(s, g, Projection::Keys).unwrap())
                .map(|e| e.seq)
                .sum();
            assert_eq!(said, format!("{0} {sum} {0} {sum}", report.rows));
            compared += 1;
        }
    }
    assert!(
        !whole() || compared > 0,
        "scripts/setup prepares pyarrow and DuckDB"
    );
    let result = format!(
        "{kept} exchanges in {sealed} segments ({merges} merged): every one that a checkpoint held \
         came back by value, none twice, all books balance; pyarrow and DuckDB agree on {compared} captures"
    );
    line("kill -9 under load", kills, &result);
}
