//! The `data` arrays of REST JSON, streamed straight into little-endian bytes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::sink::Sink;
use super::{WireError, numbers};
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
    if let Some(data) = numbers::decode(raw.get(), datatype, shape) {
        return Ok(data);
    }
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
