//! The power fails at every single operation, and what was never made durable is lost or torn:
//! every exchange of a finished checkpoint comes back by value, nothing else does, and the books
//! balance.

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
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::{accept, capture_meta, exchange, recorder_meta};
use inferdiff_schemas::Exchange;
use inferdiff_schemas::capture::{
    Capture, CaptureError, CaptureWriter, Ledger, MergeOptions, Projection, Retention, Upkeep,
    WriterOptions, verify,
};
use inferdiff_schemas::storage::Simulated;
use proptest::prelude::*;
use ulid::Ulid;

const DIR: &str = "/capture";

/// What happens to a capture.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// This many exchanges of this many payload bytes, and a checkpoint.
    Checkpoint(u8, u16),
    /// The recorder stops and another one starts.
    Restart,
    /// Sealed neighbours are merged.
    Merge,
    /// Exchanges with this number are deleted, whoever recorded them.
    Delete(u64),
    /// The oldest sealed segment leaves.
    Retire,
}

/// What must and what may be in the capture.
#[derive(Default)]
struct Model {
    sent: BTreeMap<(Ulid, u64), Exchange>,
    durable: BTreeSet<(Ulid, u64)>,
    /// Deletion of them was begun: they may be gone.
    leaving: BTreeSet<(Ulid, u64)>,
    /// Deletion of them has ended: they must be gone.
    gone: BTreeSet<(Ulid, u64)>,
}

/// SplitMix64 (Steele, Lea, Flood 2014): choices that a seed repeats.
struct Choices(u64);

impl Choices {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

fn start(disk: &Simulated) -> Result<(Ulid, CaptureWriter), CaptureError> {
    let recorder = Ulid::generate();
    let options = WriterOptions {
        max_row_groups: 2,
        ..WriterOptions::default()
    };
    let storage = Arc::new(disk.clone());
    let meta = recorder_meta(recorder);
    let (writer, _) = CaptureWriter::open(storage, Path::new(DIR), capture_meta(), meta, options)?;
    Ok((recorder, writer))
}

fn upkeep(disk: &Simulated) -> Result<Upkeep, CaptureError> {
    let locked = Upkeep::lock(Arc::new(disk.clone()), Path::new(DIR))?;
    Ok(locked.expect("this test has one process"))
}

fn open(disk: &Simulated) -> Result<Capture, CaptureError> {
    Capture::open(Arc::new(disk.clone()), Path::new(DIR))
}

/// The exchanges in sealed segments.
fn sealed(disk: &Simulated) -> Result<BTreeSet<(Ulid, u64)>, CaptureError> {
    let capture = open(disk)?;
    let mut all = BTreeSet::new();
    for segment in capture.segments().iter().filter(|s| s.sealed) {
        for group in 0..segment.row_groups {
            let rows = capture.read(segment, group, Projection::Keys)?;
            all.extend(rows.iter().map(|e| (e.recorder, e.seq)));
        }
    }
    Ok(all)
}

/// Runs the steps until they end or the power fails.
fn run(disk: &Simulated, steps: &[Step], model: &mut Model) -> Result<(), CaptureError> {
    let (mut recorder, mut writer) = start(disk)?;
    let (mut ledger, mut seq) = (Ledger::default(), 0);
    for step in steps {
        match *step {
            Step::Checkpoint(n, size) => {
                let mut batch = Vec::new();
                for _ in 0..n {
                    let payload = Bytes::from(vec![seq as u8 + 1; size.into()]);
                    let e = exchange(recorder, seq, payload);
                    batch.push((recorder, seq));
                    model.sent.insert((recorder, seq), e.clone());
                    accept(&mut writer, &mut ledger, e);
                    seq += 1;
                }
                let recorded = ledger.recorded;
                let done = writer.checkpoint(&mut ledger);
                // What the ledger says is recorded is durable, even where rotating failed.
                if ledger.recorded > recorded {
                    model.durable.extend(batch);
                }
                done?;
            }
            Step::Restart => {
                writer.close(&mut ledger, "2026-01-01T00:00:01Z".into())?;
                (recorder, writer) = start(disk)?;
                (ledger, seq) = (Ledger::default(), 0);
            }
            Step::Merge => {
                let options = MergeOptions {
                    fan_in: 2,
                    ..MergeOptions::default()
                };
                upkeep(disk)?.merge(&options, &mut |_| true)?;
            }
            Step::Delete(of) => {
                let sealed = sealed(disk)?;
                let chosen = sealed.into_iter().filter(|&(_, seq)| seq == of);
                let chosen: Vec<_> = chosen.collect();
                model.leaving.extend(chosen.iter().copied());
                upkeep(disk)?.delete(&|e| e.seq == of, &mut |_| true)?;
                model.gone.extend(chosen);
            }
            Step::Retire => {
                model.leaving.extend(sealed(disk)?);
                let total: u64 = open(disk)?.segments().iter().map(|s| s.bytes).sum();
                let keep = Retention {
                    max_bytes: Some(total.saturating_sub(1)),
                    max_age: None,
                };
                upkeep(disk)?.retain(&keep, 0)?;
            }
        }
    }
    writer.close(&mut ledger, "2026-01-01T00:00:02Z".into())
}

fn check(disk: &Simulated, model: &Model, what: &str) {
    let capture = open(disk).unwrap();
    let report = verify(&capture).unwrap();
    assert!(report.ok, "{what}: {:?}", report.problems);
    let mut found = BTreeMap::new();
    for segment in capture.segments() {
        for group in 0..segment.row_groups {
            for e in capture.read(segment, group, Projection::Full).unwrap() {
                let key = (e.recorder, e.seq);
                assert_eq!(Some(&e), model.sent.get(&key), "{what}: never sent so");
                assert!(
                    found.insert(key, ()).is_none(),
                    "{what}: {key:?} is twice there"
                );
            }
        }
    }
    for key in model.durable.difference(&model.leaving) {
        assert!(found.contains_key(key), "{what}: {key:?} is lost");
    }
    for key in &model.gone {
        assert!(!found.contains_key(key), "{what}: {key:?} is back");
    }
}

/// Cuts the power at operation `at`, again `later` operations into the recovery, and checks.
fn crash(steps: &[Step], at: u64, later: u64, seed: u64) {
    let what = format!("power cut at {at}, then at {later}, seed {seed}");
    let disk = Simulated::new();
    let mut model = Model::default();
    let mut choices = Choices(seed);
    disk.cut_power_after(at);
    let _ = run(&disk, steps, &mut model);
    disk.reboot(&mut |n| choices.below(n));
    disk.cut_power_after(later);
    if let Ok((_, writer)) = start(&disk) {
        let _ = writer.close(&mut Ledger::default(), "later".into());
    }
    disk.reboot(&mut |n| choices.below(n));
    let (_, writer) = start(&disk).unwrap_or_else(|e| panic!("{what}: {e}"));
    writer
        .close(&mut Ledger::default(), "at last".into())
        .unwrap();
    check(&disk, &model, &what);
}

#[test]
fn the_power_may_fail_at_every_operation() {
    let steps = [
        Step::Checkpoint(2, 300),
        Step::Checkpoint(1, 5000),
        Step::Checkpoint(1, 10),
        Step::Restart,
        Step::Checkpoint(3, 100),
        Step::Checkpoint(1, 1),
        Step::Checkpoint(1, 700),
        Step::Checkpoint(1, 7),
        Step::Merge,
        Step::Delete(1),
        Step::Retire,
    ];
    let disk = Simulated::new();
    run(&disk, &steps, &mut Model::default()).unwrap();
    let operations = disk.operations();
    for at in 0..operations {
        for seed in 0..3 {
            crash(&steps, at, at.wrapping_mul(7) % 23, at << 8 | seed);
        }
    }
    println!(
        "| power cut at every operation of a history, again during recovery | {} | every finished \
         checkpoint came back by value, nothing deleted came back, all books balance |",
        3 * operations
    );
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..4, 0u16..6000).prop_map(|(n, size)| Step::Checkpoint(n, size)),
        1 => Just(Step::Restart),
        1 => Just(Step::Merge),
        1 => (0u64..4).prop_map(Step::Delete),
        1 => Just(Step::Retire),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_history_survives_any_two_power_cuts(
        steps in prop::collection::vec(any_step(), 1..10),
        at in 0u64..250,
        later in 0u64..40,
        seed in any::<u64>(),
    ) {
        crash(&steps, at, later, seed);
    }
}
