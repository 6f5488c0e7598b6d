//! What a stage of this runtime may say, and what it means where it says nothing.

use std::path::{Path, PathBuf};

use inferdiff_schemas::run::ladder::options_map;
use serde::{Deserialize, Serialize};

use crate::ladder::{Completed, Written};
use crate::runtime::python;

/// The ladder's keys of this runtime.
pub(super) const KEYS: [&str; 3] = ["model", "python", "precision"];

/// In what the evaluator computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Precision {
    /// As the model says.
    #[default]
    Model,
    /// Weights, constants and inputs of FP32, FP16 and BF16 are cast to FP64 first.
    Fp64,
}

/// Options of a stage, complete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReferenceOptions {
    /// Interpreter with onnx and numpy.
    pub python: Option<PathBuf>,
    /// In what is computed.
    pub precision: Precision,
}

/// The ladder's keys → options, with everything checked that needs no interpreter.
pub(super) fn complete(
    written: &mut Written<'_>,
    default_python: Option<&Path>,
) -> Result<Completed, String> {
    let model = written.model()?;
    let python = written
        .path("python")?
        .or(default_python.map(Path::to_path_buf));
    let options = ReferenceOptions {
        python: python.map(|p| python::interpreter(&p)).transpose()?,
        precision: written.take("precision")?.unwrap_or_default(),
    };
    Ok(Completed {
        files: vec![model.clone()],
        model: Some(model),
        options: options_map(&options),
    })
}
