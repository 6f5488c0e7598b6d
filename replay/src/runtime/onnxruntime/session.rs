//! Stage → session.

use inferdiff_schemas::run::evidence::Placement;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::library::Library;
use super::log::SessionLog;
use super::options::{GraphOptimization, OnnxStage};
use super::{placement, providers};
use crate::runtime::OpenError;

/// A session with what it tells of itself.
pub(super) struct Opened {
    pub session: Session,
    pub log: SessionLog,
    pub placement: Vec<Placement>,
}

/// Opens the model exactly as the stage says; checks nothing that ONNX Runtime ignores in silence
/// (that is [`super::proof`]'s work).
pub(super) fn open(library: &Library, stage: &OnnxStage) -> Result<Opened, OpenError> {
    let log = SessionLog::default();
    let builder = configure(library, stage, &log).map_err(|e| {
        OpenError::Failed(format!(
            "stage `{}`: ONNX Runtime refuses its options: {e}",
            stage.name
        ))
    })?;
    let mut builder = providers::append(builder, stage, &library.log)?;
    let session = builder
        .commit_from_file(&stage.model)
        .map_err(|e| providers::commit_error(stage, &e.to_string()))?;
    let placement = placement::read(&session).unwrap_or_else(|e| {
        tracing::debug!(stage = stage.name, "no node placement: {e}");
        Vec::new()
    });
    Ok(Opened {
        session,
        log,
        placement,
    })
}

fn configure(
    library: &Library,
    stage: &OnnxStage,
    log: &SessionLog,
) -> Result<SessionBuilder, ort::Error> {
    let asked = &stage.options;
    let mut b = Session::builder(&library.environment)?
        .with_log_id(&stage.name)?
        .with_logger(log.function())?
        // Every pass is told at this level, those that changed nothing included.
        .with_log_level(LogLevel::Info)?
        .with_optimization_level(level(asked.graph_optimization))?
        .with_memory_pattern(asked.memory_optimization)?
        .with_deterministic_compute(asked.deterministic)?
        // Said in both cases: a default may differ between versions.
        .with_config_entry("session.disable_prepacking", flag(!asked.prepacking))?
        .with_config_entry(placement::CONFIG_KEY, "1")?;
    if asked.threads > 0 {
        b = b.with_intra_threads(asked.threads as usize)?;
    }
    if !asked.disabled_passes.is_empty() {
        b = b.with_disabled_optimizers(asked.disabled_passes.join(";"))?;
    }
    for (key, value) in &asked.config {
        b = b.with_config_entry(key, value)?;
    }
    Ok(b)
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
