//! What outlives an inferdiff process.
//!
//! Tensors and exchanges, the decoders that turn wire bytes into them, the capture format with its
//! writer *and* its reader, and the files of a run. Nothing here knows of sockets, runtimes or
//! terminals: this crate never imports tokio, hyper, ort or clap.
//!
//! The types follow the one path of the product:
//! `RawExchange → wire decode → Exchange → RecordBatch → Segment → Capture`.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::print_stdout,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a test may fail loudly, and its numbers are small"
    )
)]

pub mod capture;
mod columns;
pub mod digest;
pub mod exchange;
pub mod fuzz;
pub mod headers;
pub mod pool;
pub mod prefetch;
pub mod raw;
pub mod run;
pub mod secret;
pub mod storage;
pub mod tensor;
pub mod wire;
pub mod xxh3;

pub use exchange::{Exchange, Message, Outcome};
pub use headers::Headers;
pub use raw::{Frame, RawBody, RawExchange};
pub use tensor::{Datatype, Payload, Tensor, TensorError};
