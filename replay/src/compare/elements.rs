//! Elements of every numeric datatype as f64, as exact integers, and on their ULP grid.

use half::{bf16, f16};
use inferdiff_schemas::Datatype;

/// One element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Element {
    pub value: f64,
    /// The exact value of integers (and BOOL), which f64 cannot hold beyond 2^53.
    pub exact: Option<i128>,
}

/// The `i`-th element of little-endian data; `None` for BYTES and past the end.
pub(super) fn element(datatype: Datatype, data: &[u8], i: usize) -> Option<Element> {
    let size = datatype.size()?;
    let bytes = data.get(i * size..(i + 1) * size)?;
    macro_rules! le {
        ($t:ty) => {
            <$t>::from_le_bytes(bytes.try_into().expect("sliced to the type's size"))
        };
    }
    #[expect(clippy::cast_precision_loss, reason = "`exact` keeps what f64 cannot")]
    let integer = |v: i128| Element {
        value: v as f64,
        exact: Some(v),
    };
    let float = |value: f64| Element { value, exact: None };
    Some(match datatype {
        Datatype::Bool => integer(i128::from(bytes[0] != 0)),
        Datatype::Uint8 => integer(bytes[0].into()),
        Datatype::Uint16 => integer(le!(u16).into()),
        Datatype::Uint32 => integer(le!(u32).into()),
        Datatype::Uint64 => integer(le!(u64).into()),
        Datatype::Int8 => integer(le!(i8).into()),
        Datatype::Int16 => integer(le!(i16).into()),
        Datatype::Int32 => integer(le!(i32).into()),
        Datatype::Int64 => integer(le!(i64).into()),
        Datatype::Fp16 => float(le!(f16).to_f64()),
        Datatype::Bf16 => float(le!(bf16).to_f64()),
        Datatype::Fp32 => float(le!(f32).into()),
        Datatype::Fp64 => float(le!(f64)),
        Datatype::Bytes => return None,
    })
}

/// The datatype whose grid is coarser: the one with fewer significant bits.
pub(super) fn coarser(a: Datatype, b: Datatype) -> Datatype {
    let bits = |d: Datatype| match d {
        Datatype::Bf16 => 8,
        Datatype::Fp16 => 11,
        Datatype::Fp32 => 24,
        Datatype::Fp64 => 53,
        _ => 64,
    };
    if bits(b) < bits(a) { b } else { a }
}

/// Position of a finite value on the grid of `datatype`: neighbours differ by 1, −0 equals +0.
pub(super) fn grid(datatype: Datatype, e: Element) -> i128 {
    let fold = |bits: i64, sign: i64| {
        if bits < 0 {
            i128::from(sign - bits)
        } else {
            bits.into()
        }
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding to the coarser grid is the point"
    )]
    match datatype {
        Datatype::Fp64 => fold(e.value.to_bits().cast_signed(), i64::MIN),
        Datatype::Fp32 => fold(
            (e.value as f32).to_bits().cast_signed().into(),
            i32::MIN.into(),
        ),
        Datatype::Fp16 => fold(
            f16::from_f64(e.value).to_bits().cast_signed().into(),
            i16::MIN.into(),
        ),
        Datatype::Bf16 => fold(
            bf16::from_f64(e.value).to_bits().cast_signed().into(),
            i16::MIN.into(),
        ),
        _ => e.exact.unwrap_or(e.value as i128),
    }
}

/// Below this magnitude a relative error says nothing: 2⁻¹⁴ for FP32, 2⁻¹¹ for FP16, 2⁻⁸ for BF16
/// (msprobe's small-value bands), 2⁻⁴² for FP64 by the same ratio, 1 for integers.
pub(super) fn small(datatype: Datatype) -> f64 {
    match datatype {
        Datatype::Fp64 => 2f64.powi(-42),
        Datatype::Fp32 => 2f64.powi(-14),
        Datatype::Fp16 => 2f64.powi(-11),
        Datatype::Bf16 => 2f64.powi(-8),
        _ => 1.0,
    }
}
