//! Shape profiles from real requests, for runtimes with dynamic shapes.

mod emit;
mod profile;

pub use emit::{onnxruntime, paddle, trtexec};
pub use profile::{Profile, Range, ShapesError, collect};
