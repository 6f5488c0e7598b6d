//! Python interpreters of the runtimes that live in one.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::worker::{Source, Worker};
use super::{Need, OpenError};

/// The protocol's own source; every worker begins with it.
pub(super) const PROTOCOL: Source = Source {
    name: "worker",
    text: include_str!("../../../scripts/workers/worker.py"),
};
/// Tensors to numpy and back.
pub(super) const TENSORS: Source = Source {
    name: "tensors",
    text: include_str!("../../../scripts/workers/tensors.py"),
};

/// The interpreter of a stage: its own, else the caller's.
///
/// # Errors
/// [`OpenError::Unavailable`] with `how` to get one.
pub(super) fn locate(
    own: Option<&Path>,
    default: Option<&Path>,
    how: &str,
) -> Result<PathBuf, OpenError> {
    let found = own.or(default).map(Path::to_path_buf);
    found.ok_or_else(|| {
        OpenError::Unavailable(format!("no Python interpreter was found for it: {how}"))
    })
}

/// The interpreter that a ladder names: absolute, and not resolved, because an interpreter finds its
/// packages beside the link that it was started by.
///
/// # Errors
/// There is none.
pub(super) fn interpreter(path: &Path) -> Result<PathBuf, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("python {}: {e}", path.display());
    let path = std::path::absolute(path).map_err(|e| wrong(&e))?;
    if path.is_file() {
        Ok(path)
    } else {
        Err(wrong(&"there is no such interpreter"))
    }
}

/// Starts the interpreter and asks it what it has; `how` to get one is said where it lacks the
/// package.
pub(super) fn examine(python: Option<&Path>, sources: &'static [Source], how: &str) -> Vec<Need> {
    let interpreter = |found| Need {
        what: "interpreter".to_owned(),
        found,
    };
    let path = match locate(python, None, how) {
        Ok(path) => path,
        Err(e) => return vec![interpreter(Err(e.to_string()))],
    };
    let mut worker = Worker::new(path.clone(), sources, Vec::new());
    let answer = match worker.open(Map::new()) {
        Ok(opened) => opened.answer,
        Err(e) => return vec![interpreter(Err(format!("{e}; {how}")))],
    };
    let needs = answer.get("needs").cloned().unwrap_or(Value::Null);
    let needs: Vec<(String, bool, String)> = serde_json::from_value(needs).unwrap_or_default();
    let needs = needs.into_iter().map(|(what, found, words)| Need {
        what,
        found: if found { Ok(words) } else { Err(words) },
    });
    std::iter::once(interpreter(Ok(path.display().to_string())))
        .chain(needs)
        .collect()
}

/// The interpreter of the project's own environment.
#[cfg(test)]
pub(super) fn for_tests() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    assert!(path.exists(), "run scripts/setup first");
    path
}
