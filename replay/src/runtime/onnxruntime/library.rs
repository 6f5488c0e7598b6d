//! The runtime library: one per process, whoever asks first.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::environment::Environment;

use crate::runtime::OpenError;

/// The loaded library.
pub(super) struct Library {
    pub path: PathBuf,
    /// What the library says of its own build.
    pub build: String,
    pub environment: Environment,
}

static LOADED: OnceLock<Library> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// Loads the library, or returns it where this process has loaded the same one before.
///
/// A second library in one process would be ignored in silence by `ort`, so it is an error here.
pub(super) fn load(path: &Path) -> Result<&'static Library, OpenError> {
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = std::fs::canonicalize(path).map_err(|e| {
        OpenError::Unavailable(format!(
            "cannot load the ONNX Runtime library {}: {e}. Give the path of a \
             libonnxruntime.so, for example from `pip install onnxruntime==1.32.0`",
            path.display()
        ))
    })?;
    if let Some(loaded) = LOADED.get() {
        if loaded.path == path {
            return Ok(loaded);
        }
        return Err(OpenError::Failed(format!(
            "this process has loaded {} and cannot load {} beside it: one stage process, one \
             library",
            loaded.path.display(),
            path.display()
        )));
    }
    let unavailable = |e: &dyn std::fmt::Display| {
        OpenError::Unavailable(format!(
            "{} is no usable ONNX Runtime library (1.24 or newer): {e}",
            path.display()
        ))
    };
    // Warnings of the environment belong to no stage; those of sessions are caught per session.
    let environment = ort::init_from(&path)
        .map_err(|e| unavailable(&e))?
        .with_name("inferdiff")
        .with_telemetry(false)
        .build()
        .map_err(|e| unavailable(&e))?;
    let build = ort::info().to_owned();
    Ok(LOADED.get_or_init(|| Library {
        path,
        build,
        environment,
    }))
}

impl Library {
    /// `1.32.0`: from the build's branch, else from the file's name.
    pub fn version(&self) -> String {
        let branch = self
            .build
            .split("git-branch=rel-")
            .nth(1)
            .and_then(|s| s.split(',').next());
        let file = self.path.file_name().and_then(|n| n.to_str());
        let file = file.and_then(|n| n.split(".so.").nth(1));
        branch.or(file).unwrap_or("unknown").to_owned()
    }
}
