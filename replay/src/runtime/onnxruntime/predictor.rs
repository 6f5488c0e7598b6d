//! One opened model.

use std::borrow::Cow;

use inferdiff_schemas::Tensor;
use inferdiff_schemas::run::evidence::{Evidence, ModelIdentity, Signature, TensorSpec};
use ort::session::{Session, SessionInputValue};

use super::library::Library;
use super::log::SessionLog;
use super::options::OnnxStage;
use super::proof::{self, Trace};
use super::{evidence, host, session, signature, tensors};
use crate::runtime::{InferError, OpenError, Predictor, Request};

pub(super) struct OnnxPredictor {
    session: Session,
    signature: Signature,
    evidence: Evidence,
    log: SessionLog,
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
        };
        Ok(Self {
            session: opened.session,
            aligned: vec![Vec::new(); signature.inputs.len()],
            signature,
            evidence,
            log: opened.log,
        })
    }

    /// Checks a request before the engine sees it: the engine's own message names one problem, and
    /// often neither side of it.
    fn check(&self, inputs: &[Tensor]) -> Result<(), InferError> {
        let specs = &self.signature.inputs;
        let mut problems = Vec::new();
        for spec in specs {
            match inputs.iter().filter(|t| t.name == spec.name).count() {
                0 => problems.push(format!("input `{}` is missing", spec.name)),
                1 => {}
                n => problems.push(format!("input `{}` is there {n} times", spec.name)),
            }
        }
        for tensor in inputs {
            match specs.iter().find(|s| s.name == tensor.name) {
                Some(spec) => problems.extend(misfit(spec, tensor)),
                None => {
                    let known: Vec<_> = specs.iter().map(|s| s.name.as_str()).collect();
                    problems.push(format!(
                        "the model has no input `{}`; it has {}",
                        tensor.name,
                        known.join(", ")
                    ));
                }
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(InferError::BadRequest(problems.join("; ")))
        }
    }
}

fn misfit(spec: &TensorSpec, tensor: &Tensor) -> Option<String> {
    let name = &tensor.name;
    if spec.datatype != tensor.datatype.name() {
        return Some(format!(
            "input `{name}` is {}, the model wants {}",
            tensor.datatype, spec.datatype
        ));
    }
    let fits = spec.unknown_rank
        || spec.shape.len() == tensor.shape.len()
            && spec
                .shape
                .iter()
                .zip(&tensor.shape)
                .all(|(s, t)| *s < 0 || s == t);
    (!fits).then(|| {
        format!(
            "input `{name}` has shape {:?}, the model wants {:?} (-1 = any)",
            tensor.shape, spec.shape
        )
    })
}

impl Predictor for OnnxPredictor {
    fn signature(&self) -> Option<&Signature> {
        Some(&self.signature)
    }

    fn infer(&mut self, request: &Request<'_>) -> Result<Vec<Tensor>, InferError> {
        self.check(request.inputs)?;
        let mut values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
            Vec::with_capacity(request.inputs.len());
        // `check` has seen exactly one tensor per declared input.
        for (tensor, aligned) in request.inputs.iter().zip(&mut self.aligned) {
            let value = tensors::input(tensor, aligned)?;
            values.push((Cow::Borrowed(&tensor.name), value));
        }
        let outputs = self
            .session
            .run(values)
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
