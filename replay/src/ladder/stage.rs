//! One stage as written → one stage with nothing left open. What a key means is its runtime's
//! affair: here it is only seen to that somebody knows it.

use std::path::Path;

use inferdiff_schemas::run::ladder::Stage;

use super::written::{Keys, Written};
use super::{file, hint};
use crate::runtime::{Runtime, Runtimes};

/// Completes a stage. `written` is the stage as its own table says, `flat` has what it inherits.
///
/// # Errors
/// A sentence without the stage's name.
pub(super) fn complete(
    written: &file::Stage,
    flat: file::Stage,
    folder: &Path,
    model: Option<&Path>,
    runtimes: &Runtimes,
) -> Result<Stage, String> {
    let runtime = flat.runtime.as_deref().ok_or_else(|| {
        let first = runtimes.advertised().next().unwrap_or("onnxruntime");
        format!("it names no runtime and inherits none; write runtime = \"{first}\"")
    })?;
    let runtime = runtimes.get(runtime).ok_or_else(|| {
        let known: Vec<_> = runtimes.advertised().collect();
        format!(
            "there is no runtime `{runtime}` (known: {}){}",
            known.join(", "),
            hint(runtime, known.iter().copied())
        )
    })?;
    for (key, at) in &written.own {
        known(key, runtime, runtimes).map_err(|why| format!("line {}: {why}", at.line))?;
    }
    let mut keys = flat.own;
    // What it inherits from a stage of another runtime falls away.
    keys.retain(|key, _| runtime.keys().contains(&key.as_str()));
    let mut own = Written {
        keys: Keys(keys),
        folder,
        model,
    };
    let completed = runtime.complete(&mut own)?;
    if let Some(key) = own.keys.0.keys().next() {
        return Err(format!(
            "the runtime `{}` announces the key `{key}` and does not read it",
            runtime.name()
        ));
    }
    if !runtime.reads_inputs() && written.inputs.is_some() {
        return Err(format!(
            "[stage.inputs] means nothing to the runtime `{}`: take it out",
            runtime.name()
        ));
    }
    let inputs = flat.inputs.filter(|_| runtime.reads_inputs());
    Ok(Stage {
        name: flat.name,
        runtime: runtime.name().to_owned(),
        model: completed.model,
        files: completed.files,
        options: completed.options,
        optional: flat.optional.unwrap_or(false),
        inputs: inputs.unwrap_or_default(),
        outputs: flat.outputs.unwrap_or_default(),
    })
}

/// A key that a stage says itself must mean something to its runtime.
fn known(key: &str, runtime: &dyn Runtime, runtimes: &Runtimes) -> Result<(), String> {
    if runtime.keys().contains(&key) {
        return Ok(());
    }
    if runtimes.iter().any(|r| r.keys().contains(&key)) {
        return Err(format!(
            "`{key}` means nothing to the runtime `{}`: take it out",
            runtime.name()
        ));
    }
    let here: Vec<&str> = file::STAGE_KEYS
        .into_iter()
        .chain(runtime.keys().iter().copied())
        .collect();
    Err(format!(
        "unknown key `{key}` (known here: {}){}",
        here.join(", "),
        hint(key, here.iter().copied())
    ))
}
