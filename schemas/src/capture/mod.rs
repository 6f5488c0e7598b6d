//! The capture format: writer and reader side by side (`docs/capture-format.md`).
//!
//! ```text
//! capture/
//!   _capture.json                format version, creation, upstream and model metadata
//!   _recorders/<ulid>.json       one recorder process: its ledger at stop, version, host, notes
//!   <ulid>.parquet               sealed segment
//!   _<ulid>.parquet.open         growing segment, complete at every checkpoint
//! ```

mod error;
mod layout;
mod ledger;
mod meta;

pub use error::CaptureError;
pub use layout::{FORMAT_VERSION, Layout};
pub use ledger::Ledger;
pub use meta::{CaptureMeta, RecorderMeta};
