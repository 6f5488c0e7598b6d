//! One opened model.

use std::path::Path;

use inferdiff_schemas::Tensor;
use inferdiff_schemas::run::evidence::{Evidence, ModelIdentity, Signature};
use serde_json::{Map, Value};

use super::evidence::{self, Facts};
use super::log::PassLog;
use super::options::{PaddleOptions, PaddleStage};
use super::{SOURCES, disabled};
use crate::runtime::worker::{Opened, Worker};
use crate::runtime::{InferError, OpenError, Predictor, Request, fit, host, python};

pub(super) const HOW: &str = "give --python FILE, write python = \"…\" in the stage, or let scripts/setup \
                   --paddle 3.3.1 prepare one";

pub(super) struct PaddlePredictor {
    worker: Worker,
    signature: Signature,
    evidence: Evidence,
}

impl PaddlePredictor {
    pub fn open(stage: &PaddleStage, default_python: Option<&Path>) -> Result<Self, OpenError> {
        let failed = |why: String| OpenError::Failed(format!("stage `{}`: {why}", stage.name));
        let options = &stage.options;
        let python = python::locate(options.python.as_deref(), default_python, HOW)?;
        let model = &stage.model;
        let identity = ModelIdentity::of(model)
            .map_err(|e| failed(format!("cannot read the model {}: {e}", model.display())))?;
        let mut worker = Worker::new(python.clone(), &SOURCES, Vec::new());
        let mut ask = |options: &PaddleOptions| -> Result<(Facts, PassLog), OpenError> {
            let Opened { answer, log } =
                worker.open(request(model, options)).map_err(|e| match e {
                    OpenError::Failed(why) => failed(why),
                    unavailable @ OpenError::Unavailable(_) => unavailable,
                })?;
            let facts = serde_json::from_value(Value::Object(answer))
                .map_err(|e| failed(format!("its worker answered nonsense: {e}")))?;
            Ok((facts, PassLog::parse(&log)))
        };
        let without = match options.disabled_passes.as_slice() {
            [] => None,
            _ => Some(ask(&PaddleOptions {
                disabled_passes: Vec::new(),
                ..options.clone()
            })?),
        };
        let (facts, log) = ask(options)?;
        let mut shown = evidence::options(options, &facts, &log);
        evidence::engines(options, &shown).map_err(OpenError::Unavailable)?;
        if let Some((_, without)) = without {
            let names = &options.disabled_passes;
            shown.extend(disabled::prove(names, &without, &log).map_err(failed)?);
        }
        let evidence = Evidence {
            runtime: "paddle".to_owned(),
            library: Some(python.display().to_string()),
            version: Some(facts.versions.line()),
            model: Some(identity),
            signature: Some(facts.signature.clone()),
            options: shown,
            passes: log.evidence(),
            placement: Vec::new(),
            cpu: host::cpu(),
            warnings: log.warnings,
            role: Some(options.role()),
            calls: facts.calls,
        };
        Ok(Self {
            worker,
            signature: facts.signature,
            evidence,
        })
    }
}

/// The header that opens the stage in its worker.
fn request(model: &Path, options: &PaddleOptions) -> Map<String, Value> {
    let mut request = Map::new();
    request.insert("model".to_owned(), model.display().to_string().into());
    let options = serde_json::to_value(options).expect("options are plain data");
    request.insert("options".to_owned(), options);
    request
}

impl Predictor for PaddlePredictor {
    fn signature(&self) -> Option<&Signature> {
        Some(&self.signature)
    }

    fn infer(&mut self, request: &Request<'_>) -> Result<Vec<Tensor>, InferError> {
        // Paddle takes any shape, and its message on a wrong name says nothing of the right ones.
        fit::check(&self.signature, request.inputs)?;
        self.worker.infer(request.inputs)
    }

    fn evidence(&self) -> Evidence {
        // Runs may warn too.
        let mut evidence = self.evidence.clone();
        for warning in PassLog::parse(&self.worker.log()).warnings {
            if !evidence.warnings.contains(&warning) {
                evidence.warnings.push(warning);
            }
        }
        evidence
    }
}
