//! Frames of the worker protocol, in both directions.
//!
//! u32 little-endian length of the header, the header as JSON, then the raw bytes of every tensor of
//! the header, in order; behind a request that says `shared`, they are in the shared memory instead
//! ([`Shared`](super::shared::Shared)). Little-endian, row-major, datatypes by their Open Inference Protocol names.

use std::io::{self, IoSlice, Read, Write};

use bytes::Bytes;
use inferdiff_schemas::{Datatype, Tensor};
use serde::{Deserialize, Serialize};

/// No header of ours is near this; a longer one is a stray print.
const MOST_HEADER: usize = 1 << 24;
/// A capture keeps no larger tensor either.
const MOST_TENSOR: u64 = inferdiff_schemas::tensor::MAX_PAYLOAD_BYTES;

/// A tensor whose bytes follow the header.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Spec {
    pub name: String,
    pub datatype: String,
    pub shape: Vec<i64>,
    pub bytes: u64,
}

/// One source of the start frame.
#[derive(Debug, Serialize)]
pub(super) struct Module {
    pub name: &'static str,
    pub bytes: usize,
}

/// What went wrong on the other side, in its words.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Said {
    /// `unavailable`, `failed`, `bad_request` or `engine`.
    pub kind: String,
    pub message: String,
}

/// An answer with tensors, or what went wrong.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub error: Option<Said>,
    #[serde(default)]
    pub tensors: Vec<Spec>,
}

/// Writes one frame.
///
/// # Errors
/// The pipe's, `BrokenPipe` where the process is gone.
pub(super) fn write(to: &mut impl Write, header: &[u8], bodies: &[&[u8]]) -> io::Result<()> {
    let length = u32::try_from(header.len())
        .map_err(io::Error::other)?
        .to_le_bytes();
    let mut pieces = Vec::with_capacity(2 + bodies.len());
    pieces.push(IoSlice::new(&length));
    pieces.push(IoSlice::new(header));
    pieces.extend(bodies.iter().map(|b| IoSlice::new(b)));
    let mut left = &mut pieces[..];
    // Leading empty slices would make a write of nothing look like a closed pipe.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match to.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut left, n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    to.flush()
}

/// The header of the next frame; its tensors' bytes follow.
///
/// # Errors
/// `UnexpectedEof` where the process is gone, `InvalidData` where this is no frame.
pub(super) fn read_header(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MOST_HEADER {
        let why = format!("a header of {length} bytes: something else writes into the pipe");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    read_bytes(from, length as u64)
}

/// The tensors behind a header.
///
/// # Errors
/// As [`read_header`]; `InvalidData` where a tensor's shape and bytes contradict each other.
pub(super) fn read_tensors(from: &mut impl Read, specs: Vec<Spec>) -> io::Result<Vec<Tensor>> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut tensors = Vec::with_capacity(specs.len());
    for spec in specs {
        if spec.bytes > MOST_TENSOR {
            return Err(wrong(format!(
                "output `{}` has {} bytes",
                spec.name, spec.bytes
            )));
        }
        let data = Bytes::from(read_bytes(from, spec.bytes)?);
        let datatype = Datatype::from_name(&spec.datatype)
            .ok_or_else(|| wrong(format!("output `{}` is {}", spec.name, spec.datatype)))?;
        let tensor = Tensor::inline(&spec.name, datatype, spec.shape, data)
            .map_err(|e| wrong(format!("output `{}`: {e}", spec.name)))?;
        tensors.push(tensor);
    }
    Ok(tensors)
}

fn read_bytes(from: &mut impl Read, n: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(usize::try_from(n).map_err(io::Error::other)?);
    // Without zeroing memory that is overwritten at once.
    let got = from.by_ref().take(n).read_to_end(&mut out)?;
    if got as u64 == n {
        Ok(out)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
