//! A ladder file as written. Unknown keys are errors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use inferdiff_schemas::run::ladder::{
    GraphOptimization, Labels, MetricSpec, OutputMapping, Provider, Tolerance,
};
use serde::Deserialize;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// A built-in ladder whose stages come first.
    pub base: Option<String>,
    pub model: Option<PathBuf>,
    #[serde(default)]
    pub stage: Vec<Stage>,
    #[serde(default)]
    pub metric: Vec<MetricSpec>,
    #[serde(default)]
    pub tolerance: BTreeMap<String, Tolerance>,
    pub labels: Option<Labels>,
}

/// A stage as written: what is `None` is inherited.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stage {
    pub name: String,
    pub inherits: Option<String>,
    pub runtime: Option<String>,
    pub model: Option<PathBuf>,
    pub library: Option<PathBuf>,
    pub graph_optimization: Option<GraphOptimization>,
    pub prepacking: Option<bool>,
    pub memory_optimization: Option<bool>,
    pub threads: Option<u32>,
    pub deterministic: Option<bool>,
    pub providers: Option<Vec<Provider>>,
    pub config: Option<BTreeMap<String, String>>,
    pub disabled_passes: Option<Vec<String>>,
    pub optional: Option<bool>,
    pub outputs: Option<BTreeMap<String, OutputMapping>>,
}

impl Stage {
    /// This stage with everything that it leaves open taken from `parent`.
    pub fn over(self, parent: &Self) -> Self {
        let p = parent.clone();
        Self {
            name: self.name,
            inherits: None,
            runtime: self.runtime.or(p.runtime),
            model: self.model.or(p.model),
            library: self.library.or(p.library),
            graph_optimization: self.graph_optimization.or(p.graph_optimization),
            prepacking: self.prepacking.or(p.prepacking),
            memory_optimization: self.memory_optimization.or(p.memory_optimization),
            threads: self.threads.or(p.threads),
            deterministic: self.deterministic.or(p.deterministic),
            providers: self.providers.or(p.providers),
            config: self.config.or(p.config),
            disabled_passes: self.disabled_passes.or(p.disabled_passes),
            // Whether a stage may be missing is its own affair, not its parent's.
            optional: self.optional,
            outputs: self.outputs.or(p.outputs),
        }
    }
}
