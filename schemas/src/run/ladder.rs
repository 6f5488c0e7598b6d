//! The resolved ladder as `run.json` keeps it: nothing inherited, nothing implied.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::tensor::Datatype;

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
    /// Tolerances by output name; `*` for the outputs that have none of their own.
    #[serde(default)]
    pub tolerance: BTreeMap<String, OutputTolerance>,
    /// Labels, if there are any.
    #[serde(default)]
    pub labels: Option<Labels>,
}

/// One named runtime configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Unique in the ladder; `[A-Za-z0-9._-]+` because it names a folder.
    pub name: String,
    /// Name of the runtime that executes it.
    pub runtime: String,
    /// Model, absolute; `None` for runtimes without one.
    pub model: Option<PathBuf>,
    /// Files whose bytes decide what the stage answers (the model and what lies beside it),
    /// absolute: the run keeps a digest of each.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// The runtime's own keys, complete: nothing of them is left to a default.
    #[serde(default)]
    pub options: Map<String, Value>,
    /// `unavailable` does not raise the exit code.
    pub optional: bool,
    /// How captured inputs map to this stage's, by the stage's input name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, TensorMapping>,
    /// How this stage's outputs map to the reference's, by the reference's output name.
    #[serde(default)]
    pub outputs: BTreeMap<String, TensorMapping>,
}

impl Stage {
    /// A stage of a runtime that has no model and no options.
    pub fn bare(name: impl Into<String>, runtime: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            runtime: runtime.into(),
            model: None,
            files: Vec::new(),
            options: Map::new(),
            optional: false,
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
        }
    }

    /// It answers with what production answered.
    pub fn is_production(&self) -> bool {
        self.runtime == "recorded" && self.options.is_empty()
    }

    /// The options as the runtime's own type.
    ///
    /// # Errors
    /// One sentence, where they are another runtime's or another version's.
    pub fn read_options<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_value(Value::Object(self.options.clone())).map_err(|e| {
            format!(
                "stage `{}`: these are no options of the runtime `{}`: {e}",
                self.name, self.runtime
            )
        })
    }
}

/// A runtime's options as a stage keeps them.
///
/// # Panics
/// Where `options` is no struct of plain data: every runtime's options are one.
pub fn options_map<T: Serialize>(options: &T) -> Map<String, Value> {
    match serde_json::to_value(options) {
        Ok(Value::Object(map)) => map,
        other => unreachable!("options are a struct of plain data, not {other:?}"),
    }
}

/// Where a tensor comes from and what becomes of it, in this order: found, transposed, cast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorMapping {
    /// Of an input: the captured one. Of an output: the stage's own.
    pub from: TensorSource,
    /// Its elements as this datatype.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cast: Option<Datatype>,
    /// Its axes in this order, as `numpy.transpose` takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transpose: Option<Vec<usize>>,
}

/// A tensor by index or by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TensorSource {
    /// Position among the tensors of its side, from 0.
    Index(usize),
    /// Name on its side.
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

/// The tolerances of one output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OutputTolerance {
    /// Of every datatype that has none of its own.
    #[serde(flatten)]
    pub any: Option<Tolerance>,
    /// By datatype, under its protocol name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub datatypes: BTreeMap<String, Tolerance>,
}

/// Where labels are and how a row finds its exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Parquet file with `key`, `item`, `label`, optional `weight`, `cluster`.
    pub file: PathBuf,
    /// `client_request_id`, `seq`, `header:NAME` or `input_digest`.
    pub key: String,
}
