//! What a stage of this runtime may say, and what it means where it says nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use inferdiff_schemas::run::ladder::{Stage, options_map};
use serde::{Deserialize, Serialize};

use super::{OnnxRuntime, library, names};
use crate::ladder::{Completed, Flat, Written};
use crate::runtime::OpenError;

/// More threads than any machine that serves a model has: a typing error.
const MOST_THREADS: u32 = 4096;

/// The ladder's keys of this runtime.
pub(super) const KEYS: [&str; 10] = [
    "model",
    "library",
    "graph_optimization",
    "prepacking",
    "memory_optimization",
    "threads",
    "deterministic",
    "providers",
    "config",
    "disabled_passes",
];

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

impl GraphOptimization {
    /// As ladders write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Basic => "basic",
            Self::Extended => "extended",
            Self::Layout => "layout",
            Self::All => "all",
        }
    }
}

/// An execution provider and its options, as the runtime names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// `cpu`, `cuda`, `tensorrt`, `openvino`.
    pub name: String,
    /// Options.
    #[serde(default, deserialize_with = "crate::ladder::flat")]
    pub options: BTreeMap<String, String>,
}

/// Options of a stage. The default is the reference: everything off, one thread, the CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnnxOptions {
    /// Runtime library, absolute; `None` = the runtime's own look-up.
    pub library: Option<PathBuf>,
    /// Graph optimisation level.
    pub graph_optimization: GraphOptimization,
    /// Weights are laid out anew for their kernels at session creation.
    pub prepacking: bool,
    /// Memory pattern and CPU arena.
    pub memory_optimization: bool,
    /// Intra-op threads; 0 = the library's default.
    pub threads: u32,
    /// Ask the library for deterministic kernels.
    pub deterministic: bool,
    /// Execution providers in order; empty = CPU.
    pub providers: Vec<Provider>,
    /// Further session configuration entries.
    pub config: BTreeMap<String, String>,
    /// Optimiser passes kept out by name.
    pub disabled_passes: Vec<String>,
}

impl Default for OnnxOptions {
    fn default() -> Self {
        Self {
            library: None,
            graph_optimization: GraphOptimization::Off,
            prepacking: false,
            memory_optimization: false,
            threads: 1,
            deterministic: false,
            providers: Vec::new(),
            config: BTreeMap::new(),
            disabled_passes: Vec::new(),
        }
    }
}

impl OnnxOptions {
    /// Nothing that changes how the model is computed is on.
    pub(super) fn is_off(&self) -> bool {
        self.graph_optimization == GraphOptimization::Off
            && !self.prepacking
            && !self.memory_optimization
            && self.providers.is_empty()
    }

    /// The stage with these options in place of its own.
    #[must_use]
    pub fn over(&self, stage: Stage) -> Stage {
        Stage {
            options: options_map(self),
            ..stage
        }
    }
}

/// The ladder's keys → options, with everything checked that needs no library.
pub(super) fn complete(
    written: &mut Written<'_>,
    runtime: &OnnxRuntime,
) -> Result<Completed, String> {
    let model = written.model()?;
    let said: Option<PathBuf> = written.take("library")?;
    let library = match said {
        Some(said) => match library::named(&said, &runtime.named)? {
            Some(path) => Some(path),
            None => Some(written.at(&said)),
        },
        None => runtime.default_library.clone(),
    };
    let library = library.as_deref().map(library::checked).transpose()?;
    let off = OnnxOptions::default();
    let options = OnnxOptions {
        library,
        graph_optimization: written
            .take("graph_optimization")?
            .unwrap_or(off.graph_optimization),
        prepacking: written.take("prepacking")?.unwrap_or(off.prepacking),
        memory_optimization: written
            .take("memory_optimization")?
            .unwrap_or(off.memory_optimization),
        threads: written.take("threads")?.unwrap_or(off.threads),
        deterministic: written.take("deterministic")?.unwrap_or(off.deterministic),
        providers: written.take("providers")?.unwrap_or_default(),
        config: written.take::<Flat>("config")?.unwrap_or_default().0,
        disabled_passes: written.take("disabled_passes")?.unwrap_or_default(),
    };
    if options.threads > MOST_THREADS {
        return Err(format!(
            "threads = {} must be 0 (the library's default) to {MOST_THREADS}",
            options.threads
        ));
    }
    names::check(&options)?;
    Ok(Completed {
        files: vec![model.clone()],
        model: Some(model),
        options: options_map(&options),
    })
}

/// A stage as the rest of this runtime sees it.
#[derive(Debug, Clone)]
pub(super) struct OnnxStage {
    pub name: String,
    pub model: PathBuf,
    pub options: OnnxOptions,
}

impl OnnxStage {
    /// Reads a resolved stage.
    pub fn of(stage: &Stage) -> Result<Self, OpenError> {
        let model = stage.model.clone().ok_or_else(|| {
            let name = &stage.name;
            OpenError::Failed(format!("stage `{name}`: it names no model: give --model"))
        })?;
        let options: OnnxOptions = stage.read_options().map_err(OpenError::Failed)?;
        let name = stage.name.clone();
        names::check(&options)
            .map_err(|why| OpenError::Failed(format!("stage `{name}`: {why}")))?;
        Ok(Self {
            name,
            model,
            options,
        })
    }

    /// The same stage with other options.
    pub fn with(&self, change: impl FnOnce(&mut OnnxOptions)) -> Self {
        let mut changed = self.clone();
        change(&mut changed.options);
        changed
    }
}
