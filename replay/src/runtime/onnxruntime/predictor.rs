//! One opened model.

use std::ffi::{CString, c_char};
use std::ptr;

use inferdiff_schemas::Tensor;
use inferdiff_schemas::run::evidence::{Evidence, ModelIdentity, Role, Signature, TensorSpec};
use ort::AsPointer;
use ort::logging::LogLevel;
use ort::memory::MemoryInfo;
use ort::session::{NoSelectedOutputs, RunOptions, Session};
use ort::sys::OrtValue;

use super::capi::check;
use super::library::Library;
use super::log::SessionLog;
use super::options::OnnxStage;
use super::proof::{self, Trace};
use super::value::Value;
use super::{evidence, outputs, session, signature, tensors};
use crate::runtime::{InferError, OpenError, Predictor, Request, fit, host};

pub(super) struct OnnxPredictor {
    /// Before what its values lie over, and before the session: it is dropped first.
    call: Call,
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
    aligned: Vec<Vec<u8>>,
}

/// What one run takes, kept because to allocate it anew costs a tenth of a small model.
#[derive(Default)]
struct Call {
    values: Vec<Value>,
    names: Vec<*const c_char>,
    inputs: Vec<*const OrtValue>,
    asked: Vec<*const c_char>,
    given: Vec<*mut OrtValue>,
}

impl Call {
    /// Nothing of the run before.
    fn clear(&mut self) {
        self.values.clear();
        self.names.clear();
        self.inputs.clear();
        self.asked.clear();
        self.given.clear();
    }
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
            call: Call::default(),
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
        let call = &mut self.call;
        call.clear();
        // The check has seen exactly one tensor per declared input.
        for (tensor, aligned) in request.inputs.iter().zip(&mut self.aligned) {
            let mut specs = self.signature.inputs.iter().zip(&self.input_names);
            let (_, name) = specs
                .find(|(spec, _)| spec.name == tensor.name)
                .expect("the check has seen that each input is declared");
            call.names.push(name.as_ptr());
            // SAFETY: `values` is emptied before this call ends, also by an error; tensors and buffers live
            // longer, and each input has its own buffer.
            match unsafe { tensors::input(tensor, aligned, &self.memory) } {
                Ok(value) => {
                    call.inputs.push(value.ptr());
                    call.values.push(value);
                }
                Err(e) => {
                    call.clear();
                    return Err(e);
                }
            }
        }
        call.asked
            .extend(self.output_names.iter().map(|n| n.as_ptr()));
        call.given.resize(call.asked.len(), ptr::null_mut());
        // SAFETY: each array is as long as it is said to be; names, inputs, options and session live, and
        // nobody else runs this session. What comes is owned by `Given`, also after an error.
        let (ran, given) = unsafe {
            let ran = check((ort::api().Run)(
                self.session.ptr_mut(),
                self.run_options.ptr(),
                call.names.as_ptr(),
                call.inputs.as_ptr(),
                call.inputs.len(),
                call.asked.as_ptr(),
                call.asked.len(),
                call.given.as_mut_ptr(),
            ));
            (ran, Given::own(&mut call.given))
        };
        call.values.clear();
        ran.map_err(|e| InferError::Engine(e.to_string()))?;
        let mut out = Vec::with_capacity(self.signature.outputs.len());
        for (spec, value) in self.signature.outputs.iter().zip(given) {
            let value = value.ok_or_else(|| {
                let why = format!("output `{}` did not come", spec.name);
                InferError::Engine(why)
            })?;
            out.push(outputs::output(&spec.name, &value)?);
        }
        Ok(out)
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            // Runs may warn too.
            warnings: self.log.warnings(),
            ..self.evidence.clone()
        }
    }
}

/// The values that a run gave, each owned.
struct Given<'a>(std::vec::Drain<'a, *mut OrtValue>);

impl<'a> Given<'a> {
    /// # Safety
    /// Each is null, or a live value that nobody else releases.
    #[expect(unsafe_code, reason = "values of the C API")]
    unsafe fn own(values: &'a mut Vec<*mut OrtValue>) -> Self {
        Self(values.drain(..))
    }
}

impl Iterator for Given<'_> {
    type Item = Option<Value>;

    #[expect(unsafe_code, reason = "values of the C API")]
    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: as `own` was promised; each is taken once.
        let own = |value| unsafe { Value::own(value) };
        self.0.next().map(own)
    }
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        // Those that were not asked for are released.
        self.for_each(drop);
    }
}
