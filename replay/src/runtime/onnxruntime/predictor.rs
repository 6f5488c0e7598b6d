//! One opened model.

use std::ffi::{CString, c_char};
use std::ptr;

use inferdiff_schemas::Tensor;
use inferdiff_schemas::run::evidence::{Evidence, ModelIdentity, Role, Signature, TensorSpec};
use ort::AsPointer;
use ort::logging::LogLevel;
use ort::memory::MemoryInfo;
use ort::session::{NoSelectedOutputs, RunOptions, Session};

use super::capi::check;
use super::library::Library;
use super::log::SessionLog;
use super::options::OnnxStage;
use super::proof::{self, Trace};
use super::value::Value;
use super::{evidence, outputs, session, signature, tensors};
use crate::runtime::{InferError, OpenError, Predictor, Request, fit, host};

pub(super) struct OnnxPredictor {
    session: Session,
    signature: Signature,
    evidence: Evidence,
    log: SessionLog,
    run_options: RunOptions<NoSelectedOutputs>,
    /// Of the memory that requests lie in.
    memory: MemoryInfo<'static>,
    /// Of the signature's inputs and outputs, as the library takes them.
    input_names: Vec<CString>,
    output_names: Vec<CString>,
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
        let named = |specs: &[TensorSpec]| {
            let names = specs.iter().map(|s| CString::new(s.name.as_str()));
            names.collect::<Result<Vec<_>, _>>()
        };
        let unnamed = |e: std::ffi::NulError| failed(format!("a name of its signature: {e}"));
        Ok(Self {
            session: opened.session,
            memory: MemoryInfo::default(),
            input_names: named(&signature.inputs).map_err(unnamed)?,
            output_names: named(&signature.outputs).map_err(unnamed)?,
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

    #[expect(unsafe_code, reason = "ort's own run makes much of each value")]
    fn infer(&mut self, request: &Request<'_>) -> Result<Vec<Tensor>, InferError> {
        fit::check(&self.signature, request.inputs)?;
        let count = request.inputs.len();
        let mut values = Vec::with_capacity(count);
        let mut names: Vec<*const c_char> = Vec::with_capacity(count);
        // The check has seen exactly one tensor per declared input.
        for (tensor, aligned) in request.inputs.iter().zip(&mut self.aligned) {
            let mut specs = self.signature.inputs.iter().zip(&self.input_names);
            let (_, name) = specs
                .find(|(spec, _)| spec.name == tensor.name)
                .expect("the check has seen that each input is declared");
            names.push(name.as_ptr());
            // SAFETY: `values` ends with this call, tensors and buffers live longer, and each input has
            // its own buffer.
            values.push(unsafe { tensors::input(tensor, aligned, &self.memory)? });
        }
        let inputs: Vec<_> = values.iter().map(Value::ptr).collect();
        let asked: Vec<_> = self.output_names.iter().map(|n| n.as_ptr()).collect();
        let mut given = vec![ptr::null_mut(); asked.len()];
        // SAFETY: each array is as long as it is said to be; names, inputs, options and session live, and
        // nobody else runs this session. What comes is owned by `Value` below, also after an error.
        let (ran, given) = unsafe {
            let ran = check((ort::api().Run)(
                self.session.ptr_mut(),
                self.run_options.ptr(),
                names.as_ptr(),
                inputs.as_ptr(),
                inputs.len(),
                asked.as_ptr(),
                asked.len(),
                given.as_mut_ptr(),
            ));
            let given: Vec<_> = given.into_iter().map(|value| Value::own(value)).collect();
            (ran, given)
        };
        ran.map_err(|e| InferError::Engine(e.to_string()))?;
        let specs = self.signature.outputs.iter().zip(&given);
        specs
            .map(|(spec, value)| match value {
                Some(value) => outputs::output(&spec.name, value),
                None => {
                    let why = format!("output `{}` did not come", spec.name);
                    Err(InferError::Engine(why))
                }
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
