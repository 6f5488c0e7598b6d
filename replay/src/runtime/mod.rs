//! The runtime seam: what executes a stage.

mod fit;
mod host;
mod onnx_reference;
mod onnxruntime;
mod paddle;
mod python;
mod recorded;
mod scripted;
#[cfg(test)]
mod testing;
mod worker;

pub use host::cpu;
pub use onnx_reference::OnnxReference;
pub use onnxruntime::{
    GraphOptimization, NAMED, OnnxOptions, OnnxRuntime, Provider, locate, prove_off,
};
pub use paddle::Paddle;
pub use recorded::Recorded;
#[doc(hidden)]
pub use scripted::Scripted;

use inferdiff_schemas::run::evidence::{Evidence, Signature};
use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::{Exchange, Tensor};

use crate::ladder::{Completed, Written};

/// One request on its way into a predictor.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The captured exchange that it comes from.
    pub exchange: &'a Exchange,
    /// Inputs, already mapped to the names that this stage uses.
    pub inputs: &'a [Tensor],
}

/// Why a stage could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The runtime, library, provider or device is not there: its own words.
    #[error("{0}")]
    Unavailable(String),
    /// The stage is wrong (no such file, not a model, a pass name that does not exist).
    #[error("{0}")]
    Failed(String),
}

/// Why one request got no answer. The predictor stays usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// The request does not fit the model (names, datatypes, ranks).
    #[error("{0}")]
    BadRequest(String),
    /// The engine failed, in its own words.
    #[error("{0}")]
    Engine(String),
    /// There is nothing to execute or to look up for this exchange (for example no recorded answer).
    #[error("{0}")]
    NoAnswer(String),
}

/// A stage, opened.
pub trait Predictor {
    /// Inputs and outputs as the opened model declares them; `None` where there is no model.
    fn signature(&self) -> Option<&Signature>;

    /// Whether `infer` looks at more of the exchange than its tensors and outcome (model, path, headers,
    /// bodies). Reading a capture costs less where it does not.
    fn reads_exchange(&self) -> bool {
        true
    }

    /// Answers one request: all outputs, in signature order, named as the stage names them.
    ///
    /// # Errors
    /// [`InferError`], always one of this request alone.
    fn infer(&mut self, request: &Request<'_>) -> Result<Vec<Tensor>, InferError>;

    /// What the stage really executed so far.
    fn evidence(&self) -> Evidence;

    /// An answer may depend on the earlier exchanges of its sequence: a process that begins in the
    /// middle of one replays it from its beginning.
    fn keeps_state(&self) -> bool {
        false
    }
}

/// One thing that a runtime needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What it is.
    pub what: String,
    /// What was found, or what is missing and what to do about it.
    pub found: Result<String, String>,
}

/// What executes stages. A runtime reads its own keys of a ladder, so that a new one is one type
/// that implements this and one [`Runtimes::with`].
pub trait Runtime {
    /// The name that ladders use.
    fn name(&self) -> &'static str;

    /// Messages offer it. What only serves tests is not offered.
    fn advertised(&self) -> bool {
        true
    }

    /// The keys that its stages may have beside those that every stage has.
    fn keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// Its answers come of the request's inputs. Where they are looked up, `[stage.inputs]` means
    /// nothing.
    fn reads_inputs(&self) -> bool {
        true
    }

    /// Reads the keys of a stage: fills in what is not said and checks everything that can be
    /// checked without opening the stage. It takes every one of [`Self::keys`].
    ///
    /// # Errors
    /// A sentence without the stage's name.
    fn complete(&self, written: &mut Written<'_>) -> Result<Completed, String>;

    /// Opens a stage.
    ///
    /// # Errors
    /// [`OpenError`], in the runtime's own words.
    fn open(&self, stage: &Stage) -> Result<Box<dyn Predictor>, OpenError>;

    /// What of its needs is there, the one that it cannot do without first. Nothing for a runtime
    /// that needs nothing.
    fn examine(&self) -> Vec<Need> {
        Vec::new()
    }

    /// What an opened stage executed must show that every optimisation is off, where it is to be
    /// the reference. Runtimes that optimise nothing (or whose inside nobody sees) have nothing to
    /// show.
    ///
    /// # Errors
    /// The sentence that says what is not off.
    fn prove_off(&self, _stage: &Stage, _evidence: &Evidence) -> Result<(), String> {
        Ok(())
    }
}

/// The runtimes that stages may name.
#[derive(Default)]
pub struct Runtimes(Vec<Box<dyn Runtime + Send>>);

impl Runtimes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a runtime; a later one of the same name wins.
    #[must_use]
    pub fn with(mut self, runtime: impl Runtime + Send + 'static) -> Self {
        self.0.retain(|r| r.name() != runtime.name());
        self.0.push(Box::new(runtime));
        self
    }

    /// The runtime of that name.
    pub fn get(&self, name: &str) -> Option<&(dyn Runtime + Send)> {
        self.iter().find(|r| r.name() == name)
    }

    /// All of them, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &(dyn Runtime + Send)> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Names of those that messages offer.
    pub fn advertised(&self) -> impl Iterator<Item = &'static str> {
        self.iter().filter(|r| r.advertised()).map(Runtime::name)
    }

    /// The runtime that a stage names.
    ///
    /// # Errors
    /// `Failed` where no runtime has that name.
    pub fn of(&self, stage: &Stage) -> Result<&(dyn Runtime + Send), OpenError> {
        self.get(&stage.runtime).ok_or_else(|| {
            let known: Vec<_> = self.advertised().collect();
            OpenError::Failed(format!(
                "stage `{}`: there is no runtime `{}` in this build; it has {}",
                stage.name,
                stage.runtime,
                known.join(", ")
            ))
        })
    }

    /// Opens a stage on the runtime that it names.
    ///
    /// # Errors
    /// [`OpenError`]; `Failed` where no runtime has that name.
    pub fn open(&self, stage: &Stage) -> Result<Box<dyn Predictor>, OpenError> {
        self.of(stage)?.open(stage)
    }
}
