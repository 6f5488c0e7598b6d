//! Elements of a tensor: their bytes, their numbers, the way a person writes them.

use half::{bf16, f16};
use inferdiff_schemas::{Datatype, Tensor};

/// The elements of one inline tensor.
pub(super) struct View<'a> {
    data: &'a [u8],
    /// Bytes per element; `None` for BYTES, whose elements lie at `spans`.
    size: Option<usize>,
    spans: Vec<(usize, usize)>,
}

impl<'a> View<'a> {
    /// The tensor's elements in row-major order.
    pub fn of(tensor: &'a Tensor) -> Self {
        let data = tensor.data.as_deref().unwrap_or_default();
        let mut spans = Vec::new();
        if tensor.datatype == Datatype::Bytes {
            let mut at = 0;
            while let Some(prefix) = data.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
                let end = (at + 4 + u32::from_le_bytes(*prefix) as usize).min(data.len());
                spans.push((at + 4, end));
                at = end;
            }
        }
        Self {
            data,
            size: tensor.datatype.size(),
            spans,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.size
            .map_or(self.spans.len(), |size| self.data.len() / size)
    }

    /// The bytes of element `n`.
    pub fn at(&self, n: usize) -> &'a [u8] {
        match self.size {
            Some(size) => &self.data[n * size..(n + 1) * size],
            None => &self.data[self.spans[n].0..self.spans[n].1],
        }
    }
}

macro_rules! decode {
    ($data:expr, $t:ty, $f:expr) => {
        $data
            .chunks_exact(size_of::<$t>())
            .map(|c| $f(<$t>::from_le_bytes(c.try_into().expect("chunks_exact"))))
            .collect()
    };
}

/// One f64 per element; `None` for BYTES. 64-bit integers beyond 2⁵³ lose bits: whether elements
/// are equal is asked of their bytes.
#[expect(
    clippy::cast_precision_loss,
    reason = "equality is asked of the bytes, numbers only say what a difference looks like"
)]
pub(super) fn numbers(datatype: Datatype, data: &[u8]) -> Option<Vec<f64>> {
    Some(match datatype {
        Datatype::Bool | Datatype::Uint8 => data.iter().map(|&b| f64::from(b)).collect(),
        Datatype::Int8 => decode!(data, i8, f64::from),
        Datatype::Uint16 => decode!(data, u16, f64::from),
        Datatype::Int16 => decode!(data, i16, f64::from),
        Datatype::Uint32 => decode!(data, u32, f64::from),
        Datatype::Int32 => decode!(data, i32, f64::from),
        Datatype::Uint64 => decode!(data, u64, |v| v as f64),
        Datatype::Int64 => decode!(data, i64, |v| v as f64),
        Datatype::Fp16 => decode!(data, u16, |v| f16::from_bits(v).to_f64()),
        Datatype::Bf16 => decode!(data, u16, |v| bf16::from_bits(v).to_f64()),
        Datatype::Fp32 => decode!(data, f32, f64::from),
        Datatype::Fp64 => decode!(data, f64, |v: f64| v),
        Datatype::Bytes => return None,
    })
}

/// An element as a person writes it.
pub(super) fn shown(datatype: Datatype, element: &[u8]) -> String {
    let integer = |signed: bool| {
        let negative = signed && element.last().is_some_and(|b| *b >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        wide[..element.len()].copy_from_slice(element);
        i128::from_le_bytes(wide).to_string()
    };
    match datatype {
        Datatype::Bytes => {
            const SHOWN: usize = 40;
            let text = String::from_utf8_lossy(&element[..element.len().min(SHOWN)]);
            let more = if element.len() > SHOWN { "…" } else { "" };
            format!("{text:?}{more}")
        }
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 | Datatype::Int64 => integer(true),
        // The shortest text that is this f32, not the f64 that it becomes.
        Datatype::Fp32 => element.try_into().map_or_else(
            |_| String::new(),
            |b| format!("{:?}", f32::from_le_bytes(b)),
        ),
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp64 => numbers(datatype, element)
            .and_then(|v| v.first().copied())
            .map_or_else(String::new, |v| format!("{v:?}")),
        _ => integer(false),
    }
}

/// Dimensions as sizes; those of a checked tensor are never negative.
pub(super) fn dimensions(shape: &[i64]) -> Vec<usize> {
    shape
        .iter()
        .map(|&d| usize::try_from(d).unwrap_or(0))
        .collect()
}

/// The index of element `n` in a row-major shape.
pub(super) fn index(shape: &[usize], n: usize) -> Vec<usize> {
    let mut rest = n;
    let mut index = vec![0; shape.len()];
    for (at, &d) in index.iter_mut().zip(shape).rev() {
        let d = d.max(1);
        *at = rest % d;
        rest /= d;
    }
    index
}

/// Elements between neighbours on each axis of a row-major shape.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i].max(1);
    }
    strides
}
