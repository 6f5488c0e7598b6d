//! `evidence.json`: what a stage really executed.

use std::io::Read;

use serde::{Deserialize, Serialize};

/// What a stage really executed, by what the runtime itself reports.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// Runtime name.
    pub runtime: String,
    /// Path of the runtime library, if there is one.
    pub library: Option<String>,
    /// Version as the library itself says.
    pub version: Option<String>,
    /// Model file and its XXH3-128 digest in hex.
    pub model: Option<ModelIdentity>,
    /// Inputs and outputs as the opened model declares them; `None` for runtimes without a model.
    pub signature: Option<Signature>,
    /// Every option that was asked for, and whether it acted.
    pub options: Vec<OptionEvidence>,
    /// Optimiser passes in the order they ran.
    pub passes: Vec<Pass>,
    /// Nodes by execution provider, where the runtime tells.
    pub placement: Vec<Placement>,
    /// CPU model and features that choose kernels.
    pub cpu: Vec<String>,
    /// Warnings and errors that the runtime logged while opening, deduplicated.
    pub warnings: Vec<String>,
    /// What the stage is, where its runtime knows the guide's rungs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Calls that configured the runtime, in order, where it is configured by calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<String>,
}

/// What a stage is on the way from the training forward pass to production.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The model's own operators one by one, without an inference engine.
    Training,
    /// The model's own operators one by one, by an implementation that shares nothing with the engine.
    Evaluator,
    /// The inference engine with every optimisation off.
    Off,
    /// Off, but for memory optimisation.
    Memory,
    /// The graph is optimised, the precision kept.
    Graph,
    /// Kernels of a lower precision.
    Precision,
    /// Another engine takes subgraphs.
    Engine,
}

/// A model by content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Path as opened.
    pub path: String,
    /// XXH3-128 of the file, hex.
    pub digest: String,
    /// Bytes.
    pub bytes: u64,
}

impl ModelIdentity {
    /// Names a file by its content. It is read piece by piece: models may be larger than memory
    /// should bear twice.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn of(path: &std::path::Path) -> std::io::Result<Self> {
        let mut file = std::fs::File::open(path)?;
        let mut hash = crate::xxh3::Hash128::new();
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    hash.update(&buffer[..n]);
                    bytes += n as u64;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Self {
            path: path.display().to_string(),
            digest: format!("{:032x}", hash.digest()),
            bytes,
        })
    }
}

/// Inputs and outputs of an opened model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Signature {
    /// Inputs in order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs in order.
    pub outputs: Vec<TensorSpec>,
}

impl Signature {
    /// True when axis 0 of every input and output is dynamic: each of its rows is one item.
    pub fn has_batch_axis(&self) -> bool {
        let dynamic = |s: &TensorSpec| s.shape.first().is_some_and(|&d| d < 0);
        !self.inputs.is_empty()
            && self.inputs.iter().all(dynamic)
            && self.outputs.iter().all(dynamic)
    }
}

/// One declared input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Name.
    pub name: String,
    /// Open Inference Protocol datatype name, or the runtime's own where it has none.
    pub datatype: String,
    /// Dimensions; −1 = dynamic.
    pub shape: Vec<i64>,
    /// The model does not say the rank: `shape` is empty and means nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown_rank: bool,
}

/// Whether an option did anything. The echo of an option is not evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acted {
    /// The runtime's own report shows an effect (or, for "off", shows that nothing ran).
    Acted,
    /// The runtime's own report shows that nothing happened.
    DidNotAct,
    /// The runtime reports nothing that would tell.
    Unobservable,
}

/// One option and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OptionEvidence {
    /// Ladder key.
    pub option: String,
    /// Value asked for.
    pub requested: String,
    /// What became of it.
    pub acted: Acted,
    /// What shows it, in words a sceptic can check.
    pub shown_by: String,
}

/// One run of one optimiser pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// The runtime's name of it.
    pub name: String,
    /// It changed the graph.
    pub hit: bool,
    /// How often, where the runtime tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// The nodes that one execution provider took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Provider as the runtime names it.
    pub provider: String,
    /// Node names.
    pub nodes: Vec<String>,
}
