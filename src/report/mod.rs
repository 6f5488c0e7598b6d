//! Verdicts for people.

pub mod terminal;
