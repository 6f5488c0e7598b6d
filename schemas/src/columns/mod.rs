//! Columns of Parquet row groups that are written without the general writer.
//!
//! Payloads come page by page, straight from the memory they are in ([`pages`]); numbers ([`numbers`]), texts
//! ([`texts`]), shapes ([`shapes`]) and descriptions of tensors ([`descriptions`]) are one page each. Run files
//! consist of these. Of captures the general writer makes all but recorders and payloads ([`described`]), behind
//! those, so that who reads no payload reads one piece of the file. Any reader of Parquet reads them;
//! parquet-java wants a row group's first column to lie first in it.

mod described;
mod descriptions;
mod dictionary;
mod footer;
mod levels;
mod numbers;
mod one_page;
mod page_header;
mod pages;
mod shapes;
mod texts;

pub(crate) use described::Described;
pub(crate) use descriptions::Descriptions;
pub(crate) use footer::{CREATED_BY, MAGIC, footer, row_group};
pub(crate) use numbers::Numbers;
pub(crate) use one_page::Column;
pub(crate) use pages::{Chunk, Output, Pages, Piece, Slot, body_slot, tensor_slots};
pub(crate) use shapes::Shapes;
pub(crate) use texts::{PlainTexts, Recorders, Texts};

/// Offsets and lengths as Parquet's metadata has them.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).expect("a file has less than 2^63 bytes")
}
