//! Loops over the elements of one datatype: to f64, and apart on its grid.

/// A numeric datatype as it lies in little-endian data.
pub(super) trait Numeric {
    /// f64 cannot hold every value: differences are taken of the integers themselves.
    const WIDE: bool;

    /// Every element as f64.
    fn widen(data: &[u8], out: &mut [f64]);

    /// |r−t| of every pair of integers, exact before it is rounded to f64.
    fn differences(r: &[u8], t: &[u8], out: &mut [f64]);

    /// The largest distance on the datatype's grid: neighbours are 1 apart, −0 equals +0.
    /// NaN and infinities have places on it too, so they must not be among the elements.
    fn distance(r: &[u8], t: &[u8]) -> u64;
}

macro_rules! numeric {
    ($name:ident, $bits:ty, wide: $wide:literal,
     $widen:expr, $grid:expr) => {
        pub(super) struct $name;

        impl Numeric for $name {
            const WIDE: bool = $wide;

            #[inline(always)]
            fn widen(data: &[u8], out: &mut [f64]) {
                let (elements, _) = data.as_chunks::<{ size_of::<$bits>() }>();
                for (out, element) in out.iter_mut().zip(elements) {
                    *out = $widen(<$bits>::from_le_bytes(*element));
                }
            }

            #[inline(always)]
            fn differences(r: &[u8], t: &[u8], out: &mut [f64]) {
                let (r, _) = r.as_chunks::<{ size_of::<$bits>() }>();
                let (t, _) = t.as_chunks::<{ size_of::<$bits>() }>();
                for ((out, r), t) in out.iter_mut().zip(r).zip(t) {
                    let (r, t) = (<$bits>::from_le_bytes(*r), <$bits>::from_le_bytes(*t));
                    #[allow(
                        clippy::cast_precision_loss,
                        clippy::cast_lossless,
                        reason = "every width of integer; beyond 2^53 it may be rounded"
                    )]
                    let d = $grid(r).abs_diff($grid(t)) as f64;
                    *out = d;
                }
            }

            #[inline(always)]
            fn distance(r: &[u8], t: &[u8]) -> u64 {
                let (r, _) = r.as_chunks::<{ size_of::<$bits>() }>();
                let (t, _) = t.as_chunks::<{ size_of::<$bits>() }>();
                let mut most = 0;
                for (r, t) in r.iter().zip(t) {
                    let (r, t) = (<$bits>::from_le_bytes(*r), <$bits>::from_le_bytes(*t));
                    most = most.max($grid(r).abs_diff($grid(t)));
                }
                most.into()
            }
        }
    };
}

#[inline(always)]
fn same<T>(v: T) -> T {
    v
}

#[inline(always)]
#[expect(
    clippy::cast_precision_loss,
    reason = "differences are taken of the integers"
)]
fn cast_u64(v: u64) -> f64 {
    v as f64
}

#[inline(always)]
#[expect(
    clippy::cast_precision_loss,
    reason = "differences are taken of the integers"
)]
fn cast_i64(v: i64) -> f64 {
    v as f64
}

/// Without a table or a branch, so that it runs in vector registers: the exponent moves to its place
/// in f32 and a multiplication corrects its bias, which also makes normal numbers of small ones.
#[inline(always)]
fn fp16(bits: u16) -> f64 {
    /// 2¹¹², the difference of the two biases.
    const BIAS: f32 = f32::from_bits(0x7780_0000);
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let finite = f32::from_bits(magnitude) * BIAS;
    let special = f32::from_bits(magnitude | 0x7f80_0000);
    let value = if magnitude >= 0x0f80_0000 {
        special
    } else {
        finite
    };
    f64::from(f32::from_bits(
        value.to_bits() | u32::from(bits & 0x8000) << 16,
    ))
}

#[inline(always)]
fn bf16(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

#[inline(always)]
fn fp32(bits: u32) -> f64 {
    f64::from(f32::from_bits(bits))
}

/// Sign and magnitude to a line on which neighbours are 1 apart.
macro_rules! fold {
    ($name:ident, $bits:ty, $line:ty) => {
        #[inline(always)]
        fn $name(bits: $bits) -> $line {
            let bits = bits.cast_signed();
            if bits < 0 {
                <$line>::MIN.wrapping_sub(bits)
            } else {
                bits
            }
        }
    };
}
fold!(fold16, u16, i16);
fold!(fold32, u32, i32);
fold!(fold64, u64, i64);

numeric!(Bool, u8, wide: false, |b: u8| f64::from(u8::from(b != 0)), |b: u8| u8::from(b != 0));
numeric!(Uint8, u8, wide: false, f64::from, same::<u8>);
numeric!(Uint16, u16, wide: false, f64::from, same::<u16>);
numeric!(Uint32, u32, wide: false, f64::from, same::<u32>);
numeric!(Uint64, u64, wide: true, cast_u64, same::<u64>);
numeric!(Int8, i8, wide: false, f64::from, same::<i8>);
numeric!(Int16, i16, wide: false, f64::from, same::<i16>);
numeric!(Int32, i32, wide: false, f64::from, same::<i32>);
numeric!(Int64, i64, wide: true, cast_i64, same::<i64>);
numeric!(Fp16, u16, wide: false, fp16, fold16);
numeric!(Bf16, u16, wide: false, bf16, fold16);
numeric!(Fp32, u32, wide: false, fp32, fold32);
numeric!(Fp64, u64, wide: false, f64::from_bits, fold64);

/// Evaluates `$body` with `$t` standing for the [`Numeric`] of a datatype; `$none` for BYTES.
macro_rules! with_numeric {
    ($datatype:expr, $t:ident => $body:expr, $none:expr) => {
        with_numeric!(@ $datatype, $t, $body, $none,
            Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Bf16 Fp32 Fp64)
    };
    (@ $datatype:expr, $t:ident, $body:expr, $none:expr, $($name:ident)*) => {
        match $datatype {
            $(inferdiff_schemas::Datatype::$name => {
                type $t = $crate::compare::numeric::$name;
                $body
            })*
            inferdiff_schemas::Datatype::Bytes => $none,
        }
    };
}
pub(super) use with_numeric;
