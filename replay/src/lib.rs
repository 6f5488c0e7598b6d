//! The synchronous replay engine.
//!
//! `source → Stage on Runtime → Comparison → Verdict`. This crate never imports hyper or clap and
//! never reads the terminal or the environment: whoever calls it hands everything over.
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

pub mod compare;
pub mod filter;
pub mod judge;
pub mod labels;
pub mod ladder;
mod mapping;
pub mod metric;
mod requests;
pub mod runner;
pub mod runtime;
pub mod shapes;
pub mod source;
pub mod verdict;
