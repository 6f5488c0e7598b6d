//! JSON values without a declared datatype or shape: both are told from the values.
//!
//! Integers only → INT64; any number with a point, an exponent, or NaN and infinities → FP32;
//! booleans → BOOL; strings and `{"b64":…}` → BYTES. Values of several kinds, lists of several
//! lengths and empty lists (whose kind nothing shows) are errors. Two passes over the text: the
//! first tells kind and shape, the second writes bytes, so no tree of values is ever built.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::data::{self, Style};
use super::{WireError, capped};
use crate::tensor::{Datatype, Tensor};

/// The tensor that one value is.
pub(super) fn tensor(
    name: &str,
    value: &RawValue,
    datatype: Option<Datatype>,
) -> Result<Tensor, WireError> {
    build(name, std::slice::from_ref(&value), 0, datatype)
}

/// The tensor whose elements along axis 0 are `rows`.
pub(super) fn stacked(
    name: &str,
    rows: &[&RawValue],
    datatype: Option<Datatype>,
) -> Result<Tensor, WireError> {
    build(name, rows, 1, datatype)
}

fn build(
    name: &str,
    items: &[&RawValue],
    depth: usize,
    datatype: Option<Datatype>,
) -> Result<Tensor, WireError> {
    let fail = |why: String| WireError(format!("tensor `{name}`: {why}"));
    let mut scan = Scan::default();
    for item in items {
        let level = Level {
            scan: &mut scan,
            depth,
        };
        level
            .deserialize(&mut serde_json::Deserializer::from_str(item.get()))
            .map_err(|e| fail(e.to_string()))?;
    }
    if depth == 1 {
        scan.dims.resize(scan.dims.len().max(1), None);
        scan.dims[0] = Some(items.len());
    }
    let datatype = match datatype {
        Some(known) => known,
        None => scan.datatype().map_err(|e| fail(e.0))?,
    };
    let dims = scan.dims.iter().flatten();
    let shape: Vec<i64> = dims
        .map(|&d| i64::try_from(d).map_err(WireError::new))
        .collect::<Result<_, _>>()?;
    let data =
        data::decode_at(items, depth, datatype, &shape, Style::Objects).map_err(|e| fail(e.0))?;
    Ok(capped(Tensor::inline(name, datatype, shape, data.into())?))
}

#[derive(Default)]
struct Scan {
    /// Length of the lists that begin at each depth, once one has ended.
    dims: Vec<Option<usize>>,
    /// Depth at which scalars stand.
    leaf: Option<usize>,
    integers: bool,
    floats: bool,
    booleans: bool,
    texts: bool,
}

impl Scan {
    fn datatype(&self) -> Result<Datatype, WireError> {
        match (self.integers, self.floats, self.booleans, self.texts) {
            (true, false, false, false) => Ok(Datatype::Int64),
            (_, true, false, false) => Ok(Datatype::Fp32),
            (false, false, true, false) => Ok(Datatype::Bool),
            (false, false, false, true) => Ok(Datatype::Bytes),
            (false, false, false, false) => Err(WireError::new(
                "it has no values and the model's metadata, which would say its datatype, is not known",
            )),
            _ => Err(WireError::new("its values are of several kinds")),
        }
    }

    fn scalar<E: Error>(&mut self, depth: usize) -> Result<(), E> {
        let list_here = self.dims.get(depth).is_some_and(Option::is_some);
        match self.leaf {
            _ if list_here => Err(E::custom(format!(
                "a value stands at depth {depth}, where there are lists"
            ))),
            None => {
                self.leaf = Some(depth);
                Ok(())
            }
            Some(leaf) if leaf == depth => Ok(()),
            Some(_) => Err(E::custom("values stand at different depths")),
        }
    }

    fn open<E: Error>(&mut self, depth: usize) -> Result<(), E> {
        if self.leaf.is_some_and(|leaf| leaf <= depth) {
            return Err(E::custom(format!(
                "a list stands at depth {depth}, where there are values"
            )));
        }
        if self.dims.len() <= depth {
            self.dims.resize(depth + 1, None);
        }
        Ok(())
    }

    fn close<E: Error>(&mut self, depth: usize, length: usize) -> Result<(), E> {
        match self.dims[depth] {
            None => self.dims[depth] = Some(length),
            Some(d) if d == length => {}
            Some(d) => {
                return Err(E::custom(format!(
                    "ragged: lists at depth {depth} have {d} and {length} elements"
                )));
            }
        }
        Ok(())
    }
}

struct Level<'s> {
    scan: &'s mut Scan,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, booleans, strings, or lists of them")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.scan.booleans = true;
        self.scan.scalar(self.depth)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.scan.integers = true;
        self.scan.scalar(self.depth)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.scan.integers = true;
        self.scan.scalar(self.depth)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.scan.floats = true;
        self.scan.scalar(self.depth)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.scan.texts = true;
        self.scan.scalar(self.depth)
    }

    /// `{"b64":…}` is bytes and `{"~":…}` a bare number; what they hold is read in the second pass.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match map.next_key::<std::borrow::Cow<'de, str>>()?.as_deref() {
            Some("b64") => self.scan.texts = true,
            Some("~") => self.scan.floats = true,
            _ => return Err(A::Error::custom("an object is no value of a tensor")),
        }
        map.next_value::<IgnoredAny>()?;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.scan.scalar(self.depth)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.scan.open(self.depth)?;
        let mut length = 0;
        while seq
            .next_element_seed(Level {
                scan: self.scan,
                depth: self.depth + 1,
            })?
            .is_some()
        {
            length += 1;
        }
        self.scan.close(self.depth, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<(Datatype, Vec<i64>, usize), WireError> {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        let t = tensor("x", &raw, None)?;
        Ok((t.datatype, t.shape, t.data.unwrap().len()))
    }

    #[test]
    fn kinds_and_shapes_are_told_from_values() {
        for (json, expected) in [
            ("7", (Datatype::Int64, vec![], 8)),
            ("[[1,2],[3,4]]", (Datatype::Int64, vec![2, 2], 32)),
            ("[1,2.5]", (Datatype::Fp32, vec![2], 8)),
            ("[1,{\"~\":\"NaN\"}]", (Datatype::Fp32, vec![2], 8)),
            ("[[true],[false]]", (Datatype::Bool, vec![2, 1], 2)),
            ("[\"a\",{\"b64\":\"AAE=\"}]", (Datatype::Bytes, vec![2], 11)),
        ] {
            assert_eq!(of(json).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn what_is_no_tensor_is_an_error() {
        for json in [
            "[[1],[1,2]]",
            "[1,[2]]",
            "[[1],2]",
            "[[],[[]]]",
            "[]",
            "[1,true]",
            "[\"a\",1]",
            "null",
            "{\"a\":1}",
            "{\"b64\":\"AAE=\",\"x\":1}",
            "[99999999999999999999]x",
            "18446744073709551615",
        ] {
            let Ok(raw) = serde_json::from_str::<Box<RawValue>>(json) else {
                continue;
            };
            assert!(tensor("x", &raw, None).is_err(), "{json}");
        }
    }
}
