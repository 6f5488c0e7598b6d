//! `Capture → source`: what of a capture can be replayed, in which order, and why the rest cannot.

use std::collections::{BTreeMap, BTreeSet};

use inferdiff_schemas::capture::{Capture, CaptureError, Projection};
use inferdiff_schemas::run::RunFileError;
use inferdiff_schemas::run::manifest::{Chunk, InputSeen};
use inferdiff_schemas::run::requests::RequestRow;
use inferdiff_schemas::xxh3::Hash128;
use inferdiff_schemas::{Exchange, Payload, Tensor};

use crate::filter::Condition;

mod chunks;

pub use chunks::{COMMIT_EVERY, Pending, batches, decoded, exchanges};

use chunks::Chunks;

/// What to take of a capture.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// An exchange must meet all of them.
    pub filter: Vec<Condition>,
    /// This share of those, in (0, 1]; exchanges of one sequence are taken or left together.
    pub sample: Option<f64>,
    /// Seed of `sample`.
    pub seed: u64,
    /// At most this many of those.
    pub limit: Option<u64>,
}

/// What is replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In order of segment and row group.
    pub chunks: Vec<Chunk>,
    /// Replayed exchanges.
    pub requests: u64,
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
    /// What is planned could not be kept.
    #[error(transparent)]
    File(#[from] RunFileError),
    /// Nothing is left to replay.
    #[error("nothing in {capture} can be replayed: {why}")]
    Nothing {
        /// The capture.
        capture: String,
        /// Counts by reason.
        why: String,
    },
    /// Several models and nobody chose.
    #[error(
        "{capture} holds several models ({models}): choose one with --where model=NAME, and where it \
         has several versions --where version=V"
    )]
    SeveralModels {
        /// The capture.
        capture: String,
        /// Their names.
        models: String,
    },
}

/// Plans a replay: reads keys and shapes, no payload. A chunk holds at most `commit_every` exchanges,
/// unless one row group holds more. Each replayed exchange is given to `keep`, in the order of the
/// chunks: a plan of millions fits a small machine.
///
/// # Errors
/// [`SourceError`]. Segments that cannot be read are an error: a verdict over a part of the traffic
/// would pass for one over all of it.
pub fn plan(
    capture: &Capture,
    selection: &Selection,
    commit_every: u64,
    keep: &mut dyn FnMut(RequestRow) -> Result<(), RunFileError>,
) -> Result<Plan, SourceError> {
    let name = capture.layout().root().display().to_string();
    if let Some(damage) = capture.unreadable().first() {
        return Err(CaptureError::damaged(capture.layout().root(), damage).into());
    }
    let mut digest = Hash128::new();
    let mut planner = Planner::new(selection);
    // A condition may ask for any key.
    let projection = if selection.filter.is_empty() {
        Projection::Requests
    } else {
        Projection::Shapes
    };
    for segment in capture.segments() {
        digest.update(segment.id.to_string().as_bytes());
        digest.update(&segment.bytes.to_le_bytes());
        let mut chunks = Chunks::new(segment, commit_every);
        for span in segment.spans(0..segment.row_groups) {
            for exchanges in segment.stream(span, projection)? {
                for e in exchanges? {
                    let took = e.end_ns;
                    let taken = planner.takes(e);
                    chunks.row(taken.is_some(), took);
                    taken.map_or(Ok(()), &mut *keep)?;
                }
            }
        }
        planner.plan.chunks.extend(chunks.end());
    }
    let Planner {
        mut plan,
        models,
        inputs,
        ..
    } = planner;
    if let Some(models) = several(&models) {
        return Err(SourceError::SeveralModels {
            capture: name,
            models,
        });
    }
    if plan.requests == 0 {
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

/// A plan that grows exchange by exchange.
struct Planner<'a> {
    selection: &'a Selection,
    plan: Plan,
    models: BTreeSet<(String, String)>,
    inputs: BTreeSet<InputSeen>,
    /// Model, version and inputs of the exchange before: mostly the next is like it.
    model: Option<(Option<String>, Option<String>)>,
    seen: Vec<InputSeen>,
}

impl<'a> Planner<'a> {
    fn new(selection: &'a Selection) -> Self {
        Self {
            selection,
            plan: Plan {
                chunks: Vec::new(),
                requests: 0,
                inputs: Vec::new(),
                left_out: BTreeMap::new(),
                has_production: false,
                capture_digest: String::new(),
            },
            models: BTreeSet::new(),
            inputs: BTreeSet::new(),
            model: None,
            seen: Vec::new(),
        }
    }

    /// The row of the exchange where it is replayed; else it is counted by reason.
    fn takes(&mut self, e: Exchange) -> Option<RequestRow> {
        let full = |n| self.plan.requests >= n;
        let reason = unfit(&e)
            .or_else(|| unselected(&e, self.selection))
            .or_else(|| {
                self.selection
                    .limit
                    .is_some_and(full)
                    .then_some("over_limit")
            });
        if let Some(reason) = reason {
            *self.plan.left_out.entry(reason.to_owned()).or_default() += 1;
            return None;
        }
        let known = self.model.as_ref();
        if known.is_none_or(|(model, version)| *model != e.model || *version != e.model_version) {
            let named = |text: &Option<String>| text.clone().unwrap_or_default();
            self.models
                .insert((named(&e.model), named(&e.model_version)));
            self.model = Some((e.model.clone(), e.model_version.clone()));
        }
        let inputs = e.inputs.as_deref().unwrap_or_default();
        if !alike(inputs, &self.seen) {
            self.seen = inputs.iter().map(seen).collect();
            self.inputs.extend(self.seen.iter().cloned());
        }
        self.plan.has_production |= e.outputs.is_some();
        self.plan.requests += 1;
        Some(RequestRow::of(e))
    }
}

fn seen(tensor: &Tensor) -> InputSeen {
    InputSeen {
        name: tensor.name.clone(),
        datatype: tensor.datatype.name().to_owned(),
        rank: tensor.shape.len(),
    }
}

fn alike(tensors: &[Tensor], seen: &[InputSeen]) -> bool {
    let same = |(t, s): (&Tensor, &InputSeen)| {
        t.name == s.name && t.datatype.name() == s.datatype && t.shape.len() == s.rank
    };
    tensors.len() == seen.len() && tensors.iter().zip(seen).all(same)
}

/// Model and version ("" where none is named) of everything that can be replayed, with the number of
/// exchanges.
///
/// # Errors
/// As [`plan`].
pub fn models(
    capture: &Capture,
    filter: &[Condition],
) -> Result<BTreeMap<(String, String), u64>, SourceError> {
    let mut out = BTreeMap::new();
    for segment in capture.segments() {
        for span in segment.spans(0..segment.row_groups) {
            for exchanges in segment.stream(span, Projection::Shapes)? {
                for e in exchanges? {
                    if unfit(&e).is_none() && filter.iter().all(|c| c.holds(&e)) {
                        let model = e.model.unwrap_or_default();
                        let version = e.model_version.unwrap_or_default();
                        *out.entry((model, version)).or_default() += 1;
                    }
                }
            }
        }
    }
    Ok(out)
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

fn unselected(e: &Exchange, selection: &Selection) -> Option<&'static str> {
    if !selection.filter.iter().all(|c| c.holds(e)) {
        return Some("not_selected");
    }
    let share = selection.sample?;
    let mut hash = Hash128::new();
    hash.update(&selection.seed.to_le_bytes());
    match &e.sequence_id {
        Some(sequence) => hash.update(sequence.as_bytes()),
        None => {
            hash.update(&e.recorder.to_bytes());
            hash.update(&e.seq.to_le_bytes());
        }
    }
    // 53 bits: what a double holds exactly.
    #[expect(
        clippy::cast_precision_loss,
        reason = "both sides are below 2^53, which a double holds exactly"
    )]
    let place = (hash.digest() >> 75) as f64 / (1u64 << 53) as f64;
    (place >= share).then_some("not_sampled")
}

/// Model and version of each where they are more than one. An exchange without a version (no answer
/// named one) stands for any.
fn several(models: &BTreeSet<(String, String)>) -> Option<String> {
    let known = |m: &&(String, String)| {
        !m.1.is_empty() || !models.iter().any(|o| o.0 == m.0 && !o.1.is_empty())
    };
    let distinct: Vec<_> = models.iter().filter(known).collect();
    if distinct.len() < 2 {
        return None;
    }
    let shown = distinct.iter().map(|(model, version)| match &**version {
        "" => model.clone(),
        version => format!("{model} version {version}"),
    });
    Some(shown.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    fn set(models: &[(&str, &str)]) -> BTreeSet<(String, String)> {
        let owned = models.iter().map(|(m, v)| ((*m).into(), (*v).into()));
        owned.collect()
    }

    #[test]
    fn a_version_that_nobody_named_is_no_second_one() {
        assert_eq!(several(&set(&[("a", ""), ("a", "1")])), None);
        assert_eq!(several(&set(&[("", "")])), None);
        let told = several(&set(&[("a", "1"), ("a", "2"), ("a", "")])).unwrap();
        assert_eq!(told, "a version 1, a version 2");
        let told = several(&set(&[("a", ""), ("b", "7")])).unwrap();
        assert_eq!(told, "a, b version 7");
    }

    #[test]
    fn a_sample_is_its_share_the_same_each_time_and_keeps_sequences_whole() {
        let take = |seed, share, sequence: Option<&str>| -> Vec<u64> {
            let selection = Selection {
                sample: Some(share),
                seed,
                ..Selection::default()
            };
            let taken = (0..10_000).filter(|&seq| {
                let e = Exchange {
                    sequence_id: sequence.map(str::to_owned),
                    ..Exchange::new(Ulid::nil(), seq)
                };
                unselected(&e, &selection).is_none()
            });
            taken.collect()
        };
        let one = take(1, 0.1, None);
        assert!((900..1100).contains(&one.len()), "{}", one.len());
        assert_eq!(one, take(1, 0.1, None));
        assert_ne!(one, take(2, 0.1, None));
        let more = take(1, 0.2, None);
        assert!(one.iter().all(|seq| more.contains(seq)));
        assert_eq!(take(1, 1.0, None).len(), 10_000);
        for seed in 0..20 {
            let whole = take(seed, 0.5, Some("s")).len();
            assert!(whole == 0 || whole == 10_000, "{whole}");
        }
    }
}
