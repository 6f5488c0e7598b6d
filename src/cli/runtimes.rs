//! The runtimes of this build. A new one is one more line here.

use std::path::PathBuf;

use inferdiff_replay::runtime::{OnnxRuntime, Paddle, Recorded, Runtimes, Scripted};

use super::library::Libraries;

/// All of them. `libraries` are ONNX Runtime's, `python` is the interpreter of stages that name none.
pub fn all(libraries: Libraries, python: Option<PathBuf>) -> Runtimes {
    Runtimes::new()
        .with(OnnxRuntime {
            default_library: libraries.unnamed,
            named: libraries.named,
        })
        .with(Paddle {
            default_python: python,
        })
        .with(Recorded)
        .with(Scripted)
}
