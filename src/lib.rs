//! inferdiff: sockets, terminal, processes around `inferdiff-schemas` and `inferdiff-replay`.
//!
//! `proxy/` imports neither `cli/` nor `replay`, so that a recorder-only build has no runtime.

pub mod cli;
pub mod proxy;
pub mod recorder;
#[cfg(feature = "replay")]
pub mod report;
#[cfg(feature = "replay")]
pub mod serve;
