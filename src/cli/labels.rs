//! Criteria that `replay` and `judge` share.

use std::path::PathBuf;

use clap::Args;
use inferdiff_schemas::run::ladder::{Labels, MetricSpec};

use super::Failure;

/// By what stages are judged.
#[derive(Args)]
pub struct Criteria {
    /// Metric, `name[@output]`; may be repeated. Known: top1.
    #[arg(long = "metric", value_name = "SPEC")]
    metrics: Vec<String>,
    /// The change of a metric that is accepted, in (0, 1). Default 0.005.
    #[arg(long, value_name = "DELTA")]
    pub margin: Option<f64>,
    /// Parquet file with columns key, item, label, optional weight and cluster.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// What a label's key is: client_request_id, seq, input_digest or header:NAME.
    #[arg(long, value_name = "KIND", default_value = "client_request_id")]
    labels_key: String,
}

impl Criteria {
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
