//! Criteria that `replay` and `judge` share.

use std::path::PathBuf;

use clap::Args;
use inferdiff_schemas::run::ladder::{Labels, MetricSpec};
use inferdiff_schemas::run::verdicts::Verdicts;

use super::Failure;
use crate::report::{explain, terminal};

/// By what stages are judged.
#[derive(Args)]
pub struct Criteria {
    /// Metric, `name[@output][:key=value,…]`; may be repeated. Known: top1, flips, topk, threshold,
    /// tau, ndcg, mae, auc, cosine, recall, exact, prefix, command (docs/verdicts.md).
    #[arg(long = "metric", value_name = "SPEC")]
    metrics: Vec<String>,
    /// The change of a metric that is accepted. Default 0.005 for metrics bounded in [0, 1]; others
    /// are only reported without it. `margin=` of a metric is its own.
    #[arg(long, value_name = "DELTA")]
    pub margin: Option<f64>,
    /// Parquet file with columns key, item, label, optional weight and cluster.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// What a label's key is: client_request_id, seq, input_digest or header:NAME.
    #[arg(long, value_name = "KIND", default_value = "client_request_id")]
    labels_key: String,
    /// Exchanges that stand together: header:NAME, sequence_id, client_request_id, model,
    /// model_version, shape. Default: a label's cluster, else each exchange by itself.
    #[arg(long, value_name = "KEY")]
    pub cluster_by: Option<String>,
    /// Judge parts of the traffic beside the whole, by the same keys; may be repeated.
    #[arg(long, value_name = "KEY")]
    pub slice_by: Vec<String>,
    /// The numbers behind the verdict of this stage, instead of the table.
    #[arg(long, value_name = "STAGE", conflicts_with = "json")]
    explain_verdict: Option<String>,
}

impl Criteria {
    /// The stage to explain must be one of them.
    pub fn check_stage<'a>(
        &self,
        mut names: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<(), Failure> {
        let Some(stage) = &self.explain_verdict else {
            return Ok(());
        };
        if names.clone().any(|name| name == stage) {
            return Ok(());
        }
        let known = names.by_ref().collect::<Vec<_>>().join(", ");
        Err(Failure::usage(format!(
            "--explain-verdict {stage}: there is no such stage; there are {known}"
        )))
    }

    /// The verdicts for people: the table, or the explanation of one.
    pub fn tell(&self, verdicts: &Verdicts) -> Result<String, Failure> {
        self.check_stage(verdicts.stages.iter().map(|s| s.name.as_str()))?;
        let explained = self.explain_verdict.as_ref();
        let explained = explained.and_then(|stage| explain(verdicts, stage));
        Ok(explained.unwrap_or_else(|| terminal::table(verdicts)))
    }

    /// The metrics, each with the margin.
    pub fn metrics(&self) -> Vec<MetricSpec> {
        let spec = |s: &String| MetricSpec {
            spec: s.clone(),
            margin: self.margin,
        };
        self.metrics.iter().map(spec).collect()
    }

    /// The labels, if a file was given; it must be there.
    pub fn labels(&self) -> Result<Option<Labels>, Failure> {
        let Some(file) = &self.labels else {
            return Ok(None);
        };
        let file = std::fs::canonicalize(file)
            .map_err(|e| Failure::usage(format!("labels {}: {e}", file.display())))?;
        Ok(Some(Labels {
            file,
            key: self.labels_key.clone(),
        }))
    }
}
