//! Stage → session.

use std::path::Path;

use inferdiff_schemas::run::ladder::{GraphOptimization, Provider, Stage};
use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::library::Library;
use super::log::SessionLog;
use crate::runtime::OpenError;

/// Opens the model as the stage says; `disabled` are the passes kept out.
pub(super) fn open(
    library: &Library,
    stage: &Stage,
    model: &Path,
    disabled: &[String],
) -> Result<(Session, SessionLog), OpenError> {
    let log = SessionLog::default();
    let failed = |e: &dyn std::fmt::Display| {
        OpenError::Failed(format!(
            "stage `{}`: ONNX Runtime refuses its options: {e}",
            stage.name
        ))
    };
    let configure = || -> Result<SessionBuilder, ort::Error> {
        let mut b = Session::builder(&library.environment)?
            .with_log_id(&stage.name)?
            .with_logger(log.function())?
            .with_log_level(LogLevel::Info)?
            .with_optimization_level(level(stage.graph_optimization))?
            .with_memory_pattern(stage.memory_optimization)?
            .with_deterministic_compute(stage.deterministic)?
            // Said in both cases: the default differs between versions.
            .with_config_entry("session.disable_prepacking", flag(!stage.prepacking))?;
        if stage.threads > 0 {
            b = b.with_intra_threads(stage.threads as usize)?;
        }
        if !disabled.is_empty() {
            b = b.with_disabled_optimizers(disabled.join(";"))?;
        }
        for (key, value) in &stage.config {
            b = b.with_config_entry(key, value)?;
        }
        Ok(b)
    };
    let builder = configure().map_err(|e| failed(&e))?;
    // By default a provider that cannot be had is left out in silence; each must say so instead.
    let mut builder = builder
        .with_execution_providers(providers(stage)?)
        .map_err(|e| OpenError::Unavailable(format!("stage `{}`: {e}", stage.name)))?;
    let session = builder.commit_from_file(model).map_err(|e| {
        OpenError::Failed(format!("cannot load the model {}: {e}", model.display()))
    })?;
    Ok((session, log))
}

fn flag(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

fn level(level: GraphOptimization) -> GraphOptimizationLevel {
    match level {
        GraphOptimization::Off => GraphOptimizationLevel::Disable,
        GraphOptimization::Basic => GraphOptimizationLevel::Level1,
        GraphOptimization::Extended => GraphOptimizationLevel::Level2,
        GraphOptimization::Layout => GraphOptimizationLevel::Level3,
        GraphOptimization::All => GraphOptimizationLevel::All,
    }
}

fn providers(stage: &Stage) -> Result<Vec<ExecutionProviderDispatch>, OpenError> {
    let mut out = Vec::new();
    for provider in &stage.providers {
        out.push(dispatch(stage, provider)?.error_on_failure());
    }
    if !stage.providers.iter().any(|p| p.name == "cpu") {
        let cpu = ep::CPU::default()
            .with_arena_allocator(stage.memory_optimization)
            .build();
        out.push(cpu.error_on_failure());
    }
    Ok(out)
}

fn dispatch(stage: &Stage, provider: &Provider) -> Result<ExecutionProviderDispatch, OpenError> {
    macro_rules! configured {
        ($ep:expr) => {
            provider
                .options
                .iter()
                .fold($ep, |ep, (key, value)| ep.with_arbitrary_config(key, value))
                .build()
        };
    }
    match provider.name.as_str() {
        "cpu" if provider.options.is_empty() => Ok(ep::CPU::default()
            .with_arena_allocator(stage.memory_optimization)
            .build()),
        "cpu" => Err(OpenError::Failed(format!(
            "stage `{}`: the cpu provider has no options; its arena is `memory_optimization`",
            stage.name
        ))),
        "cuda" => Ok(configured!(ep::CUDA::default())),
        "tensorrt" => Ok(configured!(ep::TensorRT::default())),
        "openvino" => Ok(configured!(ep::OpenVINO::default())),
        other => Err(OpenError::Failed(format!(
            "stage `{}`: unknown provider `{other}`; known: cpu, cuda, openvino, tensorrt",
            stage.name
        ))),
    }
}
