//! The capture format: writer and reader side by side (`docs/capture-format.md`).
//!
//! ```text
//! capture/
//!   _capture.json                format version, creation, upstream and model metadata
//!   _recorders/<ulid>.json       one recorder process: its ledger at stop, version, host, notes
//!   <ulid>.parquet               sealed segment
//!   _<ulid>.parquet.open         growing segment, complete at every checkpoint
//!   _<ulid>.journal.json         a decided change of sealed segments, until it is carried out
//! ```

mod buffer;
mod decode;
mod encode;
mod encrypted;
mod error;
mod extent;
mod footer;
mod footers;
mod key;
mod layout;
mod ledger;
mod meta;
mod reader;
mod recovery;
mod row_group;
mod rows;
mod schema;
mod segment;
mod span;
mod turns;
mod upkeep;
mod verify;
mod writer;

// For run files that keep outputs in the same `list<tensor>` column (`run::outputs`).
pub(crate) use decode::{Ulids, tensors as decode_tensors};
pub(crate) use schema::tensor_list;

pub use buffer::weight;
pub use error::CaptureError;
pub use footer::{Footer, FooterNote, find_last};
pub use key::CaptureKey;
pub use layout::{FORMAT_VERSION, Layout};
pub use ledger::Ledger;
pub use meta::{CaptureMeta, RecorderMeta};
pub use reader::{Capture, Segment};
pub use recovery::Recovered;
pub use rows::{Batch, Batches, Projection, Rows};
pub use schema::{PAYLOAD_COLUMNS, STORED, leaf_paths};
pub use span::{Piece, SpanDigest};
pub use upkeep::{Deleted, MergeOptions, Merged, Pace, Retention, Retired, Step, Upkeep};
pub use verify::{Books, Report, verify};
pub use writer::{CaptureWriter, SyncPolicy, WriterOptions};
