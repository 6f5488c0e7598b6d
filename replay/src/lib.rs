//! The synchronous replay engine.
//!
//! `source → Stage on Runtime → Comparison → Verdict`. This crate never imports hyper or clap and
//! never reads the terminal or the environment: whoever calls it hands everything over.

pub mod ladder;
pub mod runtime;
