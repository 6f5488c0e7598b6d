//! `Stage on Runtime → Comparison`: numbers only (`docs/comparison.md`).
//!
//! `numbers` compares an item block by block: `block` loads a block (`numeric` knows the
//! datatypes), `top`, `sums` and `histogram` take it in, and `level` picks the instructions.
//! `exchange` cuts exchanges into items.

mod block;
mod elements;
mod exchange;
mod find;
mod histogram;
mod level;
mod numbers;
mod numeric;
#[cfg(test)]
mod plain;
mod sums;
mod tolerance;
mod top;

pub use exchange::{Answer, Compared, compare_exchange};
pub use level::Level;
pub use numbers::Comparer;
pub use tolerance::tolerance_for;
