//! One stage as written → one stage with nothing left open.

use std::path::{Path, PathBuf};

use inferdiff_schemas::run::ladder::{
    GraphOptimization, OutputMapping, OutputSource, Provider, Stage,
};

use super::resolve::Given;
use super::{criteria, file, hint};
use crate::runtime;

/// Runtimes that ladders may name; `scripted` serves tests and is not advertised.
const RUNTIMES: [&str; 2] = ["onnxruntime", "recorded"];
/// Runtimes that the design knows and this build does not.
const NOT_YET: [&str; 3] = ["paddle", "endpoint", "onnx-reference"];
/// More threads than any machine that serves a model has: a typing error.
const MOST_THREADS: u32 = 4096;

/// Completes a stage. `written` is the stage as its own table says, `flat` has what it inherits.
///
/// # Errors
/// A sentence without the stage's name.
pub(super) fn complete(
    written: &file::Stage,
    flat: file::Stage,
    folder: &Path,
    model: Option<&Path>,
    given: &Given,
) -> Result<Stage, String> {
    let runtime = flat.runtime.clone().ok_or_else(|| {
        format!(
            "it names no runtime and inherits none; write runtime = \"{}\"",
            RUNTIMES[0]
        )
    })?;
    let stage = match runtime.as_str() {
        "onnxruntime" => engine(flat, folder, model, given)?,
        "recorded" => without_engine(written, flat, &[])?,
        "scripted" => without_engine(written, flat, &["config"])?,
        name if NOT_YET.contains(&name) => {
            return Err(format!(
                "runtime `{name}` is not supported yet; there are {}",
                RUNTIMES.join(", ")
            ));
        }
        name => {
            return Err(format!(
                "there is no runtime `{name}` (known: {}){}",
                RUNTIMES.join(", "),
                hint(name, RUNTIMES.into_iter())
            ));
        }
    };
    Ok(Stage { runtime, ..stage })
}

fn engine(
    flat: file::Stage,
    folder: &Path,
    model: Option<&Path>,
    given: &Given,
) -> Result<Stage, String> {
    let own = flat.model.as_ref().map(|m| folder.join(m));
    let model = own
        .or(model.map(Path::to_path_buf))
        .ok_or_else(|| "it has no model: give --model FILE or write model = \"…\"".to_owned())?;
    let library = flat
        .library
        .as_ref()
        .map(|l| folder.join(l))
        .or(given.library.clone())
        .map(library)
        .transpose()?;
    let stage = Stage {
        model: Some(criteria::existing("model", &model)?),
        library,
        // What is not said is as the reference should be: off.
        graph_optimization: flat.graph_optimization.unwrap_or(GraphOptimization::Off),
        prepacking: flat.prepacking.unwrap_or(false),
        memory_optimization: flat.memory_optimization.unwrap_or(false),
        threads: flat.threads.unwrap_or(1),
        deterministic: flat.deterministic.unwrap_or(false),
        ..bare(flat)
    };
    if stage.threads > MOST_THREADS {
        return Err(format!(
            "threads = {} must be 0 (the library's default) to {MOST_THREADS}",
            stage.threads
        ));
    }
    runtime::check_onnxruntime(&stage)?;
    Ok(stage)
}

fn library(path: PathBuf) -> Result<PathBuf, String> {
    let found = runtime::locate(Some(&path), &[]).map_err(|e| e.to_string())?;
    criteria::existing("library", &found)
}

/// A stage of a runtime that executes nothing. What it says itself for an engine would do nothing,
/// so it is an error; what it inherits falls away.
fn without_engine(
    written: &file::Stage,
    flat: file::Stage,
    allowed: &[&str],
) -> Result<Stage, String> {
    let said = written.engine_keys();
    if let Some(key) = said.iter().find(|key| !allowed.contains(key)) {
        let runtime = flat.runtime.as_deref().unwrap_or_default();
        return Err(format!(
            "`{key}` means nothing to the runtime `{runtime}`: take it out"
        ));
    }
    let mut flat = flat;
    flat.providers = None;
    flat.disabled_passes = None;
    if !allowed.contains(&"config") {
        flat.config = None;
    }
    Ok(bare(flat))
}

/// What every runtime has, and an engine that does nothing.
fn bare(flat: file::Stage) -> Stage {
    let providers = flat.providers.unwrap_or_default().into_iter();
    let outputs = flat.outputs.unwrap_or_default().into_iter();
    Stage {
        name: flat.name,
        runtime: String::new(),
        model: None,
        library: None,
        graph_optimization: GraphOptimization::Off,
        prepacking: false,
        memory_optimization: false,
        threads: 0,
        deterministic: false,
        providers: providers
            .map(|p| Provider {
                name: p.name,
                options: p.options.0,
            })
            .collect(),
        config: flat.config.unwrap_or_default().0,
        disabled_passes: flat.disabled_passes.unwrap_or_default(),
        optional: flat.optional.unwrap_or(false),
        outputs: outputs.map(|(name, m)| (name, mapping(m))).collect(),
    }
}

fn mapping(written: file::OutputMapping) -> OutputMapping {
    OutputMapping {
        from: match written.from {
            file::OutputSource::Index(i) => OutputSource::Index(i),
            file::OutputSource::Name(name) => OutputSource::Name(name),
        },
    }
}
