//! Ladders: ordered stages, the reference first (`docs/ladder.md`).
//!
//! TOML → [`file::File`] → [`resolve`] → `inferdiff_schemas::run::ladder::Ladder`.

mod builtin;
mod criteria;
mod file;
mod flat;
mod models;
mod resolve;
mod stage;
mod suggest;
mod written;

pub use builtin::{BUILTIN, text as builtin_text};
pub(crate) use criteria::existing;
pub(crate) use flat::{Flat, flat};
pub use models::{OfModel, Resolved};
pub use resolve::{Given, resolve, resolve_each};
pub(crate) use suggest::hint;
pub use suggest::nearest;
pub use written::{Completed, Written};

/// Why a ladder cannot be used: what, where and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ladder {place}: {why}")]
pub struct LadderError {
    /// File or built-in name.
    pub place: String,
    /// What is wrong.
    pub why: String,
}
