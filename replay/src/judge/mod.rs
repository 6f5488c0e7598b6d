//! `judge`: verdicts from what a run keeps. Runs nothing; refuses by name what the kept data
//! cannot answer.

mod applied;
pub mod baseline;
mod behaviour;
mod collect;
mod criterion;
mod decide;
mod exit;
mod guide;
mod named;
mod oracle;
mod rules;
mod sample;
mod scores;
mod telling;
mod weighting;

use std::path::Path;

use inferdiff_schemas::run::ladder::{Labels, MetricSpec};
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::Manifest;
use inferdiff_schemas::run::requests::{RequestRow, read_requests};
use inferdiff_schemas::run::verdicts::{LabelCoverage, ProductionAgreement, Verdicts};
use inferdiff_schemas::run::{RunFileError, read_json};

use crate::labels::{Joined, join, key_of};

pub use exit::{Gravity, exit_code, gravest};

/// Criteria that replace those of the run.
#[derive(Debug, Clone, Default)]
pub struct JudgeOptions {
    /// Metrics in place of the ladder's, where there are any.
    pub metrics: Vec<MetricSpec>,
    /// δ for every metric without one of its own.
    pub margin: Option<f64>,
    /// Labels in place of the ladder's.
    pub labels: Option<Labels>,
    /// Exchanges that stand together: `header:NAME`, `sequence_id`, `model`, …
    pub cluster_by: Option<String>,
    /// Parts of the traffic to judge beside the whole: `model_version`, `shape`, `header:NAME`, …
    pub slice_by: Vec<String>,
}

/// Why a run cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// A file of the run.
    #[error(transparent)]
    File(#[from] RunFileError),
    /// A criterion that does not fit.
    #[error("{0}")]
    Criterion(String),
}

/// Family-wise error of `affects` over the judged stages.
const ALPHA: f64 = 0.05;
/// Two one-sided tests at 5 %.
const EQUIVALENCE: f64 = 0.90;

/// Judges a run.
///
/// # Errors
/// [`JudgeError`].
pub fn judge(run: &Path, options: &JudgeOptions) -> Result<Verdicts, JudgeError> {
    let layout = RunLayout::new(run);
    let manifest: Manifest = read_json(&layout.manifest())?;
    let requests = read_requests(&layout.requests())?;
    let given = options.labels.as_ref().or(manifest.ladder.labels.as_ref());
    let labels = given
        .map(|l| join(l, &requests))
        .transpose()
        .map_err(JudgeError::Criterion)?;
    let index = collect::Index::new(&requests);
    let stages = collect::collect(&layout, &manifest, (&requests, &index))?;
    if let (Some(given), Some(joined)) = (given, &labels) {
        must_match(given, joined, &requests, &stages[0])?;
    }
    let source = scores::Source {
        layout: &layout,
        manifest: &manifest,
        requests: &requests,
        index: &index,
        labels: labels.as_ref(),
        batch_axis: stages[0].status.as_ref().is_some_and(|s| s.batch_axis),
    };
    let (asked, words) = criterion::criterion(&source, options, &stages[0])?;
    let mut verdicts = decide::decide(&source, options, &stages, &asked, words)?;
    production(&stages, &mut verdicts);
    oracle::ratios(&stages, &mut verdicts.stages);
    verdicts.faults = guide::faults(&stages, &verdicts.stages);
    Ok(verdicts)
}

/// Which stages reproduce production, and how often.
fn production(stages: &[collect::StageData], verdicts: &mut Verdicts) {
    for stage in stages.iter().filter(|s| !s.is_recorded) {
        let of = stage.production.len() as u64;
        let equal = stage.production.values().filter(|equal| **equal).count() as u64;
        if of == 0 {
            continue;
        }
        if equal == of {
            verdicts.production_matches.push(stage.name.clone());
        }
        let stage = stage.name.clone();
        verdicts
            .production_agreement
            .push(ProductionAgreement { stage, equal, of });
    }
}

/// Labels that name no item at all are a mistake of the key, not a verdict over nothing.
fn must_match(
    given: &Labels,
    joined: &Joined,
    requests: &[RequestRow],
    reference: &collect::StageData,
) -> Result<(), JudgeError> {
    let mut items = reference.items.values().flatten();
    if items.any(|i| joined.by_item.contains_key(&(i.request, i.item))) {
        return Ok(());
    }
    let rows = joined.unmatched_rows + joined.by_item.len() as u64;
    let mut why = format!(
        "labels {}: none of its {rows} rows names an item that the reference answered, by the key {}",
        given.file.display(),
        given.key
    );
    if let Some(key) = &joined.first_unmatched {
        let of = requests.iter().find_map(|r| key_of(&given.key, r));
        let of = of.map_or_else(
            || "the exchanges have none".to_owned(),
            |of| format!("an exchange has `{of}`"),
        );
        why += &format!(" (a row has `{key}`, {of})");
    }
    Err(JudgeError::Criterion(why))
}

/// Label coverage over the items of a stage.
fn coverage(labels: &Joined, items: &[collect::ItemData]) -> LabelCoverage {
    let matched = items
        .iter()
        .filter(|i| labels.by_item.contains_key(&(i.request, i.item)))
        .count() as u64;
    labels.coverage(matched, items.len() as u64)
}
