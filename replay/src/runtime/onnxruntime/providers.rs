//! Execution providers: had as asked for, or an error that says why not.

use ort::ep::{
    self, ArbitrarilyConfigurableExecutionProvider, ExecutionProvider, ExecutionProviderDispatch,
};
use ort::error::ErrorCode;
use ort::session::builder::SessionBuilder;

use super::log::SessionLog;
use super::options::{OnnxStage, Provider};
use crate::ladder::hint;
use crate::runtime::{Need, OpenError};

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

/// What it says where the stage is at fault: an option that the provider does not have or cannot
/// read. (OpenVINO reports these with the same code as a missing device.)
const REFUSED: [&str; 5] = [
    "nvalid provider_option",
    "nknown provider option",
    "Failed to parse",
    "parsing error",
    "stoi",
];

/// Which providers the loaded library was built with. Whether their devices are there shows when a
/// session is made.
pub(super) fn examine() -> Vec<Need> {
    let asked = [
        ("cuda", ep::CUDA::is_available()),
        ("openvino", ep::OpenVINO::is_available()),
        ("tensorrt", ep::TensorRT::is_available()),
    ];
    let need = |(name, built): (&str, ort::Result<bool>)| Need {
        what: name.to_owned(),
        found: match built {
            Ok(true) => Ok("compiled in".to_owned()),
            Ok(false) => Err("this library is built without it".to_owned()),
            Err(e) => Err(e.to_string()),
        },
    };
    asked.into_iter().map(need).collect()
}

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
/// silence what it cannot have; here each says so instead. `log` is the library's own: the error
/// itself often says no more than that it failed.
pub(super) fn append(
    builder: SessionBuilder,
    stage: &OnnxStage,
    log: &SessionLog,
) -> Result<SessionBuilder, OpenError> {
    let mut dispatches = Vec::new();
    for provider in &stage.options.providers {
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
    if !stage.options.providers.iter().any(|p| p.name == "cpu") {
        dispatches.push(cpu(stage).error_on_failure());
    }
    log.forget_warnings();
    builder.with_execution_providers(dispatches).map_err(|e| {
        let said = log.warnings();
        let reason = if said.is_empty() {
            String::new()
        } else {
            format!(" ({})", said.join("; "))
        };
        refusal(
            e.code() == ErrorCode::InvalidArgument,
            format!("stage `{}`: {e}{reason}", stage.name),
        )
    })
}

/// A provider that is there and refuses its options is a fault of the stage, not of the machine.
fn refusal(invalid_argument: bool, why: String) -> OpenError {
    let refused = invalid_argument || REFUSED.iter().any(|r| why.contains(r));
    if refused && !missing(&why) {
        OpenError::Failed(why)
    } else {
        OpenError::Unavailable(why)
    }
}

/// Tells a model that cannot be loaded from a machine that cannot run it: some providers look for
/// their device only when the session is made.
pub(super) fn commit_error(stage: &OnnxStage, why: &str) -> OpenError {
    let text = format!(
        "stage `{}`: cannot open the model {}: {why}",
        stage.name,
        stage.model.display()
    );
    if !stage.options.providers.is_empty() && missing(why) {
        OpenError::Unavailable(text)
    } else {
        OpenError::Failed(text)
    }
}

fn missing(why: &str) -> bool {
    MISSING.iter().any(|m| why.contains(m))
}

fn cpu(stage: &OnnxStage) -> ExecutionProviderDispatch {
    ep::CPU::default()
        .with_arena_allocator(stage.options.memory_optimization)
        .build()
}

/// The provider with its options, and whether the library is built with it.
fn dispatch(
    stage: &OnnxStage,
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
    fn a_wrong_option_is_a_failed_stage_and_a_missing_device_an_unavailable_one() {
        // As ONNX Runtime 1.24.1 with OpenVINO, and its CUDA provider, say it.
        for failed in [
            "Failed to load provider OpenVINOExecutionProvider (Invalid provider_option key: x)",
            "Failed to load provider OpenVINOExecutionProvider (JSON parsing error: …)",
            "Unknown provider option: \"use_tf33\".",
        ] {
            let error = refusal(false, failed.to_owned());
            assert!(matches!(error, OpenError::Failed(_)), "{failed}");
        }
        for unavailable in [
            "Failed to load provider OpenVINOExecutionProvider (Device GPU is not available)",
            "Failed to load library libonnxruntime_providers_cuda.so with error: \
             libcublasLt.so.12: cannot open shared object file",
        ] {
            for invalid_argument in [false, unavailable.contains("cublas")] {
                let error = refusal(invalid_argument, unavailable.to_owned());
                assert!(matches!(error, OpenError::Unavailable(_)), "{unavailable}");
            }
        }
    }

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
