//! Verdicts for people.

mod explain;
mod headline;
pub mod junit;
pub mod markdown;
pub mod terminal;

pub use explain::explain;
pub use headline::headline;
