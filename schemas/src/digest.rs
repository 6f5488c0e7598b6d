//! Digest of an exchange's inputs, for matching equal requests across captures.

use crate::tensor::{Payload, Tensor};
use crate::xxh3::Hash128;

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
    let mut hash = Hash128::new();
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
    hash.digest().to_be_bytes()
}

fn length32(n: usize) -> [u8; 4] {
    u32::try_from(n)
        .expect("names and ranks are far below 4 GiB: payloads are capped at 1 GiB")
        .to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Datatype;

    fn tensor(name: &str, datatype: Datatype, shape: &[i64], data: &[u8]) -> Tensor {
        Tensor::inline(name, datatype, shape.to_vec(), data.to_vec().into()).unwrap()
    }

    fn hex(inputs: &[Tensor]) -> String {
        input_digest(inputs)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    }

    /// Made by Python's `xxhash` package from the encoding that `docs/capture-format.md` describes.
    #[test]
    fn golden_vectors() {
        let pair = [1.0f32, -2.5].map(f32::to_le_bytes).concat();
        let seven = tensor("b", Datatype::Int64, &[], &7i64.to_le_bytes());
        let bools = tensor("a", Datatype::Bool, &[3], &[1, 0, 1]);
        let text = tensor(
            "text",
            Datatype::Bytes,
            &[2],
            b"\0\0\0\0\x03\0\0\0a\xc3\xa9",
        );
        let expected = [
            (vec![], "99aa06d3014798d86001c324468d497f"),
            (
                vec![tensor("x", Datatype::Fp32, &[1, 2], &pair)],
                "0963689fc2db6e1fe99931aa21e8c0b5",
            ),
            (
                vec![seven.clone(), bools.clone()],
                "6a5ad5bfc36d315dcd1127d291ab7961",
            ),
            (vec![bools, seven], "6a5ad5bfc36d315dcd1127d291ab7961"),
            (vec![text], "634199421819bb3b059483cc92aa2d4c"),
            (
                vec![tensor("x", Datatype::Fp32, &[0, 4], b"")],
                "a63c7e9723a5065b1f12a6cbf0108926",
            ),
        ];
        for (inputs, digest) in expected {
            assert_eq!(hex(&inputs), digest, "{inputs:?}");
        }
    }
}
