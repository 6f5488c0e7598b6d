//! The runtimes of this build. A new one is one more line here.

use std::path::PathBuf;

use inferdiff_replay::runtime::{OnnxRuntime, Recorded, Runtimes, Scripted};

/// All of them. `library` is the ONNX Runtime library of stages that name none.
pub fn all(library: Option<PathBuf>) -> Runtimes {
    Runtimes::new()
        .with(OnnxRuntime {
            default_library: library,
        })
        .with(Recorded)
        .with(Scripted)
}
