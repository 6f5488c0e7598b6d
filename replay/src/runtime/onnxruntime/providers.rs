//! Execution providers: had as asked for, or an error that says why not.

use std::path::Path;

use inferdiff_schemas::run::ladder::{Provider, Stage};
use ort::ep::{
    self, ArbitrarilyConfigurableExecutionProvider, ExecutionProvider, ExecutionProviderDispatch,
};
use ort::error::ErrorCode;
use ort::session::builder::SessionBuilder;

use crate::ladder::hint;
use crate::runtime::OpenError;

/// Providers that ladders may name, and ONNX Runtime's names of them.
const KNOWN: [(&str, &str); 4] = [
    ("cpu", "CPUExecutionProvider"),
    ("cuda", "CUDAExecutionProvider"),
    ("openvino", "OpenVINOExecutionProvider"),
    ("tensorrt", "TensorrtExecutionProvider"),
];

/// What an error says where the machine, not the stage, is at fault: the provider is compiled in,
/// but a library that it needs, the driver or the device is not there.
const MISSING: [&str; 7] = [
    "cannot open shared object file",
    "Failed to load library",
    "no CUDA-capable device",
    "cudaErrorNoDevice",
    "driver version is insufficient",
    "cudaErrorInsufficientDriver",
    "CUDA failure 100",
];

/// ONNX Runtime's name of a provider.
pub(super) fn engine_name(provider: &str) -> Option<&'static str> {
    KNOWN
        .iter()
        .find(|(name, _)| *name == provider)
        .map(|(_, engine)| *engine)
}

/// What can be said without a library: names and the CPU provider's options.
pub(super) fn check(provider: &Provider) -> Result<(), String> {
    if engine_name(&provider.name).is_none() {
        let names = KNOWN.map(|(name, _)| name);
        return Err(format!(
            "unknown provider `{}` (known: {}){}",
            provider.name,
            names.join(", "),
            hint(&provider.name, names.into_iter())
        ));
    }
    match provider.options.keys().next() {
        Some(option) if provider.name == "cpu" => Err(format!(
            "the cpu provider has no option `{option}`; its arena is `memory_optimization`"
        )),
        _ => Ok(()),
    }
}

/// Appends the stage's providers in order, the CPU last. By default ONNX Runtime leaves out in
/// silence what it cannot have; here each says so instead.
pub(super) fn append(builder: SessionBuilder, stage: &Stage) -> Result<SessionBuilder, OpenError> {
    let mut dispatches = Vec::new();
    for provider in &stage.providers {
        let (dispatch, available) = dispatch(stage, provider)?;
        if !available {
            return Err(OpenError::Unavailable(format!(
                "stage `{}`: this ONNX Runtime library is built without {}; give one that has it \
                 with --library (onnxruntime-gpu, onnxruntime-openvino)",
                stage.name,
                engine_name(&provider.name).unwrap_or(&provider.name)
            )));
        }
        dispatches.push(dispatch.error_on_failure());
    }
    if !stage.providers.iter().any(|p| p.name == "cpu") {
        dispatches.push(cpu(stage).error_on_failure());
    }
    builder.with_execution_providers(dispatches).map_err(|e| {
        let why = format!("stage `{}`: {e}", stage.name);
        // A provider that is there and refuses its options is a fault of the stage.
        if e.code() == ErrorCode::InvalidArgument && !missing(&why) {
            OpenError::Failed(why)
        } else {
            OpenError::Unavailable(why)
        }
    })
}

/// Tells a model that cannot be loaded from a machine that cannot run it: some providers look for
/// their device only when the session is made.
pub(super) fn commit_error(stage: &Stage, model: &Path, why: &str) -> OpenError {
    let text = format!(
        "stage `{}`: cannot open the model {}: {why}",
        stage.name,
        model.display()
    );
    if !stage.providers.is_empty() && missing(why) {
        OpenError::Unavailable(text)
    } else {
        OpenError::Failed(text)
    }
}

fn missing(why: &str) -> bool {
    MISSING.iter().any(|m| why.contains(m))
}

fn cpu(stage: &Stage) -> ExecutionProviderDispatch {
    ep::CPU::default()
        .with_arena_allocator(stage.memory_optimization)
        .build()
}

/// The provider with its options, and whether the library is built with it.
fn dispatch(
    stage: &Stage,
    provider: &Provider,
) -> Result<(ExecutionProviderDispatch, bool), OpenError> {
    macro_rules! configured {
        ($ep:ty) => {{
            let options = provider.options.iter();
            let ep = options.fold(<$ep>::default(), |ep, (key, value)| {
                ep.with_arbitrary_config(key, value)
            });
            // An error here is no reason to give up: appending it will tell more.
            (ep.build(), <$ep>::is_available().unwrap_or(true))
        }};
    }
    check(provider).map_err(|why| OpenError::Failed(format!("stage `{}`: {why}", stage.name)))?;
    Ok(match provider.name.as_str() {
        "cuda" => configured!(ep::CUDA),
        "openvino" => configured!(ep::OpenVINO),
        "tensorrt" => configured!(ep::TensorRT),
        _ => (cpu(stage), true),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn unknown_providers_and_options_are_named() {
        let provider = |name: &str, options: &[(&str, &str)]| Provider {
            name: name.into(),
            options: BTreeMap::from_iter(options.iter().map(|(k, v)| ((*k).into(), (*v).into()))),
        };
        assert_eq!(check(&provider("cpu", &[])), Ok(()));
        assert_eq!(check(&provider("cuda", &[("use_tf32", "0")])), Ok(()));
        let why = check(&provider("tensort", &[])).unwrap_err();
        assert!(why.contains("did you mean `tensorrt`?"), "{why}");
        let why = check(&provider("cpu", &[("arena", "1")])).unwrap_err();
        assert!(why.contains("memory_optimization"), "{why}");
    }
}
