//! `judge`: verdicts from what a run keeps. Runs nothing; refuses by name what the kept data
//! cannot answer.

mod applied;
mod collect;
mod decide;
mod exit;
mod sample;

use std::path::Path;

use inferdiff_schemas::run::ladder::{Labels, MetricSpec};
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::Manifest;
use inferdiff_schemas::run::requests::{RequestRow, read_requests};
use inferdiff_schemas::run::verdicts::{LabelCoverage, ProductionAgreement, Verdicts};
use inferdiff_schemas::run::{RunFileError, read_json};

use crate::labels::{Joined, join};
use crate::metric::Metric;

pub use exit::exit_code;

/// Criteria that replace those of the run.
#[derive(Debug, Clone, Default)]
pub struct JudgeOptions {
    /// Metrics in place of the ladder's, where there are any.
    pub metrics: Vec<MetricSpec>,
    /// δ for every metric without one of its own.
    pub margin: Option<f64>,
    /// Labels in place of the ladder's.
    pub labels: Option<Labels>,
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
    let labels = options.labels.as_ref().or(manifest.ladder.labels.as_ref());
    let labels = labels
        .map(|l| join(l, &requests))
        .transpose()
        .map_err(JudgeError::Criterion)?;
    let metrics = metrics(options, &manifest, labels.is_some())?;
    let stages = collect::collect(&layout, &manifest, &requests)?;
    let mut verdicts = decide::decide(&manifest, &stages, &metrics, &requests, labels.as_ref())?;
    production(&stages, &mut verdicts);
    Ok(verdicts)
}

fn metrics(
    options: &JudgeOptions,
    manifest: &Manifest,
    labelled: bool,
) -> Result<Vec<Metric>, JudgeError> {
    let given = if options.metrics.is_empty() {
        &manifest.ladder.metrics
    } else {
        &options.metrics
    };
    let mut specs = given.clone();
    if specs.is_empty() && labelled {
        // Integer labels are the evidence: they are classes, and top-1 is what they can judge.
        specs.push(MetricSpec {
            spec: "top1".to_owned(),
            margin: None,
        });
    }
    for spec in &mut specs {
        spec.margin = options.margin.or(spec.margin);
    }
    specs
        .iter()
        .map(|s| Metric::parse(s).map_err(JudgeError::Criterion))
        .collect()
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

/// Label coverage over the items of a stage.
fn coverage(labels: &Joined, items: &[collect::ItemData]) -> LabelCoverage {
    let matched = items
        .iter()
        .filter(|i| labels.by_item.contains_key(&(i.request, i.item)))
        .count() as u64;
    labels.coverage(matched, items.len() as u64)
}

/// The weight of an exchange: it stands for 1/rate exchanges.
fn weight(request: &RequestRow) -> f64 {
    if request.sample_rate > 0.0 {
        1.0 / request.sample_rate
    } else {
        1.0
    }
}
