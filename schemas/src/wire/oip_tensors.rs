//! Tensors of the gRPC form: their data is raw, typed, or in shared memory.

use bytes::Bytes;

use super::little_endian::{integers, strings};
use super::oip_grpc::{json, object};
use super::oip_proto::{InferTensor, InferTensorContents};
use super::{WireError, capped};
use crate::tensor::{Datatype, Payload, Tensor};

/// Decodes the tensors of one message. Raw contents come in tensor order and skip those in shared
/// memory; where there are any, no tensor may have typed contents.
///
/// # Errors
/// Anything that the message claims and does not hold.
pub(super) fn tensors(wire: Vec<InferTensor>, raw: Vec<Bytes>) -> Result<Vec<Tensor>, WireError> {
    let any_raw = !raw.is_empty();
    let mut raw = raw.into_iter();
    let mut out = Vec::with_capacity(wire.len());
    for w in wire {
        let name = w.name.clone();
        let fail = |why: &str| WireError(format!("tensor `{name}`: {why}"));
        let datatype = Datatype::from_name(&w.datatype)
            .ok_or_else(|| fail(&format!("unknown datatype `{}`", w.datatype)))?;
        let shared = w.parameters.contains_key("shared_memory_region");
        let mut tensor = Tensor {
            name: w.name,
            message: 0,
            datatype,
            shape: w.shape,
            payload: Payload::Inline,
            parameters: json(object(w.parameters)),
            data: None,
        };
        // Some clients set an empty message where they mean none.
        let typed = w.contents.filter(|c| *c != InferTensorContents::default());
        tensor.data = match (shared, any_raw, typed) {
            (true, _, None) => {
                tensor.payload = Payload::Shm;
                None
            }
            (true, _, Some(_)) => return Err(fail("it is in shared memory and has contents")),
            (false, true, None) => Some(
                raw.next()
                    .ok_or_else(|| fail("its raw contents are missing"))?,
            ),
            (false, true, Some(_)) => return Err(fail("raw and typed contents are mixed")),
            (false, false, Some(typed)) => {
                let data = contents(typed, datatype).map_err(|e| fail(&e.0))?;
                Some(data.into())
            }
            (false, false, None) if tensor.elements()? == 0 => Some(Bytes::new()),
            (false, false, None) => return Err(fail("it has no contents")),
        };
        tensor.check()?;
        out.push(capped(tensor));
    }
    match raw.len() {
        0 => Ok(out),
        n => Err(WireError(format!(
            "{n} raw contents follow the last tensor"
        ))),
    }
}

/// The field that carries each datatype; another field with values is an error.
fn contents(c: InferTensorContents, datatype: Datatype) -> Result<Vec<u8>, WireError> {
    let fields = [
        ("bool_contents", c.bool_contents.len()),
        ("int_contents", c.int_contents.len()),
        ("int64_contents", c.int64_contents.len()),
        ("uint_contents", c.uint_contents.len()),
        ("uint64_contents", c.uint64_contents.len()),
        ("fp32_contents", c.fp32_contents.len()),
        ("fp64_contents", c.fp64_contents.len()),
        ("bytes_contents", c.bytes_contents.len()),
    ];
    let (field, data) = match datatype {
        Datatype::Bool => (
            "bool_contents",
            c.bool_contents.iter().map(|&b| u8::from(b)).collect(),
        ),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => (
            "int_contents",
            integers(c.int_contents.iter().map(|&v| v.into()), datatype)?,
        ),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => (
            "uint_contents",
            integers(c.uint_contents.iter().map(|&v| v.into()), datatype)?,
        ),
        Datatype::Int64 => (
            "int64_contents",
            c.int64_contents
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
        ),
        Datatype::Uint64 => (
            "uint64_contents",
            c.uint64_contents
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
        ),
        Datatype::Fp32 => (
            "fp32_contents",
            c.fp32_contents
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
        ),
        Datatype::Fp64 => (
            "fp64_contents",
            c.fp64_contents
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
        ),
        Datatype::Bytes => ("bytes_contents", strings(&c.bytes_contents)?),
        Datatype::Fp16 | Datatype::Bf16 => {
            return Err(WireError(format!(
                "{datatype} travels in raw contents only"
            )));
        }
    };
    match fields.iter().find(|(name, n)| *n > 0 && *name != field) {
        None => Ok(data),
        Some((other, _)) => Err(WireError(format!("{datatype} does not travel in {other}"))),
    }
}
