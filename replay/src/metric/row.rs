//! One item's answer of one output.

use bytes::Bytes;
use half::{bf16, f16};
use inferdiff_schemas::{Datatype, Tensor};

/// One item's answer of one output: what a metric sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Datatype.
    pub datatype: Datatype,
    /// Shape of the item.
    pub shape: Vec<i64>,
    /// Little-endian, row-major; BYTES as length-prefixed elements.
    pub data: Bytes,
}

impl Row {
    /// Item `item` of a tensor: row of axis 0 where that is the batch axis, else all of it. As in
    /// comparisons, a 0-D tensor and BYTES are one item. `None` past the end or without data.
    pub fn cut(tensor: &Tensor, item: u32, batch_axis: bool) -> Option<Self> {
        let data = tensor.data.as_ref()?;
        let whole = || Self {
            datatype: tensor.datatype,
            shape: tensor.shape.clone(),
            data: data.clone(),
        };
        let rows = tensor.shape.first().and_then(|&n| usize::try_from(n).ok());
        let (Some(rows), Some(_), true) = (rows, tensor.datatype.size(), batch_axis) else {
            return (item == 0).then(whole);
        };
        let item = usize::try_from(item).ok().filter(|&i| i < rows)?;
        let size = data.len() / rows;
        Some(Self {
            datatype: tensor.datatype,
            shape: tensor.shape[1..].to_vec(),
            data: data.slice(item * size..(item + 1) * size),
        })
    }

    /// Every element as f64 (integers beyond 2^53 are rounded); `None` for BYTES.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        let size = self.datatype.size()?;
        macro_rules! all {
            ($t:ty, $v:ident => $f:expr) => {
                self.data
                    .chunks_exact(size)
                    .map(|c| {
                        let $v = <$t>::from_le_bytes(c.try_into().expect("chunks of its size"));
                        $f
                    })
                    .collect()
            };
        }
        #[expect(clippy::cast_precision_loss, reason = "said in the docstring")]
        Some(match self.datatype {
            Datatype::Bool => self.data.iter().map(|&b| f64::from(b != 0)).collect(),
            Datatype::Uint8 => all!(u8, v => f64::from(v)),
            Datatype::Uint16 => all!(u16, v => f64::from(v)),
            Datatype::Uint32 => all!(u32, v => f64::from(v)),
            Datatype::Uint64 => all!(u64, v => v as f64),
            Datatype::Int8 => all!(i8, v => f64::from(v)),
            Datatype::Int16 => all!(i16, v => f64::from(v)),
            Datatype::Int32 => all!(i32, v => f64::from(v)),
            Datatype::Int64 => all!(i64, v => v as f64),
            Datatype::Fp16 => all!(f16, v => v.to_f64()),
            Datatype::Bf16 => all!(bf16, v => v.to_f64()),
            Datatype::Fp32 => all!(f32, v => f64::from(v)),
            Datatype::Fp64 => all!(f64, v => v),
            Datatype::Bytes => return None,
        })
    }

    /// Every element by its bytes. A BYTES element that is cut short ends the list.
    pub fn elements(&self) -> Vec<&[u8]> {
        if let Some(size) = self.datatype.size() {
            return self.data.chunks_exact(size).collect();
        }
        let mut rest = &self.data[..];
        let mut out = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let Some((element, after)) = after.split_at_checked(length) else {
                break;
            };
            out.push(element);
            rest = after;
        }
        out
    }

    /// `FP32 [10]`.
    pub fn describe(&self) -> String {
        format!("{} {:?}", self.datatype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_as_comparisons_cut_them() {
        let data: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let t = Tensor::inline("y", Datatype::Fp32, vec![2, 2], data.into()).unwrap();
        assert_eq!(
            Row::cut(&t, 1, true).unwrap().numbers().unwrap(),
            [3.0, 4.0]
        );
        assert_eq!(Row::cut(&t, 2, true), None);
        assert_eq!(Row::cut(&t, 0, false).unwrap().shape, [2, 2]);
        assert_eq!(Row::cut(&t, 1, false), None);
        let text = Bytes::from_static(b"\x02\0\0\0ab\x01\0\0\0c");
        let t = Tensor::inline("y", Datatype::Bytes, vec![2], text).unwrap();
        let row = Row::cut(&t, 0, true).unwrap();
        assert_eq!(row.elements(), [&b"ab"[..], &b"c"[..]]);
        assert_eq!(row.numbers(), None);
    }
}
