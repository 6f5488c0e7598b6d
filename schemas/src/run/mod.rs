//! The files of a run: a directory with everything that one replay produced.
//!
//! ```text
//! run/
//!   run.json                             manifest: resolved ladder, digests, fingerprint
//!   requests.parquet                     one row per exchange: keys for labels, weights, slices
//!   stages/<name>/status.json            completed, failed or unavailable, and why
//!   stages/<name>/evidence.json          what the stage really executed
//!   stages/<name>/comparisons/*.parquet  one row per (recorder, seq, item, output): numbers only
//!   stages/<name>/outputs/*.parquet      the reference's always, a stage's where its bits differ
//!   stages/<name>/again-<k>/…            the stage once more in a fresh process, against its own first answers
//!   stages/<name>/probes.json            the stage asked in other ways
//!   verdicts.json
//! ```

pub mod comparison;
mod comparison_file;
pub mod evidence;
mod files;
mod growing;
pub mod ladder;
pub mod layout;
pub mod manifest;
pub mod outputs;
pub mod probes;
pub mod requests;
mod sink;
mod unpublished;
pub mod verdicts;

pub use comparison_file::{
    ComparisonBuffers, ComparisonColumns, ComparisonReader, ComparisonWriter,
};
pub use files::{RunFileError, read_json, write_json};
