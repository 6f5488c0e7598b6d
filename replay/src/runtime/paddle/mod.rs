//! Paddle Inference, and the training forward pass beside it, in a Python worker.
//!
//! `options` reads a ladder's keys, `log` reads what Paddle printed, `evidence` says what each option
//! really did in this generation and format, `disabled` proves that passes were kept out, `predictor`
//! answers. The Python side is `scripts/workers/paddle_*.py`.

mod disabled;
mod evidence;
mod log;
mod options;
mod predictor;

use std::path::PathBuf;

use inferdiff_schemas::run::evidence::Evidence;
use inferdiff_schemas::run::ladder::Stage;

use super::worker::Source;
use super::{Need, OpenError, Predictor, Runtime, python};
use crate::ladder::{Completed, Written};

/// The `paddle` runtime.
#[derive(Debug, Clone, Default)]
pub struct Paddle {
    /// Interpreter used by stages that name none, if the caller found one with paddle.
    pub default_python: Option<PathBuf>,
}

/// The worker's sources, dependencies first.
const SOURCES: [Source; 5] = [
    python::PROTOCOL,
    python::TENSORS,
    Source {
        name: "paddle_model",
        text: include_str!("../../../../scripts/workers/paddle_model.py"),
    },
    Source {
        name: "paddle_configure",
        text: include_str!("../../../../scripts/workers/paddle_configure.py"),
    },
    Source {
        name: "paddle_engine",
        text: include_str!("../../../../scripts/workers/paddle_engine.py"),
    },
];

/// The sources of the worker that only looks at what is installed.
const DOCTOR: [Source; 3] = [
    python::PROTOCOL,
    python::TENSORS,
    Source {
        name: "paddle_doctor",
        text: include_str!("../../../../scripts/workers/paddle_doctor.py"),
    },
];

impl Runtime for Paddle {
    fn name(&self) -> &'static str {
        "paddle"
    }

    fn keys(&self) -> &'static [&'static str] {
        &options::KEYS
    }

    fn complete(&self, written: &mut Written<'_>) -> Result<Completed, String> {
        options::complete(written, self.default_python.as_deref())
    }

    fn open(&self, stage: &Stage) -> Result<Box<dyn Predictor>, OpenError> {
        let stage = options::PaddleStage::of(stage)?;
        Ok(Box::new(predictor::PaddlePredictor::open(
            &stage,
            self.default_python.as_deref(),
        )?))
    }

    fn examine(&self) -> Vec<Need> {
        python::examine(self.default_python.as_deref(), &DOCTOR, predictor::HOW)
    }

    fn prove_off(&self, _stage: &Stage, evidence: &Evidence) -> Result<(), String> {
        evidence::prove_off(evidence)
    }
}
