//! The synchronous replay engine.
//!
//! `source → Stage on Runtime → Comparison → Verdict`. This crate never imports hyper or clap and
//! never reads the terminal or the environment: whoever calls it hands everything over.

pub mod compare;
pub mod judge;
pub mod labels;
pub mod ladder;
pub mod metric;
pub mod runner;
pub mod runtime;
pub mod shapes;
pub mod source;
pub mod verdict;
