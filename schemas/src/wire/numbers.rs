//! Lists of plain numbers, by far the most of what REST bodies hold, without a general parser's
//! calls for each of them.

use super::data::Style;
use super::sink::Sink;
use crate::tensor::Datatype;

/// Powers of ten that a double holds exactly.
const EXACT: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
/// Up to here every integer is a double.
const MANTISSA: u64 = 1 << 53;
/// As many digits never overflow 64 bits.
const ALWAYS_FIT: usize = 19;
/// Lists deeper than this are left to the general parser.
const DEEPEST: usize = 16;

/// What may come next in a list.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    /// A value, or the end of a list that has none yet.
    First,
    /// A value: there was a comma.
    Value,
    /// A comma or the end.
    Comma,
}

/// Decodes `json` into the bytes of a tensor of that shape and datatype, if it is valid JSON and a
/// list, flat or nested, of plain numbers that fit. `None`: the general parser must look at it, and
/// will say what is wrong if something is.
pub(super) fn decode(json: &str, datatype: Datatype, shape: &[i64]) -> Option<Vec<u8>> {
    let floats = datatype.is_float();
    if !json.starts_with('[') || datatype == Datatype::Bytes || datatype == Datatype::Bool {
        return None;
    }
    let size = datatype.size()?;
    // A number takes two bytes of text at least, so a shape that lies costs nothing.
    let claimed = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    let count = claimed?.min(json.len() / 2);
    let mut sink = Sink {
        datatype,
        shape,
        style: Style::Plain,
        out: Vec::with_capacity(count * size),
        leaf: None,
    };
    type Refused = serde::de::value::Error;
    let bytes = json.as_bytes();
    let (mut at, mut depth, mut lengths) = (0, 0, [0usize; DEEPEST]);
    let mut next = Next::Value;
    loop {
        match bytes.get(at)? {
            b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            b',' if next == Next::Comma => (at, next) = (at + 1, Next::Value),
            b'[' if next != Next::Comma => {
                if depth > 0 {
                    lengths[depth - 1] += 1;
                }
                *lengths.get_mut(depth)? = 0;
                (at, depth, next) = (at + 1, depth + 1, Next::First);
            }
            b']' if next != Next::Value => {
                (at, depth, next) = (at + 1, depth - 1, Next::Comma);
                sink.list::<Refused>(depth, lengths[depth]).ok()?;
                if depth == 0 {
                    return bytes[at..].trim_ascii().is_empty().then_some(sink.out);
                }
            }
            b'-' | b'0'..=b'9' if next != Next::Comma => {
                let number = Number::read(&bytes[at..])?;
                let start = at;
                (at, next) = (at + number.length, Next::Comma);
                lengths[depth - 1] += 1;
                if sink.leaf != Some(depth) {
                    sink.scalar::<Refused>(depth).ok()?;
                }
                if floats {
                    sink.float::<Refused>(number.value(&bytes[start..at])?)
                        .ok()?;
                } else {
                    sink.integer::<Refused>(number.integer()?).ok()?;
                }
            }
            _ => return None,
        }
    }
}

/// A number's text, read once.
struct Number {
    length: usize,
    negative: bool,
    /// All digits as one integer, if `simple`.
    digits: u64,
    /// Digits behind the point; `None`: there is no point.
    decimals: Option<usize>,
    /// No exponent, and the digits did not overflow.
    simple: bool,
}

impl Number {
    /// The number that `bytes` begin with; `None` where JSON has no such number.
    #[inline]
    fn read(bytes: &[u8]) -> Option<Self> {
        let negative = bytes.first() == Some(&b'-');
        let whole = &bytes[usize::from(negative)..];
        let mut digits = 0u64;
        let before = read_digits(whole, &mut digits)?;
        if before > 1 && whole[0] == b'0' {
            return None;
        }
        let mut length = usize::from(negative) + before;
        let mut decimals = None;
        if bytes.get(length) == Some(&b'.') {
            let behind = read_digits(&bytes[length + 1..], &mut digits)?;
            decimals = Some(behind);
            length += 1 + behind;
        }
        let mut simple = true;
        if let Some(b'e' | b'E') = bytes.get(length) {
            let sign = matches!(bytes.get(length + 1), Some(b'+' | b'-'));
            let exponent = length + 1 + usize::from(sign);
            length = exponent + read_digits(&bytes[exponent..], &mut 0)?;
            simple = false;
        }
        if length > ALWAYS_FIT && simple {
            let mut digits = bytes[..length].iter().filter(|b| b.is_ascii_digit());
            let digits = digits.try_fold(0u64, |all, byte| {
                all.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
            });
            simple = digits.is_some();
        }
        Some(Self {
            length,
            negative,
            digits,
            decimals,
            simple,
        })
    }

    /// The nearest double. Where digits and power of ten are both exact, one division rounds once
    /// (Clinger, "How to read floating point numbers accurately", 1990).
    #[inline]
    fn value(&self, text: &[u8]) -> Option<f64> {
        let decimals = self.decimals.unwrap_or(0);
        if !self.simple || self.digits > MANTISSA || decimals >= EXACT.len() {
            // What is too large for a double is an error, not infinite.
            let value = std::str::from_utf8(text).ok()?.parse();
            return value.ok().filter(|v: &f64| v.is_finite());
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
        let magnitude = self.digits as f64 / EXACT[decimals];
        Some(if self.negative { -magnitude } else { magnitude })
    }

    /// The integer, where it is written as one; `-0` is not one.
    fn integer(&self) -> Option<i128> {
        let written =
            self.simple && self.decimals.is_none() && !(self.negative && self.digits == 0);
        let magnitude = i128::from(self.digits);
        written.then_some(if self.negative { -magnitude } else { magnitude })
    }
}

/// How many digits `bytes` begin with, one at least; they are appended to `value`, which may wrap.
#[inline]
fn read_digits(bytes: &[u8], value: &mut u64) -> Option<usize> {
    let mut count = 0;
    while let Some(byte @ b'0'..=b'9') = bytes.get(count) {
        *value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        count += 1;
    }
    (count > 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::super::data::decode_at;
    use super::*;

    /// What the general parser says.
    fn general(json: &str, datatype: Datatype, shape: &[i64]) -> Option<Vec<u8>> {
        let raw: Box<RawValue> = serde_json::from_str(json).ok()?;
        decode_at(&[&raw], 0, datatype, shape, Style::Plain).ok()
    }

    #[test]
    fn plain_lists_are_taken_and_nothing_else() {
        let (fp32, int8) = (Datatype::Fp32, Datatype::Int8);
        for (json, datatype, shape, taken) in [
            ("[1,2.5,-0]", fp32, &[3][..], true),
            ("[ [1, 2e3],\n[3.0E-2, 4] ]", fp32, &[2, 2], true),
            ("[1,2,3,4]", fp32, &[2, 2], true),
            ("[[],[]]", fp32, &[2, 0], true),
            ("[123456789012345678901234567890,0.1]", fp32, &[2], true),
            (
                "[0.1000000000000000055511151231257827]",
                Datatype::Fp64,
                &[1],
                true,
            ),
            ("[-128,127]", int8, &[2], true),
            ("[128]", int8, &[1], false),
            ("[1.0]", int8, &[1], false),
            ("[-0]", int8, &[1], false),
            ("[1e999]", fp32, &[1], false),
            ("[1,[2]]", fp32, &[2], false),
            // How many there must be, the caller checks for both.
            ("[1,2]", fp32, &[3], true),
            ("[\"NaN\"]", fp32, &[1], false),
            ("[null]", fp32, &[1], false),
            ("[true]", Datatype::Bool, &[1], false),
            ("7", fp32, &[], false),
            // No JSON.
            ("[1,]", fp32, &[1], false),
            ("[,1]", fp32, &[1], false),
            ("[1,,2]", fp32, &[2], false),
            ("[1 2]", fp32, &[2], false),
            ("[[1][2]]", fp32, &[2, 1], false),
            ("[1", fp32, &[1], false),
            ("[1]]", fp32, &[1], false),
            ("[01]", fp32, &[1], false),
            ("[1.]", fp32, &[1], false),
            ("[.5]", fp32, &[1], false),
            ("[-]", fp32, &[1], false),
            ("[--1]", fp32, &[1], false),
            ("[1e]", fp32, &[1], false),
            ("[1e+]", fp32, &[1], false),
            ("[1.5.2]", fp32, &[1], false),
            ("[+1]", fp32, &[1], false),
        ] {
            let fast = decode(json, datatype, shape);
            assert_eq!(fast.is_some(), taken, "{json}");
            if taken {
                assert_eq!(fast, general(json, datatype, shape), "{json}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_no_json_is_not_taken(text in "\\[[-+.,eE\\[\\] 0-9]{0,12}\\]") {
            for shape in [&[1][..], &[2], &[-1], &[1, 1]] {
                if let Some(taken) = decode(&text, Datatype::Fp32, shape) {
                    prop_assert_eq!(Some(taken), general(&text, Datatype::Fp32, shape), "{}", text);
                }
            }
        }

        #[test]
        fn numbers_are_those_of_the_general_parser(
            texts in prop::collection::vec(
                prop_oneof![
                    "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?",
                    any::<f64>().prop_filter("JSON has no other", |f| f.is_finite()).prop_map(|f| f.to_string()),
                    any::<f32>().prop_filter("JSON has no other", |f| f.is_finite()).prop_map(|f| f.to_string()),
                    any::<i64>().prop_map(|i| i.to_string()),
                ],
                0..9,
            ),
            datatype in prop::sample::select(vec![
                Datatype::Fp64, Datatype::Fp32, Datatype::Fp16, Datatype::Bf16, Datatype::Int64,
                Datatype::Uint8,
            ]),
        ) {
            let json = format!("[{}]", texts.join(" , "));
            let shape = [i64::try_from(texts.len()).unwrap()];
            let slow = general(&json, datatype, &shape);
            if let Some(fast) = decode(&json, datatype, &shape) {
                prop_assert_eq!(Some(fast), slow);
            } else {
                // Nothing with a value of its own is left to the general parser.
                prop_assert!(slow.is_none() || !datatype.is_float(), "{}", json);
            }
        }
    }
}
