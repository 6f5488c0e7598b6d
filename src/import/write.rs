//! `samples → Capture`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use inferdiff_schemas::capture::{CaptureMeta, CaptureWriter, Ledger, RecorderMeta, WriterOptions};
use inferdiff_schemas::digest::input_digest;
use inferdiff_schemas::storage::Disk;
use inferdiff_schemas::{Exchange, Tensor};
use serde::Serialize;
use ulid::Ulid;

use super::{ImportError, Roles, Sample, Samples};

/// What is known of all samples.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Model.
    pub model: Option<String>,
    /// Its version.
    pub model_version: Option<String>,
    /// Facts for the environment's fingerprint.
    pub notes: BTreeMap<String, String>,
    /// The model's file.
    pub model_file: Option<inferdiff_schemas::run::evidence::ModelIdentity>,
    /// RFC 3339, UTC.
    pub now: String,
    /// The same, ns since the Unix epoch.
    pub now_ns: i64,
}

/// What became of the samples.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Imported {
    /// Requests written.
    pub requests: u64,
    /// Of them with answers.
    pub with_answers: u64,
    /// Datatype and rank of every array, by name, as the first sample has them.
    pub arrays: BTreeMap<String, String>,
    /// Samples left out.
    pub left_out: u64,
    /// The first of them, each with the reason.
    pub problems: Vec<String>,
}

/// Problems that are told one by one.
const TOLD: usize = 20;

/// Writes a new capture.
///
/// # Errors
/// The capture cannot be written, or nothing at all could be imported: then the first reason.
pub fn import(
    samples: Samples,
    roles: &Roles,
    origin: &Origin,
    into: &Path,
) -> Result<Imported, ImportError> {
    let recorder = Ulid::generate();
    let mut meta = RecorderMeta::new(recorder, origin.now.clone());
    meta.notes.clone_from(&origin.notes);
    meta.model_file.clone_from(&origin.model_file);
    let (mut writer, _) = CaptureWriter::open(
        Arc::new(Disk),
        into,
        CaptureMeta::new(origin.now.clone()),
        meta,
        WriterOptions::default(),
    )?;
    let (mut ledger, mut done) = (Ledger::default(), Imported::default());
    let mut problem = |left_out: &mut u64, why: String| {
        *left_out += 1;
        if done.problems.len() < TOLD {
            done.problems.push(why);
        }
    };
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let (mut requests, mut with_answers, mut left_out) = (0u64, 0u64, 0u64);
    for sample in samples {
        let sample = match sample {
            Ok(sample) => sample,
            Err(e) => {
                problem(&mut left_out, e.to_string());
                continue;
            }
        };
        let place = sample.place.clone();
        let parts = match roles.apply(sample) {
            Ok(parts) => parts,
            Err(why) => {
                problem(&mut left_out, format!("{place}: {why}"));
                continue;
            }
        };
        for part in parts {
            let arrays = described(&part);
            if known.is_empty() {
                known.clone_from(&arrays);
            }
            if let Some(why) = ragged(&known, &arrays) {
                problem(&mut left_out, format!("{}: ragged: {why}", part.place));
                continue;
            }
            with_answers += u64::from(!part.answers.is_empty());
            let e = exchange(recorder, requests, part, origin);
            requests += 1;
            ledger.accepted += 1;
            ledger.in_flight += 1;
            writer.append(e);
            if writer.due(Instant::now()) {
                writer.checkpoint(&mut ledger)?;
            }
        }
    }
    writer.close(&mut ledger, origin.now.clone())?;
    done.requests = requests;
    done.with_answers = with_answers;
    done.left_out = left_out;
    done.arrays = known;
    if requests == 0 {
        let why = done.problems.first().cloned();
        return Err(ImportError::at(
            into,
            format!(
                "nothing could be imported: {}",
                why.unwrap_or_else(|| "there is no sample".to_owned())
            ),
        ));
    }
    Ok(done)
}

/// Datatype and rank of each array: what all samples must share. Sizes may vary.
fn described(sample: &Sample) -> BTreeMap<String, String> {
    let of = |kind: &'static str| {
        move |t: &Tensor| {
            let text = format!("{kind}, {} of rank {}", t.datatype, t.shape.len());
            (t.name.clone(), text)
        }
    };
    let inputs = sample.tensors.iter().map(of("input"));
    inputs
        .chain(sample.answers.iter().map(of("answer")))
        .collect()
}

fn ragged(known: &BTreeMap<String, String>, arrays: &BTreeMap<String, String>) -> Option<String> {
    known
        .iter()
        .find_map(|(name, first)| match arrays.get(name) {
            None => Some(format!("`{name}` is missing")),
            Some(here) if here != first => {
                Some(format!("`{name}` is {here}, in the first it is {first}"))
            }
            Some(_) => None,
        })
        .or_else(|| {
            let new = arrays.keys().find(|name| !known.contains_key(*name))?;
            Some(format!("`{new}` is not in the first"))
        })
}

fn exchange(recorder: Ulid, seq: u64, sample: Sample, origin: &Origin) -> Exchange {
    let nth = i64::try_from(seq).unwrap_or(i64::MAX);
    Exchange {
        protocol: "import".to_owned(),
        model: origin.model.clone(),
        model_version: origin.model_version.clone(),
        client_request_id: sample.id,
        // Nothing arrived anywhere, but the order is known.
        arrived_at_ns: origin.now_ns.saturating_add(nth),
        path: sample.place,
        input_digest: (!sample.tensors.is_empty()).then(|| input_digest(&sample.tensors)),
        inputs: (!sample.tensors.is_empty()).then_some(sample.tensors),
        outputs: (!sample.answers.is_empty()).then_some(sample.answers),
        ..Exchange::new(recorder, seq)
    }
}
