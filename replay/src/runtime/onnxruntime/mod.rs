//! ONNX Runtime through `ort`, one library per process.

mod evidence;
mod library;
mod log;
mod predictor;
mod session;
mod tensors;

use std::path::PathBuf;

use inferdiff_schemas::run::ladder::Stage;

pub use evidence::prove_off;

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
        let library = stage
            .library
            .as_ref()
            .or(self.default_library.as_ref())
            .ok_or_else(|| {
                OpenError::Unavailable(
                "no ONNX Runtime library was found: `pip install onnxruntime==1.32.0` and give its \
                 `onnxruntime/capi/libonnxruntime.so.*` with --library (or INFERDIFF_ONNXRUNTIME)"
                    .to_owned(),
            )
            })?;
        let library = library::load(library)?;
        Ok(Box::new(predictor::OnnxPredictor::open(library, stage)?))
    }
}
