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
mod rows;
mod rules;
mod sample;
mod scores;
mod telling;
mod weighting;

use std::path::Path;

use inferdiff_schemas::run::ladder::{Labels, MetricSpec};
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::{Manifest, StageStatus};
use inferdiff_schemas::run::requests::RequestColumns;
use inferdiff_schemas::run::verdicts::{ProductionAgreement, Verdicts};
use inferdiff_schemas::run::{RunFileError, read_json};

use crate::labels::{Joined, join, key_of};
use crate::requests::Requests;

use rows::{Source, optional};

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
    let requests = Requests::open(&layout.requests())?;
    let given = options.labels.as_ref().or(manifest.ladder.labels.as_ref());
    let labels = given
        .map(|l| join(l, &requests))
        .transpose()
        .map_err(JudgeError::Criterion)?;
    let reference = &manifest.ladder.stages[0].name;
    let status: Option<StageStatus> = optional(read_json(&layout.status(reference)))?;
    let source = Source {
        layout: &layout,
        manifest: &manifest,
        requests: &requests,
        labels: labels.as_ref(),
        batch_axis: status.is_some_and(|s| s.batch_axis),
    };
    let stages = collect::collect(&source)?;
    if let (Some(given), Some(joined)) = (given, &labels) {
        must_match(given, joined, &requests, &stages[0])?;
    }
    let (asked, words) = criterion::criterion(&source, options, &stages[0])?;
    let mut verdicts = decide::decide(&source, options, &stages, &asked, words)?;
    production(&stages, &mut verdicts);
    oracle::ratios(&stages, &mut verdicts.stages);
    verdicts.faults = guide::faults(&stages, &verdicts.stages);
    named::client_ids(&requests, &mut verdicts)?;
    Ok(verdicts)
}

/// Which stages reproduce production, and how often.
fn production(stages: &[collect::StageData], verdicts: &mut Verdicts) {
    for stage in stages.iter().filter(|s| !s.is_recorded) {
        let collect::Production { of, equal } = stage.production;
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
    requests: &Requests,
    reference: &collect::StageData,
) -> Result<(), JudgeError> {
    if !reference.labelled.is_empty() {
        return Ok(());
    }
    let mut why = format!(
        "labels {}: none of its {} rows names an item that the reference answered, by the key {}",
        given.file.display(),
        joined.rows(),
        given.key
    );
    if let Some(key) = &joined.first_unmatched {
        let rows = requests.read(RequestColumns::All)?;
        let of = rows.flatten().find_map(|r| key_of(&given.key, &r));
        let of = of.map_or_else(
            || "the exchanges have none".to_owned(),
            |of| format!("an exchange has `{of}`"),
        );
        why += &format!(" (a row has `{key}`, {of})");
    }
    Err(JudgeError::Criterion(why))
}
