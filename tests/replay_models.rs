//! A capture with several models goes down one ladder for each: `[models]`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a test may fail loudly, and its numbers are small"
)]

mod common;

use std::path::{Path, PathBuf};

use common::replay::{digits, exchange, images, inferdiff, write};
use inferdiff_schemas::Exchange;
use serde_json::Value;

/// 8 exchanges of `digits` 1, 6 of `digits` 2, 4 of `other`, 2 of `digits` whose version nothing names.
fn capture(dir: &Path) -> PathBuf {
    let of = |seq: u64, model: &str, version: Option<&str>| Exchange {
        model: Some(model.to_owned()),
        model_version: version.map(str::to_owned),
        ..exchange(seq, vec![images(seq, 1)])
    };
    let all = (0..20).map(move |seq| match seq {
        0..8 => of(seq, "digits", Some("1")),
        8..14 => of(seq, "digits", Some("2")),
        14..18 => of(seq, "other", None),
        _ => of(seq, "digits", None),
    });
    write(dir, 5, all)
}

fn ladder(dir: &Path, models: &str) -> String {
    let stages = "[[stage]]\nname = \"off\"\nruntime = \"onnxruntime\"\n[[stage]]\nname = \"all\"\n\
                  inherits = \"off\"\ngraph_optimization = \"all\"\n";
    let path = dir.join("ladder.toml");
    std::fs::write(&path, format!("{stages}{models}")).unwrap();
    path.display().to_string()
}

fn replay(capture: &Path, run: &Path, ladder: &str, more: &[&str]) -> (i32, Value, String) {
    let (capture, run) = (capture.to_str().unwrap(), run.to_str().unwrap());
    let mut args = vec![
        "replay", capture, "--run", run, "--ladder", ladder, "--json",
    ];
    args.extend(["--repeats", "1", "--probe", "none"]);
    args.extend(more);
    let out = inferdiff(&args);
    let verdicts = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.code().unwrap(), verdicts, said)
}

#[test]
fn each_model_and_version_goes_down_its_own_ladder_into_its_own_run() {
    let dir = tempfile::tempdir().unwrap();
    let capture = capture(dir.path());
    let (good, bad) = (digits("digits.fp32.onnx"), digits("digits.int8-bad.onnx"));
    let models = format!(
        "[models.first]\nname = \"digits\"\nversion = \"1\"\nmodel = \"{good}\"\n\
         [models.second]\nname = \"digits\"\nversion = \"2\"\nmodel = \"{good}\"\n\
         stages = {{ all = \"{bad}\" }}\n[models.other]\nmodel = \"{good}\"\n"
    );
    let ladder = ladder(dir.path(), &models);
    let run = dir.path().join("run");
    let (code, verdicts, said) = replay(&capture, &run, &ladder, &[]);
    let stage = |model: &str| verdicts["models"][model]["stages"][1].clone();
    for (model, n) in [("first", 8), ("second", 6), ("other", 4)] {
        assert_eq!(stage(model)["name"], "all", "{said}");
        let outcomes = &stage(model)["outcomes"];
        assert_eq!(outcomes["compared"], n, "{model}: {outcomes}");
        let kept = std::fs::read(run.join(model).join("verdicts.json")).unwrap();
        let kept: Value = serde_json::from_slice(&kept).unwrap();
        assert_eq!(kept, verdicts["models"][model]);
    }
    let sound = |model: &str| {
        let verdict = stage(model)["verdict"].as_str().unwrap().to_owned();
        ["identical", "equivalent", "not_applied"].contains(&verdict.as_str())
    };
    assert!(
        sound("first") && sound("other") && !sound("second"),
        "{verdicts}"
    );
    // The gravest of the three.
    assert_ne!(code, 0, "{said}");
    assert!(
        said.contains("2 exchanges of model `digits` are left out"),
        "{said}"
    );
    // Each is a run like any other.
    let first = run.join("first");
    let judged = inferdiff(&["judge", first.to_str().unwrap(), "--json"]);
    assert_eq!(judged.status.code(), Some(0));
    let again = replay(&capture, &run, &ladder, &[]);
    assert_eq!((again.0, &again.1), (code, &verdicts), "{}", again.2);
}

#[test]
fn what_no_table_names_and_what_no_exchange_is_of_are_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let capture = capture(dir.path());
    let model = format!("model = \"{}\"\n", digits("digits.fp32.onnx"));
    let told = |models: &str, more: &[&str]| {
        let run = dir.path().join("run");
        let (code, _, said) = replay(&capture, &run, &ladder(dir.path(), models), more);
        assert_eq!(code, 2, "{said}");
        assert!(!run.exists(), "{said}");
        said
    };
    let other = format!("[models.other]\n{model}");
    let said = told(&other, &[]);
    assert!(
        said.contains("8 exchanges are of `digits` version 1"),
        "{said}"
    );
    assert!(said.contains("leave it out with --where"), "{said}");
    let said = told(&format!("{other}[models.digits]\n{model}"), &[]);
    assert!(
        said.contains("the versions , 1, 2") || said.contains("versions"),
        "{said}"
    );
    let third = format!("{other}[models.third]\n{model}");
    let said = told(&third, &["--where", "model=other"]);
    assert!(
        said.contains("`third`: no exchange is of `third`"),
        "{said}"
    );
    let said = told(&other, &["--model", &digits("digits.fp32.onnx")]);
    assert!(said.contains("leave --model out"), "{said}");
}
