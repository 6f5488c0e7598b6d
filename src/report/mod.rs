//! Verdicts for people.

mod explain;
mod headline;
pub mod terminal;

pub use explain::explain;
pub use headline::headline;
