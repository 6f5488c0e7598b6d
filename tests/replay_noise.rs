//! Stages that do not answer one request in one way, on the real ONNX Runtime.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a test may fail loudly, and its numbers are small"
)]

mod common;

use std::path::{Path, PathBuf};

use common::replay::{exchange, inferdiff, write};
use inferdiff_schemas::{Datatype, Tensor};
use serde_json::Value;

/// Requests of one row of four numbers. Every third has two equal largest ones, which any noise may
/// put in either order; the others lead by far.
fn capture(dir: &Path) -> PathBuf {
    let exchanges = (0..150u8).map(|i| {
        let far = 1.0 + f32::from(i % 7);
        let second = if i % 3 == 0 { far } else { 0.25 };
        let row = [0.125, far, second, -far];
        let data: Vec<u8> = row.iter().flat_map(|v: &f32| v.to_le_bytes()).collect();
        let input = Tensor::inline("x", Datatype::Fp32, vec![1, 4], data.into());
        exchange(i.into(), vec![input.unwrap()])
    });
    write(dir, 40, exchanges)
}

fn ladder(dir: &Path, reference: &str, stages: &[&str]) -> String {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("replay/tests/models");
    let model = |name: &str| models.join(format!("{name}.onnx")).display().to_string();
    let mut text = format!(
        "[[stage]]\nname = \"reference\"\nruntime = \"onnxruntime\"\ngraph_optimization = \"off\"\n\
         prepacking = false\nmemory_optimization = false\nthreads = 1\nmodel = \"{}\"\n\
         [[stage]]\nname = \"healthy\"\ninherits = \"reference\"\ngraph_optimization = \"all\"\n\
         prepacking = true\nmemory_optimization = true\n",
        model(reference)
    );
    for stage in stages {
        let model = model(stage);
        text += &format!(
            "[[stage]]\nname = \"{stage}\"\ninherits = \"reference\"\nmodel = \"{model}\"\n"
        );
    }
    let path = dir.join("ladder.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

struct Replayed {
    verdicts: Value,
    run: PathBuf,
}

impl Replayed {
    fn new(reference: &str, stages: &[&str], more: &[&str]) -> (tempfile::TempDir, Self) {
        let dir = tempfile::tempdir().unwrap();
        let (capture, run) = (capture(dir.path()), dir.path().join("run"));
        let ladder = ladder(dir.path(), reference, stages);
        let (capture, folder) = (capture.to_str().unwrap(), run.to_str().unwrap());
        let args = [
            "replay", capture, "--ladder", &ladder, "--run", folder, "--json",
        ];
        let out = inferdiff(&[&args, more].concat());
        let errors = String::from_utf8_lossy(&out.stderr).into_owned();
        let verdicts = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{errors}"));
        (dir, Self { verdicts, run })
    }

    fn stage(&self, name: &str) -> &Value {
        let stages = self.verdicts["stages"].as_array().unwrap();
        stages.iter().find(|s| s["name"] == name).unwrap()
    }

    /// The marks of a stage: nondeterministic, stateful, batch-variant.
    fn marks(&self, name: &str) -> [bool; 3] {
        let behaviour = &self.stage(name)["behaviour"];
        let mark = |key: &str| {
            behaviour[key]
                .as_bool()
                .unwrap_or_else(|| panic!("{behaviour:#}"))
        };
        [
            mark("nondeterministic"),
            mark("stateful"),
            mark("batch_variant"),
        ]
    }

    fn probe(&self, stage: &str, probe: &str) -> (u64, u64) {
        let probes = self.stage(stage)["behaviour"]["probes"].as_array().unwrap();
        let found = probes.iter().find(|p| p["probe"] == probe).unwrap();
        (
            found["asked"].as_u64().unwrap(),
            found["differing"].as_u64().unwrap(),
        )
    }
}

#[test]
fn each_probe_finds_its_fault_and_is_silent_on_a_healthy_stage() {
    let stages = ["relu_noise", "relu_memory", "relu_crowd"];
    let (_dir, run) = Replayed::new("relu", &stages, &["--workers", "2"]);
    assert_eq!(run.marks("reference"), [false; 3]);
    assert_eq!(run.marks("healthy"), [false; 3]);
    assert_eq!(run.marks("relu_noise"), [true, false, false]);
    assert_eq!(run.marks("relu_memory"), [false, true, false]);
    assert_eq!(run.marks("relu_crowd"), [false, false, true]);
    for probe in ["repeat", "fresh", "batch:8", "order"] {
        assert_eq!(run.probe("healthy", probe), (64, 0), "{probe}");
        println!("{probe}: {:?}", stages.map(|s| run.probe(s, probe)));
    }
    assert!(
        run.probe("relu_memory", "fresh").1 >= 63,
        "all but the first remember"
    );
    assert_eq!(run.probe("relu_crowd", "batch:8"), (64, 64));
    assert_eq!(run.probe("relu_crowd", "fresh").1, 0);
    // Alone it is the reference, bit for bit: only the probe sees it.
    assert_eq!(run.stage("relu_crowd")["verdict"], "identical");
    let why = run.stage("relu_crowd")["reason"].as_str().unwrap();
    assert!(why.contains("batch-variant"), "{why}");
    // The reference three times; a stage again only where it differs.
    let again = |stage: &str| {
        run.stage(stage)["behaviour"]["again"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(["reference", "healthy", "relu_noise"].map(again), [2, 0, 1]);
    assert!(run.run.join("stages/relu_noise/probes.json").exists());
    let schema = include_str!("../schemas/json/verdicts.schema.json");
    let schema = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let problems: Vec<_> = validator
        .iter_errors(&run.verdicts)
        .map(|e| e.to_string())
        .collect();
    assert!(problems.is_empty(), "{problems:?}");
}

/// Noise is drawn anew in each process. About one verdict in sixty is another than it should be by that
/// chance alone (thirty flips, and eighteen when the stage is asked again, are told apart): two in a
/// row are none.
fn verdict_despite_noise(reference: &str, stages: &[&str], stage: &str, verdict: &str) -> Replayed {
    let metric = ["--metric", "top1", "--probe", "none"];
    let ask = || Replayed::new(reference, stages, &metric).1;
    let held = |run: &Replayed| run.stage(stage)["verdict"] == verdict;
    let first = ask();
    if held(&first) {
        return first;
    }
    let second = ask();
    let said = (first.stage(stage), second.stage(stage));
    assert!(held(&second), "{:#}\n{:#}", said.0, said.1);
    second
}

#[test]
fn noise_is_held_against_nobody_and_a_harm_beyond_it_is() {
    // Ties flip by noise alone: a third of the answers, in about half of the processes.
    let run = verdict_despite_noise("relu", &["relu_noise"], "relu_noise", "inconclusive");
    let metric = &run.stage("relu_noise")["metrics"][0];
    assert!(metric["flips"].as_u64().unwrap() > 10, "{metric:#}");
    assert!(
        metric["noise"]["stage_flips"].as_u64().unwrap() > 10,
        "{metric:#}"
    );
    // The same flips of a stage whose own noise is not known would be held against it.
    let (_dir, run) = Replayed::new(
        "relu",
        &["relu_noise"],
        &["--metric", "top1", "--repeats", "1", "--probe", "none"],
    );
    assert_eq!(run.stage("relu_noise")["verdict"], "may_affect");
    assert_eq!(run.stage("relu_noise")["behaviour"], Value::Null);
    // A noisy reference: its clean stage is not blamed for the noise, one that answers something
    // else is.
    let stages = ["relu", "relu_negative"];
    let run = verdict_despite_noise("relu_noise", &stages, "relu", "inconclusive");
    assert_eq!(
        run.stage("reference")["behaviour"]["nondeterministic"],
        true
    );
    assert_eq!(run.stage("relu_negative")["verdict"], "may_affect");
}

#[test]
fn what_is_asked_can_be_chosen() {
    let (_dir, run) = Replayed::new("relu", &[], &["--probe", "batch:3", "--probe-sample", "10"]);
    assert_eq!(run.probe("healthy", "batch:3"), (9, 0));
    let left = &run.stage("healthy")["behaviour"]["probes"][0]["left_out"];
    assert_eq!(left["no_other_of_its_shape"], 1, "{left:#}");
    for (flag, value, says) in [
        ("--probe", "batch:1", "2 to 4096"),
        ("--probe", "warm", "known: repeat, fresh"),
        ("--repeats", "0", "at least once"),
        ("--probe-seconds", "0", "more than 0"),
        ("--commit-every", "0", "at least one exchange"),
    ] {
        let out = inferdiff(&["replay", "nowhere", "--run", "r", flag, value]);
        let errors = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            out.status.code() == Some(2) && errors.contains(says),
            "{flag} {value}: {errors}"
        );
    }
}
