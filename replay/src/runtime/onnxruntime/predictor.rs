//! One opened model.

use std::borrow::Cow;

use inferdiff_schemas::Tensor;
use inferdiff_schemas::run::evidence::{Evidence, ModelIdentity, Role, Signature};
use ort::logging::LogLevel;
use ort::session::{NoSelectedOutputs, RunOptions, Session, SessionInputValue};

use super::library::Library;
use super::log::SessionLog;
use super::options::OnnxStage;
use super::proof::{self, Trace};
use super::{evidence, session, signature, tensors};
use crate::runtime::{InferError, OpenError, Predictor, Request, fit, host};

pub(super) struct OnnxPredictor {
    session: Session,
    signature: Signature,
    evidence: Evidence,
    log: SessionLog,
    run_options: RunOptions<NoSelectedOutputs>,
    /// One buffer per input, for bytes that came misaligned.
    aligned: Vec<Vec<u64>>,
}

impl OnnxPredictor {
    pub fn open(library: &Library, stage: &OnnxStage) -> Result<Self, OpenError> {
        let failed = |why: String| OpenError::Failed(format!("stage `{}`: {why}", stage.name));
        let model = &stage.model;
        let identity = ModelIdentity::of(model)
            .map_err(|e| failed(format!("cannot read the model {}: {e}", model.display())))?;
        let without = proof::probe(library, stage)?;
        let opened = session::open(library, stage)?;
        let trace = Trace::of(&opened);
        let mut options = evidence::options(&stage.options, &opened.log, &opened.placement);
        options.extend(without.disabled(library, stage, &trace)?);
        options.extend(without.config(&stage.options, &trace));
        let signature = signature::read(&opened.session)
            .map_err(|e| failed(format!("ONNX Runtime does not tell its signature: {e}")))?;
        let run_options = warnings_only()
            .map_err(|e| failed(format!("ONNX Runtime refuses to log less: {e}")))?;
        let evidence = Evidence {
            runtime: "onnxruntime".to_owned(),
            library: Some(library.path.display().to_string()),
            version: Some(library.version.clone()),
            model: Some(identity),
            signature: Some(signature.clone()),
            options,
            passes: opened.log.passes(),
            placement: opened.placement,
            cpu: host::cpu(),
            warnings: Vec::new(),
            role: stage.options.is_off().then_some(Role::Off),
            calls: Vec::new(),
        };
        Ok(Self {
            session: opened.session,
            aligned: vec![Vec::new(); signature.inputs.len()],
            signature,
            evidence,
            run_options,
            log: opened.log,
        })
    }
}

/// A session logs at level Info for the sake of its passes, and a run that inherits the level tells of
/// each of its beginnings.
fn warnings_only() -> Result<RunOptions<NoSelectedOutputs>, ort::Error> {
    let mut options = RunOptions::new()?;
    options.set_log_level(LogLevel::Warning)?;
    Ok(options)
}

impl Predictor for OnnxPredictor {
    fn signature(&self) -> Option<&Signature> {
        Some(&self.signature)
    }

    fn reads_exchange(&self) -> bool {
        false
    }

    fn infer(&mut self, request: &Request<'_>) -> Result<Vec<Tensor>, InferError> {
        fit::check(&self.signature, request.inputs)?;
        let mut values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
            Vec::with_capacity(request.inputs.len());
        // The check has seen exactly one tensor per declared input.
        for (tensor, aligned) in request.inputs.iter().zip(&mut self.aligned) {
            let value = tensors::input(tensor, aligned)?;
            values.push((Cow::Borrowed(&tensor.name), value));
        }
        let outputs = self
            .session
            .run_with_options(values, &self.run_options)
            .map_err(|e| InferError::Engine(e.to_string()))?;
        self.signature
            .outputs
            .iter()
            .map(|spec| {
                let value = outputs.get(&spec.name).ok_or_else(|| {
                    InferError::Engine(format!("output `{}` did not come", spec.name))
                })?;
                tensors::output(&spec.name, value)
            })
            .collect()
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            // Runs may warn too.
            warnings: self.log.warnings(),
            ..self.evidence.clone()
        }
    }
}
