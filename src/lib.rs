//! inferdiff: sockets, terminal, processes around `inferdiff-schemas` and `inferdiff-replay`.
//!
//! `proxy/` imports neither `cli/` nor `replay`, so that a recorder-only build has no runtime.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::print_stdout,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a test may fail loudly, and its numbers are small"
    )
)]

pub mod admin;
pub mod align;
pub mod cli;
#[cfg(feature = "replay")]
pub mod endpoint;
pub mod handover;
pub mod import;
pub mod proxy;
pub mod recorder;
#[cfg(feature = "replay")]
pub mod report;
#[cfg(feature = "replay")]
pub mod repro;
#[cfg(feature = "replay")]
pub mod serve;
