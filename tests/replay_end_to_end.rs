//! The real `inferdiff replay` on the real ONNX Runtime, over captures made here.

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

use std::path::{Path, PathBuf};

use common::replay::{digits, exchange, images, inferdiff, replay, results, root, verdict, write};
use inferdiff_schemas::Tensor;
use serde_json::Value;
use ulid::Ulid;

/// 60 exchanges without answers, in row groups of 15.
fn capture(dir: &Path, inputs: impl Fn(u64) -> Vec<Tensor>) -> PathBuf {
    write(dir, 15, (0..60).map(|seq| exchange(seq, inputs(seq))))
}

#[test]
fn graph_stages_are_harmless_and_workers_and_interruptions_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let capture = capture(dir.path(), |seq| vec![images(seq, 1 + seq as usize % 3)]);
    let (one, two, three) = (
        dir.path().join("1"),
        dir.path().join("2"),
        dir.path().join("3"),
    );
    let (code, verdicts, errors) = replay(&capture, &one, &[]);
    assert_eq!(code, 0, "{verdicts:#} {errors}");
    assert_eq!(
        (verdicts["requests"].as_u64(), verdicts["items"].as_u64()),
        (Some(60), Some(120))
    );
    for stage in ["prepacking", "memory", "basic", "extended", "all"] {
        assert!(
            ["identical", "equivalent"].contains(&verdict(&verdicts, stage)),
            "{verdicts:#}"
        );
    }
    let schema = std::fs::read(root().join("schemas/json/verdicts.schema.json")).unwrap();
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let problems: Vec<_> = validator
        .iter_errors(&verdicts)
        .map(|e| e.to_string())
        .collect();
    assert!(problems.is_empty(), "{problems:?}");

    let (_, with_two, _) = replay(&capture, &two, &["--workers", "2"]);
    assert_eq!(verdicts, with_two);
    assert_eq!(
        results(&one),
        results(&two),
        "the number of workers changed a file"
    );

    // An interruption: some chunks and a stage's end are missing.
    replay(&capture, &three, &[]);
    for (i, path) in results(&three).keys().enumerate() {
        if i % 3 == 0 && path.to_string_lossy().contains("comparisons") {
            std::fs::remove_file(three.join(path)).unwrap();
        }
    }
    let mut ended = std::fs::read_dir(three.join("stages")).unwrap().flatten();
    assert!(ended.all(|stage| std::fs::remove_file(stage.path().join("status.json")).is_ok()));
    let (_, resumed, _) = replay(&capture, &three, &[]);
    assert_eq!(verdicts, resumed);
    assert_eq!(
        results(&one),
        results(&three),
        "a resumed run differs from an uninterrupted one"
    );
}

#[test]
fn a_pass_that_hits_is_evidence_and_a_misspelt_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let capture = capture(dir.path(), |seq| vec![images(seq, 1)]);
    let ladder = |name: &str| {
        let path = dir.path().join(format!("{name}.toml"));
        let stage = format!(
            "base = \"onnxruntime-cpu\"\n[[stage]]\nname = \"without\"\ninherits = \"all\"\ndisabled_passes = [\"{name}\"]\n"
        );
        std::fs::write(&path, stage).unwrap();
        path.display().to_string()
    };
    let run = dir.path().join("run");
    let (_, verdicts, _) = replay(
        &capture,
        &run,
        &["--ladder", &ladder("ConvActivationFusion")],
    );
    assert_ne!(verdict(&verdicts, "without"), "failed", "{verdicts:#}");
    let evidence = std::fs::read(run.join("stages/all/evidence.json")).unwrap();
    let evidence: Value = serde_json::from_slice(&evidence).unwrap();
    let hits: Vec<_> = evidence["passes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|p| p["hit"] == true)
        .collect();
    assert!(!hits.is_empty(), "batch norms are folded into convolutions");
    let reference = std::fs::read(run.join("stages/reference/evidence.json")).unwrap();
    let reference: Value = serde_json::from_slice(&reference).unwrap();
    assert_eq!(
        reference["options"][0]["acted"], "acted",
        "off is proved: {reference:#}"
    );

    let other = dir.path().join("other");
    let (code, verdicts, _) = replay(
        &capture,
        &other,
        &["--ladder", &ladder("ConvActivationFusio")],
    );
    assert_eq!((code, verdict(&verdicts, "without")), (4, "failed"));
    let reason = verdicts["stages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["name"] == "without");
    let reason = reason.unwrap()["reason"].as_str().unwrap();
    assert!(
        reason.contains("did you mean `ConvActivationFusion`?"),
        "{reason}"
    );
}

#[test]
fn one_bad_request_is_an_outcome_and_a_wrong_model_is_said_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let one_wrong = capture(dir.path(), |seq| {
        let mut t = images(seq, 1);
        if seq == 7 {
            t.shape = vec![1, 1, 4, 16];
        }
        vec![t]
    });
    let (_, verdicts, _) = replay(&one_wrong, &dir.path().join("run"), &[]);
    let outcomes = &verdicts["stages"][1]["outcomes"];
    assert_eq!(
        (
            outcomes["compared"].as_u64(),
            outcomes["both_failed"].as_u64()
        ),
        (Some(59), Some(1))
    );

    let other = tempfile::tempdir().unwrap();
    let misnamed = capture(other.path(), |seq| {
        let mut t = images(seq, 1);
        t.name = "img".into();
        vec![t]
    });
    let (code, _, errors) = replay(&misnamed, &other.path().join("run"), &[]);
    assert_eq!(code, 2);
    assert!(
        errors.contains("input `image` is in no captured request"),
        "{errors}"
    );
    assert!(errors.contains("the model has no input `img`"), "{errors}");
}

#[test]
fn what_cannot_be_opened_is_said_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let capture = capture(dir.path(), |seq| vec![images(seq, 1)]);
    let nonsense = dir.path().join("nonsense.onnx");
    std::fs::write(&nonsense, "no model").unwrap();
    let run = dir.path().join("run");
    let (code, _, errors) = replay(&capture, &run, &["--model", nonsense.to_str().unwrap()]);
    assert!(code == 2 && errors.contains("nonsense.onnx"), "{errors}");
    let run = dir.path().join("run2");
    let (code, _, errors) = replay(&capture, &run, &["--library", nonsense.to_str().unwrap()]);
    assert!(
        code == 2 && errors.contains("is no shared library"),
        "{errors}"
    );
    let run = dir.path().join("run3");
    let (code, _, errors) = replay(&capture, &run, &["--metric", "top-1"]);
    assert!(
        code == 2 && errors.contains("Did you mean `top1`?"),
        "{errors}"
    );
    // A provider that is not there is unavailable, in the runtime's own words, and no success.
    let ladder = dir.path().join("gpu.toml");
    let text = "base = \"onnxruntime-cpu\"\n[[stage]]\nname = \"gpu\"\ninherits = \"all\"\nproviders = [{ name = \"cuda\" }]\n";
    std::fs::write(&ladder, text).unwrap();
    let run = dir.path().join("run4");
    let (code, verdicts, _) = replay(&capture, &run, &["--ladder", ladder.to_str().unwrap()]);
    assert_eq!(
        (code, verdict(&verdicts, "gpu")),
        (3, "unavailable"),
        "{verdicts:#}"
    );
}

#[test]
fn judging_again_needs_no_runtime_and_no_capture() {
    let dir = tempfile::tempdir().unwrap();
    let path = capture(dir.path(), |seq| vec![images(seq, 1)]);
    let ladder = dir.path().join("int8.toml");
    let int8 = digits("digits.int8-bad.onnx");
    let text = format!(
        "base = \"onnxruntime-cpu\"\n[[stage]]\nname = \"bad\"\ninherits = \"reference\"\nmodel = \"{int8}\"\n"
    );
    std::fs::write(&ladder, text).unwrap();
    let run = dir.path().join("run");
    let (code, by_tolerance, _) = replay(&path, &run, &["--ladder", ladder.to_str().unwrap()]);
    assert_eq!((code, verdict(&by_tolerance, "bad")), (3, "inconclusive"));
    std::fs::remove_dir_all(&path).unwrap();
    let judge = |more: &[&str]| {
        let out = inferdiff(&[&["judge", run.to_str().unwrap(), "--json"], more].concat());
        (
            out.status.code().unwrap(),
            serde_json::from_slice::<Value>(&out.stdout).unwrap_or_default(),
        )
    };
    // Random images are far from digits: int8-bad flips many of them.
    let (code, by_agreement) = judge(&["--metric", "top1"]);
    assert_eq!(
        (code, verdict(&by_agreement, "bad")),
        (1, "may_affect"),
        "{by_agreement:#}"
    );
    let (code, _) = judge(&["--metric", "top1@nothing"]);
    assert_eq!(code, 2);
    let (_, again) = judge(&[]);
    assert_eq!(again, by_tolerance);
}

#[test]
fn exchanges_that_kill_a_stage_are_named_and_the_rest_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    let path = capture(dir.path(), |seq| vec![images(seq, 1)]);
    let ladder = dir.path().join("scripted.toml");
    let text = "[[stage]]\nname = \"echo\"\nruntime = \"scripted\"\n\
                [[stage]]\nname = \"dies\"\nruntime = \"scripted\"\nconfig = { fault.kind = \"crash\", fault.seq = \"7,41\" }\n";
    std::fs::write(&ladder, text).unwrap();
    let run = dir.path().join("run");
    let (_, verdicts, errors) = replay(&path, &run, &["--ladder", ladder.to_str().unwrap()]);
    let stage = &verdicts["stages"][1];
    let outcomes = &stage["outcomes"];
    let counts = (
        outcomes["compared"].as_u64(),
        outcomes["stage_failed"].as_u64(),
    );
    assert_eq!(counts, (Some(58), Some(2)), "{stage:#} {errors}");
    assert_eq!(stage["outputs"][0]["bit_equal"].as_u64(), Some(58));
    let faults = std::fs::read(run.join("stages/dies/faults.json")).unwrap();
    let faults: Value = serde_json::from_slice(&faults).unwrap();
    let named: Vec<_> = faults.as_object().unwrap().keys().cloned().collect();
    let recorder = Ulid::from_parts(7, 7);
    assert_eq!(named, [format!("{recorder}-41"), format!("{recorder}-7")]);
    let how = faults[&named[0]].as_str().unwrap();
    assert!(how.contains("signal 6"), "{how}");
}

#[test]
fn a_stage_whose_answers_cannot_be_compared_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let path = capture(dir.path(), |seq| vec![images(seq, 1)]);
    let ladder = dir.path().join("renamed.toml");
    let text = "base = \"onnxruntime-cpu\"\n[[stage]]\nname = \"renamed\"\ninherits = \"reference\"\n\
                [stage.outputs]\nother = { from = 0 }\n";
    std::fs::write(&ladder, text).unwrap();
    for (run, metric) in [
        ("tolerance", &[][..]),
        ("metric", &["--metric", "top1"][..]),
    ] {
        let args = [&["--ladder", ladder.to_str().unwrap()], metric].concat();
        let (code, verdicts, _) = replay(&path, &dir.path().join(run), &args);
        assert_eq!(
            (code, verdict(&verdicts, "renamed")),
            (4, "failed"),
            "{verdicts:#}"
        );
    }
}

#[test]
fn the_answers_of_another_run_are_a_stage_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = capture(dir.path(), |seq| vec![images(seq, 1 + seq as usize % 3)]);
    let before = dir.path().join("before#1");
    let scripted = dir.path().join("scripted.toml");
    let text = "[[stage]]\nname = \"echo\"\nruntime = \"scripted\"\n\
                [[stage]]\nname = \"dies\"\nruntime = \"scripted\"\nconfig = { fault.kind = \"crash\", fault.seq = \"7,41\" }\n\
                [[stage]]\nname = \"bit\"\nruntime = \"scripted\"\nconfig = { fault.kind = \"flip\", fault.seq = \"3,50\" }\n";
    std::fs::write(&scripted, text).unwrap();
    let (_, first, errors) = replay(&path, &before, &["--ladder", scripted.to_str().unwrap()]);
    assert_eq!(
        first["stages"].as_array().map(Vec::len),
        Some(3),
        "{errors}"
    );

    let ladder = dir.path().join("again.toml");
    let stage = |name: &str| {
        format!(
            "[[stage]]\nname = \"{name}\"\nruntime = \"recorded\"\nfrom = \"before#1#{name}\"\n"
        )
    };
    let text = "[[stage]]\nname = \"here\"\nruntime = \"scripted\"\n".to_owned();
    std::fs::write(
        &ladder,
        text + &stage("echo") + &stage("dies") + &stage("bit"),
    )
    .unwrap();
    let after = dir.path().join("after");
    let (_, verdicts, errors) = replay(&path, &after, &["--ladder", ladder.to_str().unwrap()]);
    assert_eq!(
        verdict(&verdicts, "echo"),
        "identical",
        "{verdicts:#} {errors}"
    );
    for (i, name) in [(1, "dies"), (2, "bit")] {
        let (was, is) = (&first["stages"][i], &verdicts["stages"][i + 1]);
        assert_eq!(was["outputs"], is["outputs"], "{name}");
        assert_eq!(was["outcomes"], is["outcomes"], "{name}");
    }
    assert_eq!(verdicts["stages"][3]["outputs"][0]["bit_equal"], 58);

    // A stage that is not there, and a run of another capture.
    let write = |from: &str| {
        let text = format!(
            "[[stage]]\nname = \"here\"\nruntime = \"scripted\"\n\
             [[stage]]\nname = \"there\"\nruntime = \"recorded\"\nfrom = \"{from}\"\n"
        );
        std::fs::write(&ladder, text).unwrap();
    };
    let ladder = ladder.to_str().unwrap();
    for (from, words) in [
        (
            "before#1#bits",
            "has no stage `bits`; it has echo, dies, bit",
        ),
        ("nowhere#echo", "there is no run at"),
        ("before", "RUN#STAGE"),
    ] {
        write(from);
        let run = dir.path().join("wrong");
        let run = run.to_str().unwrap();
        let out = inferdiff(&[
            "replay",
            path.to_str().unwrap(),
            "--ladder",
            ladder,
            "--run",
            run,
        ]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
    write("before#1#echo");
    let other = tempfile::tempdir().unwrap();
    let others = (100..110).map(|seq| exchange(seq, vec![images(seq, 1)]));
    let others = self::write(other.path(), 5, others);
    let run = other.path().join("run");
    let (_, verdicts, _) = replay(&others, &run, &["--ladder", ladder]);
    let stage = &verdicts["stages"][1];
    assert_eq!(stage["outcomes"]["stage_failed"], 10, "{stage:#}");
    assert!(
        stage["named"][0]["why"]
            .as_str()
            .unwrap()
            .contains("did not replay it")
    );
}
