//! `Stage on Runtime → Comparison`: numbers only (`docs/comparison.md`).

mod elements;
mod exchange;
mod numbers;
mod tolerance;

pub use exchange::{Answer, Compared, compare_exchange};
pub use numbers::{Numbers, compare_item};
pub use tolerance::tolerance_for;
