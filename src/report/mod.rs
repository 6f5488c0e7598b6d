//! Verdicts for people.

pub mod junit;
pub mod markdown;
pub mod terminal;
