//! The runtimes of this build. A new one is one more line here.

use inferdiff_replay::runtime::{OnnxReference, OnnxRuntime, Paddle, Recorded, Runtimes, Scripted};

use super::interpreter::Interpreters;
use super::library::Libraries;
use crate::endpoint::Endpoint;

/// All of them. `libraries` are ONNX Runtime's, `pythons` are the interpreters of stages that name none.
pub fn all(libraries: Libraries, pythons: Interpreters) -> Runtimes {
    Runtimes::new()
        .with(OnnxRuntime {
            default_library: libraries.unnamed,
            named: libraries.named,
        })
        .with(Paddle {
            default_python: pythons.paddle,
        })
        .with(OnnxReference {
            default_python: pythons.onnx,
        })
        .with(Recorded)
        .with(Endpoint)
        .with(Scripted)
}
