//! One opened model.

use std::borrow::Cow;

use inferdiff_schemas::Tensor;
use inferdiff_schemas::run::evidence::{Evidence, ModelIdentity, Signature, TensorSpec};
use inferdiff_schemas::run::ladder::Stage;
use ort::session::{Session, SessionInputValue};
use ort::value::Outlet;

use super::library::Library;
use super::{evidence, session, tensors};
use crate::runtime::{InferError, OpenError, Predictor, Request};

pub(super) struct OnnxPredictor {
    session: Session,
    signature: Signature,
    evidence: Evidence,
    /// One buffer per input, for bytes that came misaligned.
    aligned: Vec<Vec<u64>>,
}

impl OnnxPredictor {
    pub fn open(library: &Library, stage: &Stage) -> Result<Self, OpenError> {
        let model = stage.model.as_deref().ok_or_else(|| {
            OpenError::Failed(format!(
                "stage `{}` names no model: give --model",
                stage.name
            ))
        })?;
        let identity = ModelIdentity::of(model).map_err(|e| {
            OpenError::Failed(format!("cannot read the model {}: {e}", model.display()))
        })?;
        let (session, log) = session::open(library, stage, model, &stage.disabled_passes)?;
        if !stage.disabled_passes.is_empty() {
            let (_, probe) = session::open(library, stage, model, &[])?;
            evidence::check_disabled(stage, &probe.passes(), &log.passes())?;
        }
        let signature = Signature {
            inputs: session.inputs().iter().map(spec).collect(),
            outputs: session.outputs().iter().map(spec).collect(),
        };
        let evidence = evidence::collect(library, stage, identity, &signature, &log);
        let aligned = vec![Vec::new(); signature.inputs.len()];
        Ok(Self {
            session,
            signature,
            evidence,
            aligned,
        })
    }

    /// Checks one request before the engine sees it: its own message would name neither side.
    fn check(&self, inputs: &[Tensor]) -> Result<(), InferError> {
        let bad = |why: String| Err(InferError::BadRequest(why));
        for tensor in inputs {
            let Some(spec) = self.signature.inputs.iter().find(|s| s.name == tensor.name) else {
                let known: Vec<_> = self
                    .signature
                    .inputs
                    .iter()
                    .map(|s| s.name.as_str())
                    .collect();
                return bad(format!(
                    "the model has no input `{}`; it has {}",
                    tensor.name,
                    known.join(", ")
                ));
            };
            if spec.datatype != tensor.datatype.name() {
                let (name, want) = (&tensor.name, &spec.datatype);
                return bad(format!(
                    "input `{name}` is {}, the model wants {want}",
                    tensor.datatype
                ));
            }
            let fits = spec.shape.len() == tensor.shape.len()
                && spec
                    .shape
                    .iter()
                    .zip(&tensor.shape)
                    .all(|(s, t)| *s < 0 || s == t);
            if !fits {
                return bad(format!(
                    "input `{}` has shape {:?}, the model wants {:?} (-1 = any)",
                    tensor.name, tensor.shape, spec.shape
                ));
            }
        }
        Ok(())
    }
}

impl Predictor for OnnxPredictor {
    fn signature(&self) -> Option<&Signature> {
        Some(&self.signature)
    }

    fn infer(&mut self, request: &Request<'_>) -> Result<Vec<Tensor>, InferError> {
        self.check(request.inputs)?;
        self.aligned
            .resize(request.inputs.len().max(self.aligned.len()), Vec::new());
        let mut values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
            Vec::with_capacity(request.inputs.len());
        for (tensor, aligned) in request.inputs.iter().zip(&mut self.aligned) {
            values.push((
                Cow::Borrowed(&tensor.name),
                tensors::input(tensor, aligned)?,
            ));
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
        self.evidence.clone()
    }
}

fn spec(outlet: &Outlet) -> TensorSpec {
    let ty = outlet.dtype();
    let datatype = match ty.tensor_type() {
        Some(t) => tensors::datatype(t).map_or_else(|| t.to_string(), |d| d.name().to_owned()),
        None => ty.to_string(),
    };
    let shape = ty.tensor_shape().map_or_else(Vec::new, |s| s.to_vec());
    TensorSpec {
        name: outlet.name().to_owned(),
        datatype,
        shape,
    }
}
