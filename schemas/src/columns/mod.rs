//! Parquet row groups whose payloads are written without a copy of them.
//!
//! Payloads come first, page by page, straight from the memory they are in ([`pages`]); what describes
//! them goes through the general Parquet writer and after them ([`described`]), so that who reads no
//! payload reads one piece of the file.

mod described;
mod levels;
mod pages;

pub(crate) use described::{CREATED_BY, Described, RowGroupColumns, footer};
pub(crate) use pages::{Chunk, Output, Pages, Slot, body_slot, tensor_slots};

/// Offsets and lengths as Parquet's metadata has them.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).expect("a file has less than 2^63 bytes")
}
