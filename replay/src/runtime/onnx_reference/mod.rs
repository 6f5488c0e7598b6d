//! The ONNX project's own evaluator in a Python worker: an independent implementation of every
//! operator, without a graph optimiser, in double precision where asked.
//!
//! `options` reads a ladder's keys, `predictor` answers. The Python side is `scripts/workers/onnx_*.py`.

mod options;
mod predictor;

use std::path::PathBuf;

use inferdiff_schemas::run::ladder::Stage;

use super::worker::Source;
use super::{Need, OpenError, Predictor, Runtime, python};
use crate::ladder::{Completed, Written};

/// The `onnx-reference` runtime.
#[derive(Debug, Clone, Default)]
pub struct OnnxReference {
    /// Interpreter used by stages that name none, if the caller found one with onnx.
    pub default_python: Option<PathBuf>,
}

/// The worker's sources, dependencies first.
const SOURCES: [Source; 4] = [
    python::PROTOCOL,
    python::TENSORS,
    Source {
        name: "onnx_double",
        text: include_str!("../../../../scripts/workers/onnx_double.py"),
    },
    Source {
        name: "onnx_engine",
        text: include_str!("../../../../scripts/workers/onnx_engine.py"),
    },
];
/// The sources of the worker that only looks at what is installed.
const DOCTOR: [Source; 3] = [
    python::PROTOCOL,
    python::TENSORS,
    Source {
        name: "onnx_doctor",
        text: include_str!("../../../../scripts/workers/onnx_doctor.py"),
    },
];
const HOW: &str = "give --python FILE or write python = \"…\" in the stage; the package is `onnx`";

impl Runtime for OnnxReference {
    fn name(&self) -> &'static str {
        "onnx-reference"
    }

    fn keys(&self) -> &'static [&'static str] {
        &options::KEYS
    }

    fn complete(&self, written: &mut Written<'_>) -> Result<Completed, String> {
        options::complete(written, self.default_python.as_deref())
    }

    fn open(&self, stage: &Stage) -> Result<Box<dyn Predictor>, OpenError> {
        let opened = predictor::Evaluator::open(stage, self.default_python.as_deref())?;
        Ok(Box::new(opened))
    }

    fn examine(&self) -> Vec<Need> {
        python::examine(self.default_python.as_deref(), &DOCTOR, HOW)
    }
}
