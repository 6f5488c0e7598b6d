//! The files of a run: a directory with everything that one replay produced.
//!
//! ```text
//! run/
//!   run.json                             manifest: resolved ladder, digests, fingerprint
//!   requests.parquet                     one row per exchange: keys for labels, weights, slices
//!   stages/<name>/evidence.json
//!   stages/<name>/comparisons/*.parquet  one row per (recorder, seq, item, output): numbers only
//!   stages/<name>/outputs/*.parquet
//!   verdicts.json
//! ```

pub mod comparison;
pub mod evidence;
pub mod ladder;
pub mod verdicts;
