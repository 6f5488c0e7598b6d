//! Python interpreters of the runtimes that live in one.

use std::path::{Path, PathBuf};

use super::OpenError;
use super::worker::Source;

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

/// The interpreter of the project's own environment.
#[cfg(test)]
pub(super) fn for_tests() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    assert!(path.exists(), "run scripts/setup first");
    path
}
