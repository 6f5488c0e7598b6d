//! Another datatype.

use bytes::Bytes;
use half::{bf16, f16};
use inferdiff_schemas::{Datatype, Tensor};

/// A value that holds every element of every numeric datatype exactly.
#[derive(Clone, Copy)]
enum Number {
    Float(f64),
    Integer(i128),
}

/// The tensor with its elements as `datatype`: floats are rounded to the nearest (ties to even,
/// beyond the largest to infinity), floats become integers by cutting the fraction, as ONNX's `Cast`
/// does. What the type cannot hold is an error and never wraps.
///
/// # Errors
/// BYTES on either side, an integer type that cannot hold a value, no data.
pub(super) fn cast(tensor: Tensor, datatype: Datatype) -> Result<Tensor, String> {
    if tensor.datatype == datatype {
        return Ok(tensor);
    }
    let (Some(size), Some(_)) = (tensor.datatype.size(), datatype.size()) else {
        return Err(format!(
            "{} cannot be cast to {datatype}: there is no one way to do it",
            tensor.datatype
        ));
    };
    let data = tensor.data.as_ref().ok_or("its data was not kept")?;
    let mut out = Vec::with_capacity(data.len() / size * datatype.size().unwrap_or(size));
    for (i, bytes) in data.chunks_exact(size).enumerate() {
        write(datatype, read(tensor.datatype, bytes), &mut out)
            .map_err(|value| format!("element {i} is {value}, which {datatype} cannot hold"))?;
    }
    Ok(Tensor {
        datatype,
        data: Some(Bytes::from(out)),
        ..tensor
    })
}

/// One element of little-endian bytes of the datatype's size.
fn read(datatype: Datatype, bytes: &[u8]) -> Number {
    macro_rules! le {
        ($t:ty) => {
            <$t>::from_le_bytes(bytes.try_into().expect("sliced to the type's size"))
        };
    }
    let integer = Number::Integer;
    match datatype {
        // BYTES have no elements of one size: `cast` has refused them.
        Datatype::Bool | Datatype::Bytes => integer(i128::from(bytes[0] != 0)),
        Datatype::Uint8 => integer(bytes[0].into()),
        Datatype::Uint16 => integer(le!(u16).into()),
        Datatype::Uint32 => integer(le!(u32).into()),
        Datatype::Uint64 => integer(le!(u64).into()),
        Datatype::Int8 => integer(le!(i8).into()),
        Datatype::Int16 => integer(le!(i16).into()),
        Datatype::Int32 => integer(le!(i32).into()),
        Datatype::Int64 => integer(le!(i64).into()),
        Datatype::Fp16 => Number::Float(le!(f16).to_f64()),
        Datatype::Bf16 => Number::Float(le!(bf16).to_f64()),
        Datatype::Fp32 => Number::Float(le!(f32).into()),
        Datatype::Fp64 => Number::Float(le!(f64)),
    }
}

/// Appends an element; the value in words where the datatype cannot hold it.
fn write(datatype: Datatype, value: Number, out: &mut Vec<u8>) -> Result<(), String> {
    #[expect(clippy::cast_precision_loss, reason = "a cast rounds")]
    let float = match value {
        Number::Float(v) => v,
        Number::Integer(v) => v as f64,
    };
    let integer = || match value {
        Number::Integer(v) => Ok(v),
        Number::Float(v) if v.is_finite() && v.abs() < 1e30 =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "the fraction is cut")]
            Ok(v as i128)
        }
        Number::Float(v) => Err(v.to_string()),
    };
    macro_rules! as_integer {
        ($t:ty) => {{
            let v = integer()?;
            let v = <$t>::try_from(v).map_err(|_| v.to_string())?;
            out.extend_from_slice(&v.to_le_bytes());
        }};
    }
    #[expect(clippy::cast_possible_truncation, reason = "a cast rounds")]
    match datatype {
        Datatype::Bool | Datatype::Bytes => out.push(u8::from(float != 0.0)),
        Datatype::Uint8 => as_integer!(u8),
        Datatype::Uint16 => as_integer!(u16),
        Datatype::Uint32 => as_integer!(u32),
        Datatype::Uint64 => as_integer!(u64),
        Datatype::Int8 => as_integer!(i8),
        Datatype::Int16 => as_integer!(i16),
        Datatype::Int32 => as_integer!(i32),
        Datatype::Int64 => as_integer!(i64),
        Datatype::Fp16 => out.extend_from_slice(&f16::from_f64(float).to_le_bytes()),
        Datatype::Bf16 => out.extend_from_slice(&bf16::from_f64(float).to_le_bytes()),
        Datatype::Fp32 => out.extend_from_slice(&(float as f32).to_le_bytes()),
        Datatype::Fp64 => out.extend_from_slice(&float.to_le_bytes()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(datatype: Datatype, data: &[u8]) -> Tensor {
        let n = i64::try_from(data.len() / datatype.size().unwrap()).unwrap();
        Tensor::inline("x", datatype, vec![n], Bytes::copy_from_slice(data)).unwrap()
    }

    fn floats(values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensor(Datatype::Fp32, &data)
    }

    #[test]
    fn floats_round_to_nearest_even_and_overflow_to_infinity() {
        let bits = |t: Tensor| -> Vec<u16> {
            let data = t.data.unwrap();
            let pairs = data.chunks_exact(2);
            pairs.map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
        };
        // 1 + 2^-8 lies between two BF16 values: the even one is 1; 1 + 3·2^-8 goes up.
        let halfway = floats(&[
            1.0 + 2f32.powi(-8),
            1.0 + 3.0 * 2f32.powi(-8),
            3e38,
            f32::NAN,
        ]);
        let cast_down = bits(cast(halfway, Datatype::Bf16).unwrap());
        assert_eq!(cast_down[..2], [0x3f80, 0x3f82]);
        assert!(bf16::from_bits(cast_down[3]).is_nan());
        let halves = bits(cast(floats(&[65504.0, 70000.0, -0.0]), Datatype::Fp16).unwrap());
        assert_eq!(halves, [0x7bff, 0x7c00, 0x8000]);
    }

    #[test]
    fn there_and_back_gives_the_same_bits() {
        let source = floats(&[0.0, -0.0, 1.5, -2.25e-3, 3e38, f32::MIN_POSITIVE]);
        let wide = cast(source.clone(), Datatype::Fp64).unwrap();
        assert_eq!(cast(wide, Datatype::Fp32).unwrap(), source);
        let all: Vec<u8> = (0..=255).collect();
        for datatype in [
            Datatype::Int16,
            Datatype::Uint64,
            Datatype::Fp16,
            Datatype::Fp32,
        ] {
            let there = cast(tensor(Datatype::Uint8, &all), datatype).unwrap();
            assert_eq!(
                cast(there, Datatype::Uint8).unwrap().data.unwrap()[..],
                all[..],
                "{datatype}"
            );
        }
    }

    #[test]
    fn integers_cut_fractions_and_never_wrap() {
        let cut = cast(floats(&[1.9, -1.9, -0.5]), Datatype::Int8).unwrap();
        assert_eq!(cut.data.unwrap()[..], [1, 255, 0][..]);
        for (value, said) in [
            (300.0, "300"),
            (-1.0, "-1"),
            (f32::NAN, "NaN"),
            (1e38, "99999996802856"),
        ] {
            let why = cast(floats(&[0.0, value]), Datatype::Uint8).unwrap_err();
            let value = format!("element 1 is {value}");
            assert!(why.contains(&value) || why.contains(said), "{why}");
            assert!(why.contains("UINT8 cannot hold"), "{why}");
        }
        let flags = cast(floats(&[0.0, 0.5, f32::NAN]), Datatype::Bool).unwrap();
        assert_eq!(flags.data.unwrap()[..], [0, 1, 1][..]);
        assert!(cast(floats(&[1.0]), Datatype::Bytes).is_err());
    }
}
