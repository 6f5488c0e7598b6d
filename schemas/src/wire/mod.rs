//! Wire decode: `RawExchange → Exchange`.
//!
//! One module per protocol. [`decode`] never fails and never panics: what cannot be decoded keeps
//! its raw body and the reason. What each protocol's decoder does, and what is kept raw:
//! `docs/protocols.md`.

mod binary;
mod data;
mod json;
mod keep;
mod respond;
mod route;
mod row;

pub use binary::{BinaryHeader, binary_header};
pub use json::{OipRequest, OipResponse, RequestedOutput, decode_request, decode_response};
pub use keep::{BodyPolicy, Keep};
pub use respond::{EncodedResponse, encode_response};
pub use route::{Infer, infer_route};
pub use row::decode;

/// Why bytes are not what their protocol says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WireError(pub String);

impl WireError {
    pub(crate) fn new(why: impl ToString) -> Self {
        Self(why.to_string())
    }
}

impl From<crate::TensorError> for WireError {
    fn from(e: crate::TensorError) -> Self {
        Self::new(e)
    }
}
