//! ONNX Runtime through `ort`, one library per process.
//!
//! `library` loads, `session` turns a stage into a session, `providers` appends execution
//! providers, `names` and `proof` see to it that nothing is ignored in silence, `log`, `placement`
//! and `evidence` say what was really executed, `tensors` and `signature` cross the border of types,
//! `predictor` answers.

mod capi;
mod evidence;
mod host;
mod library;
mod log;
mod names;
mod placement;
mod predictor;
mod proof;
mod providers;
mod session;
mod signature;
mod tensors;

use std::path::PathBuf;

use inferdiff_schemas::run::ladder::Stage;

pub use evidence::prove_off;
pub use library::locate;
pub(crate) use names::check;

use super::{OpenError, Predictor, Runtime};

/// The `onnxruntime` runtime.
#[derive(Debug, Clone, Default)]
pub struct OnnxRuntime {
    /// Library used by stages that name none, if the caller found one.
    pub default_library: Option<PathBuf>,
}

impl Runtime for OnnxRuntime {
    fn name(&self) -> &'static str {
        "onnxruntime"
    }

    fn open(&self, stage: &Stage) -> Result<Box<dyn Predictor>, OpenError> {
        let explicit = stage.library.as_ref().or(self.default_library.as_ref());
        let library = library::load(&locate(explicit.map(PathBuf::as_path), &[])?)?;
        Ok(Box::new(predictor::OnnxPredictor::open(library, stage)?))
    }
}
