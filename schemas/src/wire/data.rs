//! The `data` arrays of REST JSON, streamed straight into little-endian bytes.

use std::borrow::Cow;
use std::fmt;

use half::{bf16, f16};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::WireError;
use crate::tensor::Datatype;

/// Decodes `raw`, nested or flat, into the bytes of a tensor of that shape and datatype.
///
/// Numbers are read as f64 and rounded once to the tensor's type, as servers do; integers are
/// range-checked and must be written as integers.
pub(super) fn decode(
    raw: &RawValue,
    datatype: Datatype,
    shape: &[i64],
    style: Style,
) -> Result<Vec<u8>, WireError> {
    decode_at(std::slice::from_ref(&raw), 0, datatype, shape, style)
}

/// As [`decode`], for values that stand side by side at `depth` of the tensor: 0 = one value that
/// is the tensor, 1 = its elements along axis 0.
pub(super) fn decode_at(
    items: &[&RawValue],
    depth: usize,
    datatype: Datatype,
    shape: &[i64],
    style: Style,
) -> Result<Vec<u8>, WireError> {
    let mut sink = Sink {
        datatype,
        shape,
        style,
        out: Vec::new(),
        leaf: None,
    };
    for item in items {
        let mut json = serde_json::Deserializer::from_str(item.get());
        let level = Level {
            sink: &mut sink,
            depth,
        };
        level.deserialize(&mut json).map_err(WireError::new)?;
    }
    Ok(sink.out)
}

/// What a protocol writes beside plain JSON scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Nothing.
    Plain,
    /// `{"b64":"…"}` for bytes, and `text::Bare::Marked` numbers.
    Objects,
    /// Numbers as strings, as the protobuf JSON mapping writes 64-bit integers.
    QuotedNumbers,
}

struct Sink<'a> {
    datatype: Datatype,
    shape: &'a [i64],
    style: Style,
    out: Vec<u8>,
    /// Depth at which scalars stand: 1 in flat data, the rank in nested data.
    leaf: Option<usize>,
}

impl Sink<'_> {
    fn scalar<E: Error>(&mut self, depth: usize) -> Result<(), E> {
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
    fn list<E: Error>(&self, depth: usize, length: usize) -> Result<(), E> {
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

    fn integer<E: Error>(&mut self, v: i128) -> Result<(), E> {
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

    fn float<E: Error>(&mut self, v: f64) -> Result<(), E> {
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

    fn text<E: Error>(&mut self, v: &str) -> Result<(), E> {
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

    fn object<E: Error>(&mut self, key: &str, value: &str) -> Result<(), E> {
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

/// Standard base64, padded or not.
pub(super) fn base64(text: &str) -> Result<Vec<u8>, WireError> {
    use base64::Engine;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    LENIENT
        .decode(text)
        .map_err(|e| WireError(format!("base64: {e}")))
}

struct Level<'s, 'a> {
    sink: &'s mut Sink<'a>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Level<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values, nested or flat", self.sink.datatype)
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<(), E> {
        self.sink.scalar(self.depth)?;
        if self.sink.datatype == Datatype::Bool {
            self.sink.out.push(u8::from(v));
            return Ok(());
        }
        Err(E::custom(format!("{v} is no {}", self.sink.datatype)))
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<(), E> {
        self.sink.scalar(self.depth)?;
        self.sink.integer(v.into())
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<(), E> {
        self.sink.scalar(self.depth)?;
        self.sink.integer(v.into())
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<(), E> {
        self.sink.scalar(self.depth)?;
        self.sink.float(v)
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<(), E> {
        self.sink.scalar(self.depth)?;
        self.sink.text(v)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let entry = (self.sink.style == Style::Objects)
            .then(|| map.next_entry::<Cow<'de, str>, Cow<'de, str>>())
            .transpose()?
            .flatten();
        let Some((key, value)) = entry else {
            return Err(A::Error::custom("an object is no value of a tensor"));
        };
        self.sink.scalar(self.depth)?;
        self.sink.object(&key, &value)?;
        match map.next_key::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom("an object is no value of a tensor")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut length = 0;
        while seq
            .next_element_seed(Level {
                sink: self.sink,
                depth: self.depth + 1,
            })?
            .is_some()
        {
            length += 1;
        }
        self.sink.list(self.depth, length)
    }
}
