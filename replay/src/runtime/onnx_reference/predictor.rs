//! One opened model.

use std::path::Path;

use inferdiff_schemas::Tensor;
use inferdiff_schemas::run::evidence::{
    Acted, Evidence, ModelIdentity, OptionEvidence, Role, Signature,
};
use inferdiff_schemas::run::ladder::Stage;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::options::{Precision, ReferenceOptions};
use super::{HOW, SOURCES};
use crate::runtime::worker::Worker;
use crate::runtime::{InferError, OpenError, Predictor, Request, fit, host, python};

/// What the worker answers when it opened a model.
#[derive(Debug, Deserialize)]
struct Facts {
    versions: Versions,
    signature: Signature,
    /// Weights and constants that were cast.
    cast: u64,
}

#[derive(Debug, Deserialize)]
struct Versions {
    onnx: String,
    numpy: String,
}

pub(super) struct Evaluator {
    worker: Worker,
    signature: Signature,
    evidence: Evidence,
}

impl Evaluator {
    pub fn open(stage: &Stage, default_python: Option<&Path>) -> Result<Self, OpenError> {
        let failed = |why: String| OpenError::Failed(format!("stage `{}`: {why}", stage.name));
        let options: ReferenceOptions = stage.read_options().map_err(OpenError::Failed)?;
        let model = stage.model.as_ref();
        let model = model.ok_or_else(|| failed("it names no model: give --model".to_owned()))?;
        let python = python::locate(options.python.as_deref(), default_python, HOW)?;
        let identity = ModelIdentity::of(model)
            .map_err(|e| failed(format!("cannot read the model {}: {e}", model.display())))?;
        let mut worker = Worker::new(python.clone(), &SOURCES, Vec::new());
        let mut request = Map::new();
        request.insert("model".to_owned(), model.display().to_string().into());
        let told = serde_json::to_value(&options).expect("options are plain data");
        request.insert("options".to_owned(), told);
        let opened = worker.open(request).map_err(|e| match e {
            OpenError::Failed(why) => failed(why),
            unavailable @ OpenError::Unavailable(_) => unavailable,
        })?;
        let facts: Facts = serde_json::from_value(Value::Object(opened.answer))
            .map_err(|e| failed(format!("its worker answered nonsense: {e}")))?;
        let evidence = Evidence {
            runtime: "onnx-reference".to_owned(),
            library: Some(python.display().to_string()),
            version: Some(format!(
                "onnx {}, numpy {}",
                facts.versions.onnx, facts.versions.numpy
            )),
            model: Some(identity),
            signature: Some(facts.signature.clone()),
            options: vec![precision(options.precision, facts.cast)],
            cpu: host::cpu(),
            role: Some(Role::Evaluator),
            ..Evidence::default()
        };
        Ok(Self {
            worker,
            signature: facts.signature,
            evidence,
        })
    }
}

/// What the worker did about it; it refuses a request of which a node answers in less.
fn precision(precision: Precision, cast: u64) -> OptionEvidence {
    let (requested, shown_by) = match precision {
        Precision::Model => ("model", "nothing is cast".to_owned()),
        Precision::Fp64 => (
            "fp64",
            format!("{cast} weights and constants, the inputs, and every result of a node"),
        ),
    };
    OptionEvidence {
        option: "precision".to_owned(),
        requested: requested.to_owned(),
        acted: Acted::Acted,
        shown_by,
    }
}

impl Predictor for Evaluator {
    fn signature(&self) -> Option<&Signature> {
        Some(&self.signature)
    }

    fn reads_exchange(&self) -> bool {
        false
    }

    fn infer(&mut self, request: &Request<'_>) -> Result<Vec<Tensor>, InferError> {
        fit::check(&self.signature, request.inputs)?;
        self.worker.infer(request.inputs)
    }

    fn evidence(&self) -> Evidence {
        self.evidence.clone()
    }
}
