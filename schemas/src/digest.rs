//! Digest of an exchange's inputs, for matching equal requests across captures.

use xxhash_rust::xxh3::Xxh3;

use crate::tensor::{Payload, Tensor};

/// XXH3-128 (seed 0) of the inline inputs, big-endian.
///
/// Canonical encoding, tensors sorted by name (byte order; repeats in their order), for each:
/// u32-LE length of the name, the name's UTF-8 bytes; u32-LE length of the datatype's protocol
/// name, that name; u32-LE rank, each dimension as i64-LE; u64-LE length of the data, the data.
/// Tensors that are not inline do not enter it. Golden vectors: `docs/capture-format.md`.
pub fn input_digest(inputs: &[Tensor]) -> [u8; 16] {
    let mut inline: Vec<(&Tensor, &[u8])> = inputs
        .iter()
        .filter(|t| t.payload == Payload::Inline)
        .filter_map(|t| t.data.as_deref().map(|data| (t, data)))
        .collect();
    inline.sort_by(|a, b| a.0.name.as_bytes().cmp(b.0.name.as_bytes()));
    let mut hash = Xxh3::new();
    let mut head = Vec::with_capacity(64);
    for (tensor, data) in inline {
        head.clear();
        for text in [tensor.name.as_str(), tensor.datatype.name()] {
            head.extend_from_slice(&length32(text.len()));
            head.extend_from_slice(text.as_bytes());
        }
        head.extend_from_slice(&length32(tensor.shape.len()));
        for d in &tensor.shape {
            head.extend_from_slice(&d.to_le_bytes());
        }
        head.extend_from_slice(&(data.len() as u64).to_le_bytes());
        hash.update(&head);
        hash.update(data);
    }
    hash.digest128().to_be_bytes()
}

fn length32(n: usize) -> [u8; 4] {
    u32::try_from(n)
        .expect("names and ranks are far below 4 GiB: payloads are capped at 1 GiB")
        .to_le_bytes()
}
