//! `Capture → source`: what of a capture can be replayed, in which order, and why the rest cannot.

use std::collections::{BTreeMap, BTreeSet};

use inferdiff_schemas::capture::{Capture, CaptureError, Projection};
use inferdiff_schemas::run::manifest::{Chunk, InputSeen};
use inferdiff_schemas::run::requests::RequestRow;
use inferdiff_schemas::xxh3::Hash128;
use inferdiff_schemas::{Exchange, Payload};

/// What to take of a capture.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// `model` and `model_version`, where given.
    pub filter: BTreeMap<String, String>,
    /// At most this many exchanges.
    pub limit: Option<u64>,
}

/// What is replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In order of segment and row group.
    pub chunks: Vec<Chunk>,
    /// One per replayed exchange, in the same order.
    pub requests: Vec<RequestRow>,
    /// Inputs as the exchanges carry them.
    pub inputs: Vec<InputSeen>,
    /// Exchanges left out, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// At least one exchange carries production's answer.
    pub has_production: bool,
    /// Digest of what was read.
    pub capture_digest: String,
}

/// Why nothing can be planned.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The capture itself.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Nothing is left to replay.
    #[error("nothing in {capture} can be replayed: {why}")]
    Nothing {
        /// The capture.
        capture: String,
        /// Counts by reason.
        why: String,
    },
    /// Several models and nobody chose.
    #[error("{capture} holds several models ({models}): choose one with --where model=NAME")]
    SeveralModels {
        /// The capture.
        capture: String,
        /// Their names.
        models: String,
    },
}

/// Plans a replay: reads keys and shapes, no payload.
///
/// # Errors
/// [`SourceError`]. Segments that cannot be read are an error: a verdict over a part of the traffic
/// would pass for one over all of it.
pub fn plan(capture: &Capture, selection: &Selection) -> Result<Plan, SourceError> {
    let name = capture.layout().root().display().to_string();
    if let Some(damage) = capture.unreadable().first() {
        return Err(CaptureError::damaged(capture.layout().root(), damage).into());
    }
    let mut digest = Hash128::new();
    let mut plan = Plan {
        chunks: Vec::new(),
        requests: Vec::new(),
        inputs: Vec::new(),
        left_out: BTreeMap::new(),
        has_production: false,
        capture_digest: String::new(),
    };
    let mut models = BTreeSet::new();
    let mut inputs = BTreeSet::new();
    let left = |plan: &Plan| {
        selection
            .limit
            .is_none_or(|n| (plan.requests.len() as u64) < n)
    };
    for segment in capture.segments() {
        digest.update(segment.id.to_string().as_bytes());
        digest.update(&segment.bytes.to_le_bytes());
        for row_group in 0..segment.row_groups {
            let mut seqs = Vec::new();
            for e in capture.read(segment, row_group, Projection::Shapes)? {
                let reason = unfit(&e).or_else(|| filtered(&e, &selection.filter));
                let reason = reason.or((!left(&plan)).then_some("over_limit"));
                if let Some(reason) = reason {
                    *plan.left_out.entry(reason.to_owned()).or_default() += 1;
                    continue;
                }
                models.insert(e.model.clone().unwrap_or_default());
                for t in e.inputs.iter().flatten() {
                    inputs.insert(InputSeen {
                        name: t.name.clone(),
                        datatype: t.datatype.name().to_owned(),
                        rank: t.shape.len(),
                    });
                }
                plan.has_production |= e.outputs.is_some();
                plan.requests.push(RequestRow::of(&e));
                seqs.push(e.seq);
            }
            if !seqs.is_empty() {
                let (segment, name) = (
                    segment.id.to_string(),
                    format!("{}-{row_group:04}", segment.id),
                );
                plan.chunks.push(Chunk {
                    name,
                    segment,
                    row_group,
                    seqs,
                });
            }
        }
    }
    if models.len() > 1 {
        let models = models.into_iter().collect::<Vec<_>>().join(", ");
        return Err(SourceError::SeveralModels {
            capture: name,
            models,
        });
    }
    if plan.requests.is_empty() {
        let counts: Vec<_> = plan
            .left_out
            .iter()
            .map(|(r, n)| format!("{n} {r}"))
            .collect();
        let why = if counts.is_empty() {
            "it is empty".to_owned()
        } else {
            counts.join(", ")
        };
        return Err(SourceError::Nothing { capture: name, why });
    }
    plan.inputs = inputs.into_iter().collect();
    plan.capture_digest = format!("{:032x}", digest.digest());
    Ok(plan)
}

/// Why an exchange cannot be replayed, whatever is asked.
fn unfit(e: &Exchange) -> Option<&'static str> {
    let inputs = match &e.inputs {
        None if e.protocol == "http" => return Some("not_inference"),
        None => return Some("undecoded"),
        Some(inputs) => inputs,
    };
    if e.part != 0 || !e.last {
        return Some("stream_in_parts");
    }
    inputs.iter().find_map(|t| match t.payload {
        Payload::Inline => None,
        Payload::Shm => Some("shared_memory"),
        Payload::Hashed | Payload::Dropped => Some("input_not_kept"),
        Payload::OverLimit => Some("input_over_limit"),
    })
}

fn filtered(e: &Exchange, filter: &BTreeMap<String, String>) -> Option<&'static str> {
    let keeps = |key: &str, value: &Option<String>| {
        filter
            .get(key)
            .is_none_or(|wanted| value.as_deref() == Some(wanted.as_str()))
    };
    let kept = keeps("model", &e.model) && keeps("model_version", &e.model_version);
    (!kept).then_some("not_selected")
}
