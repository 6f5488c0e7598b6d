//! Which stage and which exchange show most, and what must come before it.

use inferdiff_replay::source::exchanges;
use inferdiff_schemas::Exchange;
use inferdiff_schemas::capture::{Capture, Projection};
use inferdiff_schemas::run::comparison::{Comparison, Outcome};
use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::Manifest;
use inferdiff_schemas::run::requests::{RequestColumns, RequestReader};
use inferdiff_schemas::run::{ComparisonColumns, ComparisonReader};
use inferdiff_schemas::storage::Disk;
use std::sync::Arc;
use ulid::Ulid;

use super::{MOST_BEFORE, ReproOptions};

/// The exchange that is reproduced.
pub(super) struct Chosen {
    pub stage: Stage,
    pub recorder: Ulid,
    pub seq: u64,
    /// `<recorder>-<seq>`.
    pub id: String,
    /// What the run says of it, one line an output.
    pub says: Vec<String>,
}

/// Requests in the order in which they were replayed, the chosen one last.
pub(super) struct Requests {
    pub all: Vec<Exchange>,
    /// How many of them must come before it in any case: earlier ones of its sequence.
    pub least: usize,
}

pub(super) fn choose(
    layout: &RunLayout,
    manifest: &Manifest,
    options: &ReproOptions,
) -> Result<Chosen, String> {
    let stages = manifest.ladder.stages.iter().skip(1);
    let named: Vec<&Stage> = match &options.stage {
        None => stages.filter(|s| s.runtime != "recorded").collect(),
        Some(name) => {
            let found: Vec<_> = stages.filter(|s| s.name == *name).collect();
            if found.is_empty() {
                let all: Vec<_> = manifest
                    .ladder
                    .stages
                    .iter()
                    .map(|s| s.name.as_str())
                    .collect();
                return Err(format!(
                    "no stage `{name}` beside the reference: there are {}",
                    all.join(", ")
                ));
            }
            found
        }
    };
    let wanted = match &options.request {
        None => None,
        Some(id) => Some(find(layout, id)?),
    };
    for stage in named {
        let mut worst: Option<(f64, Comparison)> = None;
        for chunk in &manifest.chunks {
            let path = layout.comparisons(&stage.name, &chunk.name);
            if !path.exists() {
                continue;
            }
            let rows = ComparisonReader::open(&path, ComparisonColumns::All);
            for row in rows.map_err(|e| e.to_string())? {
                let row = row.map_err(|e| e.to_string())?;
                let here = wanted.is_none_or(|w| w == (row.recorder, row.seq));
                let size = size(&row);
                if here && size > 0.0 && worst.as_ref().is_none_or(|(most, _)| size > *most) {
                    worst = Some((size, row));
                }
            }
        }
        if let Some((_, row)) = worst {
            return Ok(Chosen {
                stage: stage.clone(),
                recorder: row.recorder,
                seq: row.seq,
                id: Exchange::id_of(row.recorder, row.seq),
                says: vec![words(&row)],
            });
        }
    }
    Err(match (&options.stage, &options.request) {
        (_, Some(id)) => format!("exchange {id} has equal bits in every stage: nothing to show"),
        (Some(stage), None) => {
            format!("stage `{stage}` has equal bits everywhere: nothing to show")
        }
        (None, None) => "every stage has equal bits everywhere: nothing to show".to_owned(),
    })
}

/// How much a row tells: failures most, then non-finite values, then the relative distance.
fn size(row: &Comparison) -> f64 {
    match row.outcome {
        Outcome::Compared if row.bits_equal => 0.0,
        Outcome::Compared if row.nonfinite_mismatches > 0 => 1e300,
        Outcome::Compared => row.rel_l2.unwrap_or(0.0).max(f64::MIN_POSITIVE),
        Outcome::StageFailed | Outcome::ShapeMismatch | Outcome::MissingOutput => f64::INFINITY,
        _ => 0.0,
    }
}

fn words(row: &Comparison) -> String {
    let number = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), |v| format!("{v:.6e}"));
    match row.outcome {
        Outcome::Compared => format!(
            "output `{}`, item {}: max |a − b| {}, relative l2 {}, {} elements of another class",
            row.output,
            row.item,
            number(row.max_abs),
            number(row.rel_l2),
            row.nonfinite_mismatches
        ),
        other => format!(
            "output `{}`: {} ({})",
            row.output,
            other.name(),
            row.error.as_deref().unwrap_or("")
        ),
    }
}

fn find(layout: &RunLayout, id: &str) -> Result<(Ulid, u64), String> {
    let fail = |e: inferdiff_schemas::run::RunFileError| e.to_string();
    let mut found = None;
    let mut all = 0u64;
    for row in RequestReader::open(&layout.requests(), RequestColumns::Ids).map_err(fail)? {
        let row = row.map_err(fail)?;
        all += 1;
        let named = Exchange::id_of(row.recorder, row.seq) == id
            || row.client_request_id.as_deref() == Some(id);
        if !named {
            continue;
        }
        if found.replace((row.recorder, row.seq)).is_some() {
            return Err(format!(
                "several exchanges have the client's id `{id}`: name one by <recorder>-<seq>"
            ));
        }
    }
    found.ok_or_else(|| format!("no exchange `{id}` in the run: it has {all} exchanges"))
}

/// Reads the chosen exchange and those before it. Of a sequence only its own come before it.
pub(super) fn requests(manifest: &Manifest, chosen: &Chosen) -> Result<Requests, String> {
    let fail = |e: inferdiff_schemas::capture::CaptureError| {
        format!("the run's capture is needed for its inputs: {e}")
    };
    let capture = Capture::open(Arc::new(Disk), &manifest.capture).map_err(fail)?;
    let mut all: Vec<Exchange> = Vec::new();
    for chunk in &manifest.chunks {
        for batch in exchanges(&capture, chunk, Projection::Full).map_err(fail)? {
            for e in batch.map_err(fail)? {
                let last = (e.recorder, e.seq) == (chosen.recorder, chosen.seq);
                all.push(e);
                if last {
                    return Ok(before(all));
                }
            }
            // Only the neighbours may be needed; earlier ones need not stay in memory.
            if all.len() > 2 * MOST_BEFORE && all.iter().all(|e| e.sequence_id.is_none()) {
                all.drain(..all.len() - MOST_BEFORE);
            }
        }
    }
    Err(format!(
        "exchange {} is not in the capture any more",
        chosen.id
    ))
}

fn before(mut all: Vec<Exchange>) -> Requests {
    let sequence = all.last().and_then(|e| e.sequence_id.clone());
    if sequence.is_some() {
        all.retain(|e| e.sequence_id == sequence);
        let least = all.len() - 1;
        return Requests { all, least };
    }
    all.retain(|e| e.sequence_id.is_none());
    Requests { all, least: 0 }
}
