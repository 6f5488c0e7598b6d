//! The runtime seam: what executes a stage.

mod onnxruntime;
mod recorded;
mod scripted;
#[cfg(test)]
mod testing;

pub(crate) use onnxruntime::check as check_onnxruntime;
pub use onnxruntime::{OnnxRuntime, locate, prove_off};
pub use recorded::Recorded;
#[doc(hidden)]
pub use scripted::Scripted;

use inferdiff_schemas::run::evidence::{Evidence, Signature};
use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::{Exchange, Tensor};

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

    /// Answers one request: all outputs, in signature order, named as the stage names them.
    ///
    /// # Errors
    /// [`InferError`], always one of this request alone.
    fn infer(&mut self, request: &Request<'_>) -> Result<Vec<Tensor>, InferError>;

    /// What the stage really executed so far.
    fn evidence(&self) -> Evidence;
}

/// What executes stages.
pub trait Runtime {
    /// The name that ladders use.
    fn name(&self) -> &'static str;

    /// Opens a stage.
    ///
    /// # Errors
    /// [`OpenError`], in the runtime's own words.
    fn open(&self, stage: &Stage) -> Result<Box<dyn Predictor>, OpenError>;
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
        self.0.push(Box::new(runtime));
        self
    }

    /// Opens a stage on the runtime that it names.
    ///
    /// # Errors
    /// [`OpenError`]; `Failed` where no runtime has that name.
    pub fn open(&self, stage: &Stage) -> Result<Box<dyn Predictor>, OpenError> {
        let Some(runtime) = self.0.iter().rev().find(|r| r.name() == stage.runtime) else {
            let known: Vec<_> = self.0.iter().map(|r| r.name()).collect();
            return Err(OpenError::Failed(format!(
                "stage `{}`: there is no runtime `{}` in this build; it has {}",
                stage.name,
                stage.runtime,
                known.join(", ")
            )));
        };
        runtime.open(stage)
    }
}
