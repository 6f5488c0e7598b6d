//! The resolved ladder as `run.json` keeps it: nothing inherited, nothing implied.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Ordered stages, the reference first, with the criteria that judge them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ladder {
    /// Name of a built-in ladder or path of a file.
    pub name: String,
    /// At least one; the first is the reference.
    pub stages: Vec<Stage>,
    /// Metrics, in the order in which they were asked for.
    #[serde(default)]
    pub metrics: Vec<MetricSpec>,
    /// Tolerances by output name.
    #[serde(default)]
    pub tolerance: BTreeMap<String, Tolerance>,
    /// Labels, if there are any.
    #[serde(default)]
    pub labels: Option<Labels>,
}

/// One named runtime configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Unique in the ladder; `[A-Za-z0-9._-]+` because it names a folder.
    pub name: String,
    /// `onnxruntime` or `recorded`.
    pub runtime: String,
    /// Model file, absolute; `None` for runtimes without one.
    pub model: Option<PathBuf>,
    /// Runtime library, absolute; `None` = the runtime's own look-up.
    pub library: Option<PathBuf>,
    /// Graph optimisation level.
    pub graph_optimization: GraphOptimization,
    /// Weights are re-laid-out for kernels at session creation.
    pub prepacking: bool,
    /// Memory pattern and CPU arena.
    pub memory_optimization: bool,
    /// Intra-op threads; 0 = the runtime's default.
    pub threads: u32,
    /// Ask the runtime for deterministic kernels.
    pub deterministic: bool,
    /// Execution providers in order; empty = CPU.
    pub providers: Vec<Provider>,
    /// Further session configuration entries.
    pub config: BTreeMap<String, String>,
    /// Optimiser passes kept out by name.
    pub disabled_passes: Vec<String>,
    /// `unavailable` does not raise the exit code.
    pub optional: bool,
    /// How this stage's outputs map to the reference's, by the reference's output name.
    pub outputs: BTreeMap<String, OutputMapping>,
}

/// Graph optimisation level, by ONNX Runtime's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphOptimization {
    /// None but what the runtime needs to run at all.
    Off,
    /// Level 1: constant folding, redundant node elimination, simple fusions.
    Basic,
    /// Level 2: complex fusions per provider.
    Extended,
    /// Level 3: data layout.
    Layout,
    /// Everything.
    All,
}

/// An execution provider and its options, as the runtime names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// `cpu`, `cuda`, `tensorrt`, `openvino`.
    pub name: String,
    /// Options.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Where a stage finds what the reference calls by another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputMapping {
    /// The stage's own output, by index or by name.
    pub from: OutputSource,
}

/// An output by index or by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OutputSource {
    /// Position among the stage's outputs, from 0.
    Index(usize),
    /// The stage's name of it.
    Name(String),
}

/// A metric as written: `name[@output][:key=value,…]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricSpec {
    /// The text.
    pub spec: String,
    /// δ: the change of the metric that is accepted; `None` = the metric's default.
    #[serde(default)]
    pub margin: Option<f64>,
}

/// An element is close when |r−t| ≤ atol + rtol·|r|, r the reference's value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// Relative to the reference's magnitude.
    pub rtol: f64,
    /// Absolute, in the output's unit.
    pub atol: f64,
}

/// Where labels are and how a row finds its exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Parquet file with `key`, `item`, `label`, optional `weight`, `cluster`.
    pub file: PathBuf,
    /// `client_request_id`, `seq`, `header:NAME` or `input_digest`.
    pub key: String,
}
