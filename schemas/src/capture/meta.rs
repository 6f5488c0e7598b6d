//! `_capture.json` and `_recorders/<ulid>.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Ledger;

/// `_capture.json`: written once by the first recorder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptureMeta {
    /// Capture format version.
    pub format: u32,
    /// RFC 3339, UTC.
    pub created: String,
    /// The upstream as given to the first recorder.
    #[serde(default)]
    pub upstream: Option<String>,
    /// What the upstream's own metadata routes answered, by route.
    #[serde(default)]
    pub upstream_metadata: BTreeMap<String, serde_json::Value>,
    /// What is kept and what is not.
    #[serde(default)]
    pub keep: BTreeMap<String, Vec<String>>,
    /// Probability of sampling.
    #[serde(default = "one")]
    pub sample_rate: f64,
}

fn one() -> f64 {
    1.0
}

/// `_recorders/<ulid>.json`: one recorder process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecorderMeta {
    /// The process.
    pub recorder: String,
    /// Version of inferdiff.
    pub version: String,
    /// Host name.
    pub host: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC; `None` while running and after a crash.
    #[serde(default)]
    pub stopped: Option<String>,
    /// The process ended without saying so; its ledger is as of its last checkpoint.
    #[serde(default)]
    pub crashed: bool,
    /// The books at stop (or at the last checkpoint, where crashed).
    pub ledger: Ledger,
    /// Upstream.
    #[serde(default)]
    pub upstream: Option<String>,
    /// `--note k=v`.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
    /// `--model-file`: path, digest and size.
    #[serde(default)]
    pub model_file: Option<crate::run::evidence::ModelIdentity>,
}
