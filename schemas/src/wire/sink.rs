//! JSON scalars into the little-endian bytes of one tensor.

use half::{bf16, f16};
use serde::de::Error;

use super::data::Style;
use super::text::base64;
use crate::tensor::Datatype;

/// The tensor that is being filled.
pub(super) struct Sink<'a> {
    pub datatype: Datatype,
    pub shape: &'a [i64],
    pub style: Style,
    pub out: Vec<u8>,
    /// Depth at which scalars stand: 1 in flat data, the rank in nested data.
    pub leaf: Option<usize>,
}

impl Sink<'_> {
    pub fn scalar<E: Error>(&mut self, depth: usize) -> Result<(), E> {
        match self.leaf {
            None => self.leaf = Some(depth),
            Some(leaf) if leaf == depth => {}
            Some(_) => return Err(E::custom("values stand at different depths")),
        }
        let rank = self.shape.len();
        if depth == rank || depth == 1 {
            Ok(())
        } else {
            Err(E::custom(format!(
                "values stand at depth {depth}, the shape {:?} has rank {rank}",
                self.shape
            )))
        }
    }

    /// Checks the length of a list that ended at `depth` (the outermost list is depth 0).
    pub fn list<E: Error>(&self, depth: usize, length: usize) -> Result<(), E> {
        let nested = self.leaf.is_none_or(|leaf| leaf == self.shape.len());
        let flat = depth == 0 && self.leaf == Some(1);
        let fits = self
            .shape
            .get(depth)
            .is_some_and(|&d| u64::try_from(d) == Ok(length as u64));
        if flat || (nested && fits) {
            Ok(())
        } else {
            Err(E::custom(format!(
                "a list of {length} at depth {depth} does not fit the shape {:?}",
                self.shape
            )))
        }
    }

    pub fn integer<E: Error>(&mut self, v: i128) -> Result<(), E> {
        macro_rules! put {
            ($t:ty) => {
                match <$t>::try_from(v) {
                    Ok(v) => self.out.extend_from_slice(&v.to_le_bytes()),
                    Err(_) => {
                        return Err(E::custom(format!(
                            "{v} is out of range of {}",
                            self.datatype
                        )))
                    }
                }
            };
        }
        match self.datatype {
            Datatype::Bool if v == 0 || v == 1 => self.out.push(u8::from(v == 1)),
            Datatype::Bool => return Err(E::custom(format!("{v} is no BOOL"))),
            Datatype::Uint8 => put!(u8),
            Datatype::Uint16 => put!(u16),
            Datatype::Uint32 => put!(u32),
            Datatype::Uint64 => put!(u64),
            Datatype::Int8 => put!(i8),
            Datatype::Int16 => put!(i16),
            Datatype::Int32 => put!(i32),
            Datatype::Int64 => put!(i64),
            #[expect(
                clippy::cast_precision_loss,
                reason = "numbers are read as f64, as servers do"
            )]
            _ => return self.float(v as f64),
        }
        Ok(())
    }

    pub fn float<E: Error>(&mut self, v: f64) -> Result<(), E> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding once to the tensor's type is the point"
        )]
        match self.datatype {
            Datatype::Fp64 => self.out.extend_from_slice(&v.to_le_bytes()),
            Datatype::Fp32 => self.out.extend_from_slice(&(v as f32).to_le_bytes()),
            Datatype::Fp16 => self.out.extend_from_slice(&f16::from_f64(v).to_le_bytes()),
            Datatype::Bf16 => self.out.extend_from_slice(&bf16::from_f64(v).to_le_bytes()),
            other => return Err(E::custom(format!("{v} is no {other}"))),
        }
        Ok(())
    }

    pub fn text<E: Error>(&mut self, v: &str) -> Result<(), E> {
        match (self.datatype, v) {
            (Datatype::Bytes, _) => self.bytes(v.as_bytes()),
            // What `json::quote_bare_numbers` made of Python's bare NaN and Infinity.
            (d, "NaN") if d.is_float() => self.float(f64::NAN),
            (d, "Infinity") if d.is_float() => self.float(f64::INFINITY),
            (d, "-Infinity") if d.is_float() => self.float(f64::NEG_INFINITY),
            (d, _) if self.style == Style::QuotedNumbers && d != Datatype::Bool => {
                if let Ok(v) = v.parse::<i128>() {
                    self.integer(v)
                } else if let Ok(v) = v.parse::<f64>() {
                    self.float(v)
                } else {
                    Err(E::custom(format!("the string `{v:.32}` is no {d}")))
                }
            }
            (other, _) => Err(E::custom(format!("a string is no {other}"))),
        }
    }

    fn bytes<E: Error>(&mut self, v: &[u8]) -> Result<(), E> {
        let length = u32::try_from(v.len()).map_err(E::custom)?;
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(v);
        Ok(())
    }

    pub fn object<E: Error>(&mut self, key: &str, value: &str) -> Result<(), E> {
        match (key, value) {
            ("b64", _) if self.datatype == Datatype::Bytes => {
                let bytes = base64(value).map_err(E::custom)?;
                self.bytes(&bytes)
            }
            ("b64", _) => Err(E::custom(format!("base64 bytes are no {}", self.datatype))),
            ("~", "NaN") => self.float(f64::NAN),
            ("~", "Infinity") => self.float(f64::INFINITY),
            ("~", "-Infinity") => self.float(f64::NEG_INFINITY),
            _ => Err(E::custom("an object is no value of a tensor")),
        }
    }
}
