//! What is committed together: row groups of little traffic, put together and read again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail loudly, and its numbers are small"
)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::replay::{exchange, images, inferdiff, replay, results, write};
use inferdiff_replay::filter::Condition;
use inferdiff_replay::source::{Plan, Selection, exchanges, plan};
use inferdiff_schemas::capture::{Capture, Projection};
use inferdiff_schemas::storage::Disk;
use proptest::prelude::*;

fn open(path: &Path) -> Capture {
    Capture::open(Arc::new(Disk), path).unwrap()
}

fn read(capture: &Capture, plan: &Plan) -> Vec<Vec<u64>> {
    let seqs = |chunk| {
        let batches = exchanges(capture, chunk, Projection::Keys).unwrap();
        batches
            .flat_map(|batch| batch.unwrap())
            .map(|e| e.seq)
            .collect()
    };
    plan.chunks.iter().map(seqs).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_hold_what_was_chosen_once_in_order_and_no_more_than_asked(
        each in 1_usize..5,
        segment in 1_usize..12,
        count in 1_u64..60,
        every in 1_u64..20,
        sample in prop::option::of(0.2_f64..1.0),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let all = (0..count).map(|seq| exchange(seq, vec![images(seq, 1)]));
        let path = common::replay::write_in(dir.path(), each, segment, all);
        let capture = open(&path);
        let selection = Selection { sample, ..Selection::default() };
        let mut chosen: Vec<u64> = Vec::new();
        let planned = plan(&capture, &selection, every, &mut |r| {
            chosen.push(r.seq);
            Ok(())
        });
        let Ok(plan) = planned else {
            // Nobody was drawn.
            return Ok(());
        };
        let read = read(&capture, &plan);
        prop_assert_eq!(read.concat(), chosen);
        for (chunk, read) in plan.chunks.iter().zip(&read) {
            prop_assert_eq!(chunk.exchanges(), read.len() as u64);
            prop_assert!(chunk.exchanges() <= every || chunk.row_groups == 1);
        }
        // As few as can be: two neighbours of a segment would not have gone into one.
        for pair in plan.chunks.windows(2) {
            let alone = pair[0].segment != pair[1].segment;
            let second = read_of_first_group(&capture, &pair[1]);
            prop_assert!(alone || pair[0].exchanges() + second > every);
        }
    }
}

fn read_of_first_group(capture: &Capture, chunk: &inferdiff_schemas::run::manifest::Chunk) -> u64 {
    let rows = capture
        .segment(&chunk.segment)
        .unwrap()
        .rows_of(chunk.row_group);
    (0..rows).filter(|&row| chunk.contains(row)).count() as u64
}

#[test]
fn row_groups_of_which_nothing_is_replayed_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let all = (0..30).map(|seq| exchange(seq, vec![images(seq, 1)]));
    let path = common::replay::write_in(dir.path(), 3, 10, all);
    let capture = open(&path);
    let filter = ["seq!=9", "seq!=10", "seq!=11", "seq>=4", "seq<20"];
    let filter = filter.map(|c| Condition::parse(c).unwrap()).to_vec();
    let selection = Selection {
        filter,
        ..Selection::default()
    };
    let plan = plan(&capture, &selection, 1000, &mut |_| Ok(())).unwrap();
    let [chunk] = &plan.chunks[..] else {
        panic!("{:?}", plan.chunks)
    };
    assert_eq!((chunk.row_group, chunk.row_groups), (1, 6));
    assert_eq!(chunk.rows, [[1, 6], [9, 17]]);
    let wanted: Vec<u64> = (4..9).chain(12..20).collect();
    assert_eq!(read(&capture, &plan), [wanted]);
}

#[test]
fn what_took_production_long_is_committed_sooner() {
    let dir = tempfile::tempdir().unwrap();
    let groups = |name: &str, end_ns: u64| {
        let slow = |seq| inferdiff_schemas::Exchange {
            end_ns,
            ..exchange(seq, vec![images(seq, 1)])
        };
        let path = dir.path().join(name);
        let path = common::replay::write_in(&path, 75, 10, (0..750).map(slow));
        let plan = plan(&open(&path), &Selection::default(), 1000, &mut |_| Ok(())).unwrap();
        let chunks = plan.chunks.iter();
        chunks.map(|c| c.row_groups).collect::<Vec<_>>()
    };
    // Four seconds hold two row groups of two seconds.
    assert_eq!(groups("slow", 2_000_000_000 / 75), [2, 2, 2, 2, 2]);
    // A hundred exchanges may take longer, not 150.
    assert_eq!(groups("slowest", 3_000_000_000), [1; 10]);
    assert_eq!(groups("fast", 1_000_000), [10]);
    assert_eq!(groups("untimed", 0), [10]);
}

#[test]
fn what_is_committed_together_changes_no_answer_and_a_run_keeps_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let all = (0..40).map(|seq| exchange(seq, vec![images(seq, 1)]));
    let capture = write(dir.path(), 5, all);
    let (few, many) = (dir.path().join("few"), dir.path().join("many"));
    let (code, verdicts, errors) = replay(&capture, &few, &[]);
    assert_eq!(code, 0, "{errors}");
    let (_, often, errors) = replay(&capture, &many, &["--commit-every", "1"]);
    assert_eq!(verdicts, often, "{errors}");
    let files = |run: &Path| {
        let all = results(run);
        let of = |p: &&std::path::PathBuf| p.starts_with("stages/all/comparisons");
        all.keys().filter(of).count()
    };
    // Two row groups are a segment here.
    assert_eq!((files(&few), files(&many)), (4, 8));

    std::fs::remove_file(few.join("stages/all/status.json")).unwrap();
    let (run, capture) = (few.to_str().unwrap(), capture.to_str().unwrap());
    let model = common::replay::digits("digits.fp32.onnx");
    let line = ["replay", capture, "--run", run, "--model", &model];
    let out = inferdiff(
        &[
            &line[..],
            &["--repeats", "1", "--probe", "none", "--commit-every", "7"],
        ]
        .concat(),
    );
    let errors = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{errors}");
    assert!(errors.contains("what differs: --commit-every"), "{errors}");
}

#[test]
fn a_capture_of_more_segments_than_a_shell_allows_files_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let all = (0..80).map(|seq| exchange(seq, vec![images(seq, 1)]));
    let capture = common::replay::write_in(dir.path(), 1, 1, all);
    let script = "ulimit -S -n 60 && exec \"$@\"";
    let out = std::process::Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_inferdiff")])
        .args(["captures", "verify", capture.to_str().unwrap()])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{told}");
    assert!(told.contains("80"), "{told}");
}
