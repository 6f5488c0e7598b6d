//! Faults of requests, engines and machines under the real `inferdiff replay`: each is an outcome of
//! its exchange, the rest is judged, and what was interrupted resumes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a test may fail loudly, and its numbers are small"
)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::replay::{digits, exchange, images, recorder, replay, results, root, verdict, write};
use inferdiff_schemas::{Datatype, Exchange, Outcome, Payload, Tensor};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

const NAN: u64 = 4;
const HANG: u64 = 17;
const MEMORY: u64 = 31;
const SHAPE: u64 = 46;
const CRASH: u64 = 52;

fn tensor<T: Copy, const N: usize>(
    name: &str,
    datatype: Datatype,
    columns: usize,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|v| bytes(*v)).collect();
    let rows = (values.len() / columns) as i64;
    Tensor::inline(name, datatype, vec![rows, columns as i64], data.into()).unwrap()
}

/// A request of `planted.onnx`, and production's answer to it.
fn planted(seq: u64) -> Exchange {
    let rows = if seq == SHAPE { 3 } else { 2 };
    let x: Vec<f32> = (0..rows * 4)
        .map(|i| (seq as f32 + 1.0) / (i as f32 + 1.0))
        .collect();
    let mut divisor = vec![2f32; rows];
    let mut trips = vec![3i64; rows];
    let mut length = vec![8i64; rows];
    match seq {
        NAN => divisor[1] = 0.0,
        HANG => trips[0] = 1 << 50,
        MEMORY => length[0] = 1 << 34,
        _ => {}
    }
    let x = tensor("x", Datatype::Fp32, 4, &x, f32::to_le_bytes);
    let y = Tensor {
        name: "y".into(),
        ..x.clone()
    };
    let inputs = vec![
        x,
        tensor("divisor", Datatype::Fp32, 1, &divisor, f32::to_le_bytes),
        tensor("trips", Datatype::Int64, 1, &trips, i64::to_le_bytes),
        tensor("length", Datatype::Int64, 1, &length, i64::to_le_bytes),
    ];
    Exchange {
        status: Some(200),
        outputs: Some(vec![y]),
        ..exchange(seq, inputs)
    }
}

fn id(seq: u64) -> String {
    Exchange::id_of(recorder(), seq)
}

fn stage<'a>(verdicts: &'a Value, name: &str) -> &'a Value {
    let stages = verdicts["stages"].as_array().unwrap();
    stages.iter().find(|s| s["name"] == name).unwrap()
}

/// Exchanges that a stage's verdict names: outcome and words by id.
fn named(verdicts: &Value, name: &str) -> BTreeMap<String, (String, String)> {
    let list = stage(verdicts, name)["named"].as_array().unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let each = list.iter();
    each.map(|e| (text(&e["id"]), (text(&e["outcome"]), text(&e["why"]))))
        .collect()
}

#[test]
fn planted_faults_are_named_by_exchange_and_the_rest_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    let capture = write(dir.path(), 15, (0..60).map(planted));
    let model = |name: &str| root().join("replay/tests/models").join(name);
    let ladder = dir.path().join("ladder.toml");
    let text = format!(
        "[[stage]]\nname = \"reference\"\nruntime = \"onnxruntime\"\nmodel = {:?}\nthreads = 1\n\
         [[stage]]\nname = \"engine\"\ninherits = \"reference\"\nmodel = {:?}\n\
         [[stage]]\nname = \"crash\"\nruntime = \"scripted\"\n\
         config = {{ fault.kind = \"crash\", fault.seq = \"{CRASH}\" }}\n",
        model("planted_reference.onnx"),
        model("planted.onnx"),
    );
    std::fs::write(&ladder, text).unwrap();
    let ladder = ladder.to_str().unwrap();
    let limits = [
        "--ladder",
        ladder,
        "--exchange-timeout",
        "3",
        "--memory-limit",
        "4GiB",
    ];

    let (code, verdicts, errors) = replay(&capture, &dir.path().join("run"), &limits);
    assert_eq!(code, 3, "{verdicts:#} {errors}");
    let engine = named(&verdicts, "engine");
    let ids: Vec<_> = engine.keys().cloned().collect();
    let mut wanted = [NAN, HANG, MEMORY, SHAPE].map(id).to_vec();
    wanted.sort();
    assert_eq!(ids, wanted, "{engine:#?}");
    let says = |seq, outcome: &str, words: &str| {
        let (is, why) = &engine[&id(seq)];
        assert!(is == outcome && why.contains(words), "{seq}: {is}: {why}");
    };
    says(NAN, "nonfinite", "output `y`, item 1: 4 elements");
    says(HANG, "stage_failed", "ran longer than 3 s");
    says(MEMORY, "stage_failed", "alloc");
    says(SHAPE, "stage_failed", "cannot be reshaped");
    let outcomes = &stage(&verdicts, "engine")["outcomes"];
    assert_eq!(
        (&outcomes["compared"], &outcomes["stage_failed"]),
        (&57.into(), &3.into())
    );
    // Item 0 of the exchange with the NaN is as good as those of the 56 others.
    let y = &stage(&verdicts, "engine")["outputs"][0];
    assert_eq!(y["bit_equal"].as_u64(), Some(2 * 56 + 1), "{y:#}");

    let crash = named(&verdicts, "crash");
    assert_eq!(crash.len(), 1, "{crash:#?}");
    assert!(crash[&id(CRASH)].1.contains("signal 6"), "{crash:#?}");
    assert_eq!(
        stage(&verdicts, "crash")["outcomes"]["compared"].as_u64(),
        Some(59)
    );
    assert_eq!(verdict(&verdicts, "recorded"), "identical");

    // The same capture without them gives no finding.
    let mut without: Vec<String> = limits.iter().map(ToString::to_string).collect();
    for seq in [NAN, HANG, MEMORY, SHAPE, CRASH] {
        without.extend(["--where".to_owned(), format!("seq!={seq}")]);
    }
    let without: Vec<_> = without.iter().map(String::as_str).collect();
    let (code, verdicts, errors) = replay(&capture, &dir.path().join("clean"), &without);
    assert_eq!(code, 0, "{verdicts:#} {errors}");
    assert_eq!(verdicts["left_out"]["not_selected"].as_u64(), Some(5));
    for name in ["engine", "crash", "recorded"] {
        assert_eq!(verdict(&verdicts, name), "identical");
        assert!(named(&verdicts, name).is_empty());
    }
}

/// A pseudo-random share in [0, 1).
struct Shares(u64);

impl Shares {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn start(capture: &Path, run: &Path, workers: &str) -> std::process::Child {
    let paths = [capture, Path::new("--run"), run, Path::new("--model")];
    Command::new(env!("CARGO_BIN_EXE_inferdiff"))
        .current_dir(root())
        .arg("replay")
        .args(paths)
        .args([&digits("digits.fp32.onnx"), "--workers", workers])
        .args(["--commit-every", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}

/// Everything that a run says, but times.
fn said(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = results(run);
    let read = |name: &str| std::fs::read(run.join(name)).unwrap();
    for name in ["verdicts.json", "requests.parquet"] {
        all.insert(name.into(), read(name));
    }
    for stage in std::fs::read_dir(run.join("stages")).unwrap().flatten() {
        let name = stage.path().join("evidence.json");
        all.insert(
            name.strip_prefix(run).unwrap().into(),
            std::fs::read(&name).unwrap(),
        );
    }
    all
}

/// Names of files that one of them lacks or that differ.
fn differences<'a>(
    a: &'a BTreeMap<PathBuf, Vec<u8>>,
    b: &'a BTreeMap<PathBuf, Vec<u8>>,
) -> Vec<&'a Path> {
    let names = a.keys().chain(b.keys());
    let mut differ: Vec<_> = names
        .filter(|n| a.get(*n) != b.get(*n))
        .map(PathBuf::as_path)
        .collect();
    differ.dedup();
    differ
}

fn many(dir: &Path) -> PathBuf {
    let answers = |seq: u64| exchange(seq, vec![images(seq, 1 + seq as usize % 3)]);
    write(dir, 4, (0..48).map(answers))
}

/// `INFERDIFF_INTERRUPTIONS` says how many points, 3 where it is not set.
#[test]
fn killed_at_random_points_and_resumed_a_run_is_the_same() {
    let points = std::env::var("INFERDIFF_INTERRUPTIONS");
    let points: u32 = points.map_or(3, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let capture = many(dir.path());
    let whole = dir.path().join("whole");
    let started = Instant::now();
    assert_eq!(start(&capture, &whole, "1").wait().unwrap().code(), Some(0));
    let took = started.elapsed();
    let expected = said(&whole);
    let mut shares = Shares(0x9E37_79B9_7F4A_7C15);
    let (mut runs, mut killed_early) = (0, 0);
    for workers in ["1", "2"] {
        let mut left = points;
        while left > 0 {
            runs += 1;
            let run = dir.path().join(format!("run-{runs}"));
            loop {
                let mut child = start(&capture, &run, workers);
                if left == 0 {
                    assert_eq!(child.wait().unwrap().code(), Some(0));
                    break;
                }
                std::thread::sleep(took.mul_f64(shares.next()));
                let _ = kill_process_group(pid(child.id()), Signal::KILL);
                left -= 1;
                if child.wait().unwrap().success() {
                    break;
                }
                killed_early += 1;
            }
            let resumed = said(&run);
            let differ = differences(&expected, &resumed);
            assert!(
                differ.is_empty(),
                "{workers} workers, run {runs}: {differ:?}"
            );
        }
    }
    assert!(killed_early > 0, "no kill came before the end");
}

/// The processes that a process started and that live.
fn children(of: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{of}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists = threads.filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok());
    lists
        .flat_map(|l| {
            l.split_whitespace()
                .map(|n| n.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_stage_killed_from_outside_is_taken_up_again_and_nobody_is_blamed() {
    let dir = tempfile::tempdir().unwrap();
    let capture = many(dir.path());
    let (whole, run) = (dir.path().join("whole"), dir.path().join("run"));
    assert_eq!(start(&capture, &whole, "1").wait().unwrap().code(), Some(0));
    let mut child = start(&capture, &run, "1");
    let mut shares = Shares(7);
    let (mut killed, mut before) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(120);
    while killed < 4 && child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5 + (shares.next() * 100.0) as u64));
        // One that never gets anywhere is given up, so each gets somewhere.
        let done = results(&run).len();
        if done > before {
            before = done;
            for stage in children(child.id()) {
                killed += i32::from(kill_process(pid(stage), Signal::KILL).is_ok());
            }
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(killed > 0);
    let (expected, resumed) = (said(&whole), said(&run));
    let differ = differences(&expected, &resumed);
    assert!(differ.is_empty(), "{differ:?}");
    let told = std::fs::read_dir(run.join("stages"))
        .unwrap()
        .flatten()
        .any(|stage| {
            let status = std::fs::read(stage.path().join("status.json")).unwrap();
            let status: Value = serde_json::from_slice(&status).unwrap();
            !status["deaths"].as_array().unwrap().is_empty()
        });
    assert!(told, "the deaths are in no status.json");
}

#[test]
fn a_sequence_begins_again_where_a_process_comes_into_its_middle() {
    let dir = tempfile::tempdir().unwrap();
    // Three sequences through all row groups, and exchanges of none.
    let capture = write(
        dir.path(),
        4,
        (0..48).map(|seq| Exchange {
            sequence_id: (seq % 4 > 0).then(|| format!("s{}", seq % 4)),
            ..exchange(seq, vec![images(seq, 1)])
        }),
    );
    let ladder = dir.path().join("ladder.toml");
    let counting = "runtime = \"scripted\"\nconfig = { state = \"count\" }\n";
    let text =
        format!("[[stage]]\nname = \"one\"\n{counting}[[stage]]\nname = \"two\"\n{counting}");
    std::fs::write(&ladder, text).unwrap();
    let ladder = [
        "--ladder",
        ladder.to_str().unwrap(),
        "--keep-outputs",
        "all",
        "--commit-every",
        "1",
    ];
    let (whole, run) = (dir.path().join("whole"), dir.path().join("run"));
    let (code, verdicts, errors) = replay(&capture, &whole, &ladder);
    assert_eq!(
        (code, verdict(&verdicts, "two")),
        (0, "identical"),
        "{errors}"
    );
    let expected = results(&whole);

    replay(&capture, &run, &ladder);
    for stage in ["one", "two"] {
        let folder = run.join("stages").join(stage);
        std::fs::remove_file(folder.join("status.json")).unwrap();
        let mut chunks: Vec<_> = std::fs::read_dir(folder.join("comparisons"))
            .unwrap()
            .flatten()
            .collect();
        chunks.sort_by_key(std::fs::DirEntry::file_name);
        for i in [5, 6, 10] {
            std::fs::remove_file(chunks[i].path()).unwrap();
        }
    }
    let (_, resumed, _) = replay(&capture, &run, &ladder);
    assert_eq!(verdicts, resumed);
    let now = results(&run);
    let differ = differences(&expected, &now);
    assert!(differ.is_empty(), "{differ:?}");
}

#[test]
fn a_disk_that_is_full_in_the_middle_is_said_and_the_run_goes_on_there() {
    let dir = tempfile::tempdir().unwrap();
    // The third row group's answers are larger than the files may grow.
    let exchanges =
        (0..12).map(|seq| exchange(seq, vec![images(seq, if seq < 8 { 1 } else { 400 })]));
    let capture = write(dir.path(), 4, exchanges);
    let run = dir.path().join("run");
    let model = digits("digits.fp32.onnx");
    // A limit of this kind ends a write as a full disk does, and needs no rights.
    let mut line = "trap '' XFSZ; ulimit -f 40; exec".to_owned();
    let binary = env!("CARGO_BIN_EXE_inferdiff");
    let shown = (capture.display(), run.display());
    write!(
        line,
        " {binary} replay {} --run {} --model {model} --commit-every 1",
        shown.0, shown.1
    )
    .unwrap();
    let out = Command::new("bash")
        .current_dir(root())
        .args(["-c", &line])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(4), "{errors}");
    for words in [
        "stage `reference` stopped",
        "File too large",
        "outputs/",
        "it resumes there",
    ] {
        assert!(errors.contains(words), "{words}: {errors}");
    }
    let committed = results(&run);
    assert_eq!(
        committed.len(),
        4,
        "two chunks of the reference: {:?}",
        committed.keys()
    );
    let times = |run: &Path| -> Vec<_> {
        let files = committed
            .keys()
            .map(|name| run.join(name).metadata().unwrap());
        files.map(|m| m.modified().unwrap()).collect()
    };
    let before = times(&run);

    let often = ["--commit-every", "1"];
    let (code, verdicts, errors) = replay(&capture, &run, &often);
    assert_eq!(code, 0, "{verdicts:#} {errors}");
    assert_eq!(times(&run), before, "committed chunks were done again");
    let whole = dir.path().join("whole");
    replay(&capture, &whole, &often);
    assert_eq!(results(&run), results(&whole));
}

#[test]
fn a_run_folder_of_something_else_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let of = |dir: &Path, n| {
        write(
            dir,
            4,
            (0..n).map(|seq| exchange(seq, vec![images(seq, 1)])),
        )
    };
    let (one, two) = (of(dir.path(), 8), of(other.path(), 12));
    let run = dir.path().join("run");
    let refused = |capture: &Path, more: &[&str], words: &[&str]| {
        let (code, _, errors) = replay(capture, &run, more);
        assert_eq!(code, 2, "{errors}");
        for words in words {
            assert!(errors.contains(words), "{words}: {errors}");
        }
    };
    assert_eq!(replay(&one, &run, &[]).0, 0);
    let asks = "Choose another --run directory";
    refused(&two, &[], &["the capture (it was", "dir", asks]);
    refused(
        &one,
        &["--limit", "3"],
        &["--where, --sample or --limit", asks],
    );
    let fp16 = digits("digits.fp16.onnx");
    refused(
        &one,
        &["--model", &fp16],
        &["the model files", "the stages", asks],
    );
    let path = run.join("run.json");
    let manifest = std::fs::read_to_string(&path).unwrap();
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(manifest.contains(&version));
    std::fs::write(&path, manifest.replace(&version, "\"version\": \"9.9.9\"")).unwrap();
    refused(&one, &[], &["made by inferdiff 9.9.9", asks]);
    std::fs::write(&path, "{").unwrap();
    refused(&one, &[], &["run.json"]);
    std::fs::remove_file(&path).unwrap();
    refused(&one, &[], &["holds no run (no run.json)"]);
}

#[test]
fn what_cannot_be_replayed_or_compared_is_counted_by_reason() {
    let dir = tempfile::tempdir().unwrap();
    let answer = |seq: u64| {
        let scores = vec![seq as f32; 10];
        let logits = tensor("logits", Datatype::Fp32, 10, &scores, f32::to_le_bytes);
        Some(vec![logits])
    };
    let exchanges = (0..20).map(|seq| {
        let whole = Exchange {
            status: Some(200),
            outputs: answer(seq),
            ..exchange(seq, vec![images(seq, 1)])
        };
        match seq {
            1 => {
                let mut shared = images(seq, 1);
                (shared.payload, shared.data) = (Payload::Shm, None);
                exchange(seq, vec![shared])
            }
            2 => Exchange {
                inputs: None,
                decode_error: Some("inputs: no shape".into()),
                request_body: Some(Bytes::from_static(b"{}")),
                ..whole
            },
            3 => Exchange {
                status: Some(503),
                outputs: None,
                ..whole
            },
            4 => Exchange {
                requested_outputs: Some(vec!["other".into()]),
                outputs: Some(Vec::new()),
                ..whole
            },
            5 => Exchange {
                outcome: Outcome::UpstreamReset,
                error: Some("connection reset".into()),
                outputs: None,
                status: None,
                ..whole
            },
            _ => whole,
        }
    });
    let capture = write(dir.path(), 4, exchanges);
    let run = dir.path().join("run");
    let (_, verdicts, errors) = replay(&capture, &run, &[]);
    assert_eq!(verdicts["requests"].as_u64(), Some(18), "{errors}");
    let left: BTreeMap<String, u64> = serde_json::from_value(verdicts["left_out"].clone()).unwrap();
    let wanted = [("shared_memory", 1), ("undecoded", 1)];
    assert_eq!(left, wanted.map(|(k, n)| (k.to_owned(), n)).into());
    assert!(
        errors.contains("left out: 1 shared_memory, 1 undecoded"),
        "{errors}"
    );
    let named = named(&verdicts, "recorded");
    assert!(named[&id(3)].1.contains("status 503"), "{named:#?}");
    assert!(named[&id(5)].1.contains("connection reset"), "{named:#?}");
    let outcomes = &stage(&verdicts, "recorded")["outcomes"];
    assert_eq!(outcomes["partial_output"].as_u64(), Some(1), "{outcomes:#}");
    assert_eq!(outcomes["stage_failed"].as_u64(), Some(2), "{outcomes:#}");
    let sum: u64 = outcomes
        .as_object()
        .unwrap()
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(sum, 18, "every exchange has an outcome");
}
