//! Captures made here, replayed by the real `inferdiff replay`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use inferdiff_schemas::capture::{CaptureMeta, CaptureWriter, Ledger, RecorderMeta, WriterOptions};
use inferdiff_schemas::digest::input_digest;
use inferdiff_schemas::storage::Disk;
use inferdiff_schemas::{Datatype, Exchange, Tensor};
use serde_json::Value;
use ulid::Ulid;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn digits(file: &str) -> String {
    root()
        .join("tests/fixtures/digits")
        .join(file)
        .display()
        .to_string()
}

/// An exchange without an answer.
pub fn exchange(seq: u64, inputs: Vec<Tensor>) -> Exchange {
    Exchange {
        protocol: "oip-rest-binary".into(),
        model: Some("digits".into()),
        client_request_id: Some(format!("r{seq}")),
        status: Some(503),
        input_digest: Some(input_digest(&inputs)),
        inputs: Some(inputs),
        ..Exchange::new(recorder(), seq)
    }
}

/// `rows` pseudo-random images in one request.
pub fn images(seed: u64, rows: usize) -> Tensor {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let data: Vec<u8> = (0..rows * 64)
        .flat_map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            ((x % 17) as f32 / 16.0).to_le_bytes()
        })
        .collect();
    Tensor::inline(
        "image",
        Datatype::Fp32,
        vec![rows as i64, 1, 8, 8],
        data.into(),
    )
    .unwrap()
}

/// The recorder of every capture written here.
pub fn recorder() -> Ulid {
    Ulid::from_parts(7, 7)
}

/// Writes a capture with a row group per `each` exchanges and two row groups per segment.
pub fn write(dir: &Path, each: usize, exchanges: impl Iterator<Item = Exchange>) -> PathBuf {
    write_in(dir, each, 2, exchanges)
}

/// Writes a capture with a row group per `each` exchanges and so many row groups per segment.
pub fn write_in(
    dir: &Path,
    each: usize,
    max_row_groups: usize,
    exchanges: impl Iterator<Item = Exchange>,
) -> PathBuf {
    let path = dir.join("capture");
    let (meta, own) = (CaptureMeta::new(""), RecorderMeta::new(recorder(), ""));
    let options = WriterOptions {
        max_row_groups,
        ..Default::default()
    };
    let (mut writer, _) = CaptureWriter::open(Arc::new(Disk), &path, meta, own, options).unwrap();
    let mut ledger = Ledger::default();
    for (i, exchange) in exchanges.enumerate() {
        ledger.accepted += 1;
        ledger.in_flight += 1;
        writer.append(exchange);
        if i % each == each - 1 {
            writer.checkpoint(&mut ledger).unwrap();
        }
    }
    writer.close(&mut ledger, String::new()).unwrap();
    path
}

pub fn inferdiff(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_inferdiff"))
        .current_dir(root())
        .args(args)
        .output()
        .unwrap()
}

/// Exit code, verdicts and what was said on stderr.
pub fn replay(capture: &Path, run: &Path, more: &[&str]) -> (i32, Value, String) {
    let model = digits("digits.fp32.onnx");
    let mut args = vec![
        "replay",
        capture.to_str().unwrap(),
        "--run",
        run.to_str().unwrap(),
        "--json",
    ];
    if !more.contains(&"--model") {
        args.extend(["--model", &model]);
    }
    args.extend(more);
    // What they add has its own tests (replay_noise.rs).
    if !more.contains(&"--repeats") {
        args.extend(["--repeats", "1", "--probe", "none"]);
    }
    let out = inferdiff(&args);
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        !errors.contains("no ONNX Runtime library"),
        "run scripts/setup first: {errors}"
    );
    let verdicts = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
    (out.status.code().unwrap(), verdicts, errors)
}

pub fn verdict<'a>(verdicts: &'a Value, stage: &str) -> &'a str {
    let stages = verdicts["stages"].as_array().unwrap();
    let found = stages.iter().find(|s| s["name"] == stage);
    found.unwrap_or_else(|| panic!("no stage {stage}"))["verdict"]
        .as_str()
        .unwrap()
}

/// Every file of a run that carries results, by path.
pub fn results(run: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut out = std::collections::BTreeMap::new();
    let mut folders = vec![run.join("stages")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "parquet") {
                let name = path.strip_prefix(run).unwrap().to_owned();
                out.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    out
}
