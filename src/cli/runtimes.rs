//! The runtimes of this build. A new one is one more line here.

use std::path::PathBuf;

use inferdiff_replay::runtime::{OnnxRuntime, Paddle, Recorded, Runtimes, Scripted};

/// All of them. `library` is the ONNX Runtime library of stages that name none, `python` the
/// interpreter.
pub fn all(library: Option<PathBuf>, python: Option<PathBuf>) -> Runtimes {
    Runtimes::new()
        .with(OnnxRuntime {
            default_library: library,
        })
        .with(Paddle {
            default_python: python,
        })
        .with(Recorded)
        .with(Scripted)
}
