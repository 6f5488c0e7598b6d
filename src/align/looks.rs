//! What a difference between two tensors looks like. Every guess is checked on every element.

use std::fmt;

use half::{bf16, f16};
use inferdiff_schemas::Datatype;
use serde::Serialize;

use super::values::{index, strides};

/// What was done to the tensor of the first capture (`a`) to make that of the second (`b`).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Looks {
    /// It is in one capture only.
    Missing {
        /// `a` or `b`.
        only: char,
    },
    /// Same data, other name.
    Renamed {
        /// Name in `b`.
        to: String,
    },
    /// Another datatype with the same values.
    Datatype,
    /// Another shape with the same data.
    Reshape,
    /// Axes exchanged.
    Layout {
        /// Axis of `a` at each axis of `b`.
        axes: Vec<usize>,
    },
    /// First and third channel exchanged (RGB/BGR).
    ChannelOrder {
        /// Axis of the channels.
        axis: usize,
    },
    /// b = factor · a + offset.
    Scaling {
        /// One, or one per channel.
        factor: Vec<f64>,
        /// One, or one per channel.
        offset: Vec<f64>,
        /// Axis of the channels, where each has its own.
        axis: Option<usize>,
    },
    /// One side is the other after rounding to a coarser type.
    Cast {
        /// The coarser type.
        through: &'static str,
        /// Which side was rounded.
        of: char,
    },
    /// One bit of one element.
    BitFlip {
        /// From the least significant.
        bit: u32,
    },
    /// One side is filled up with one value.
    Padding {
        /// Axis.
        axis: usize,
        /// Where the padding begins on it.
        from: usize,
        /// The value.
        fill: String,
        /// Which side is padded.
        of: char,
    },
    /// The same rows (axis 0) in another order.
    RowOrder,
    /// Bytes of each element reversed.
    ByteOrder,
    /// All elements close: a rounding difference upstream of the request.
    Rounding,
    /// None of these.
    Unknown,
}

impl Looks {
    /// The kind without its numbers, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing { only: 'a' } => "only in A",
            Self::Missing { .. } => "only in B",
            Self::Renamed { .. } => "renamed",
            Self::Datatype => "datatype",
            Self::Reshape => "shape",
            Self::Layout { .. } => "axes exchanged",
            Self::ChannelOrder { .. } => "channel order",
            Self::Scaling { .. } => "scaling",
            Self::Cast { .. } => "cast",
            Self::BitFlip { .. } => "one bit",
            Self::Padding { .. } => "padding",
            Self::RowOrder => "row order",
            Self::ByteOrder => "byte order",
            Self::Rounding => "rounding",
            Self::Unknown => "other",
        }
    }
}

impl fmt::Display for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |of: &char| of.to_ascii_uppercase();
        match self {
            Self::Missing { only } => write!(f, "it is in {} only", side(only)),
            Self::Renamed { to } => write!(f, "B has the same data under the name `{to}`"),
            Self::Datatype => write!(f, "the same values in another datatype"),
            Self::Reshape => write!(f, "the same data in another shape"),
            Self::Layout { axes } => {
                let known = match axes.as_slice() {
                    [0, 2, 3, 1] | [1, 2, 0] => " (channels first → channels last)",
                    [0, 3, 1, 2] | [2, 0, 1] => " (channels last → channels first)",
                    _ => "",
                };
                write!(f, "B is A with its axes in the order {axes:?}{known}")
            }
            Self::ChannelOrder { axis } => write!(
                f,
                "B is A with channels 0 and 2 of axis {axis} exchanged (RGB/BGR)"
            ),
            Self::Scaling {
                factor,
                offset,
                axis,
            } => {
                let list = |v: &[f64]| {
                    let text = |v: &f64| {
                        let fixed = format!("{v:.8}");
                        fixed.trim_end_matches('0').trim_end_matches('.').to_owned()
                    };
                    let all: Vec<_> = v.iter().map(text).collect();
                    all.join(", ")
                };
                let per = axis.map_or_else(String::new, |a| format!(", per channel of axis {a}"));
                let known = match factor.as_slice() {
                    [k] if (k * 255.0 - 1.0).abs() < 1e-3 => " (the factor is 1/255)",
                    [k] if (k / 255.0 - 1.0).abs() < 1e-3 => " (the factor is 255)",
                    _ => "",
                };
                let (k, o) = (list(factor), list(offset));
                write!(f, "scaling: B = ({k}) · A + ({o}){per}{known}")
            }
            Self::Cast { through, of } => {
                write!(f, "a cast: {} was rounded to {through}", side(of))
            }
            Self::BitFlip { bit } => write!(f, "one flipped bit: bit {bit} of one element"),
            Self::Padding {
                axis,
                from,
                fill,
                of,
            } => write!(
                f,
                "padding: {} is filled with {fill} from index {from} of axis {axis}",
                side(of)
            ),
            Self::RowOrder => write!(f, "the same rows (axis 0) in another order"),
            Self::ByteOrder => write!(f, "the bytes of each element are reversed (endianness)"),
            Self::Rounding => write!(f, "every element is close: rounding"),
            Self::Unknown => write!(f, "no simple transformation"),
        }
    }
}

/// All orders of `rank` axes but the natural one.
pub(super) fn orders(rank: usize) -> Vec<Vec<usize>> {
    /// 5! orders are still few; above, nobody transposes by accident.
    const MOST: usize = 5;
    fn extend(rank: usize, head: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
        if head.len() == rank {
            all.push(head.clone());
            return;
        }
        for axis in 0..rank {
            if !head.contains(&axis) {
                head.push(axis);
                extend(rank, head, all);
                head.pop();
            }
        }
    }
    let mut all = Vec::new();
    if (2..=MOST).contains(&rank) {
        extend(rank, &mut Vec::new(), &mut all);
        all.remove(0);
    }
    all
}

/// The element of `a` that lies at element `n` of `b`, for `b` = `a` with axes in `order`.
pub(super) fn moved(shape_a: &[usize], shape_b: &[usize], order: &[usize], n: usize) -> usize {
    let strides = strides(shape_a);
    let at = index(shape_b, n);
    order
        .iter()
        .zip(at)
        .map(|(&axis, i)| strides[axis] * i)
        .sum()
}

/// `b` = `a` with channels 0 and 2 exchanged: the axis.
pub(super) fn channels(shape: &[usize], same: impl Fn(usize, usize) -> bool) -> Option<usize> {
    let strides = strides(shape);
    let n: usize = shape.iter().product();
    (0..shape.len()).find(|&axis| {
        matches!(shape[axis], 3 | 4)
            && (0..n).all(|i| {
                let channel = i / strides[axis] % shape[axis];
                let j = match channel {
                    0 => i + 2 * strides[axis],
                    2 => i - 2 * strides[axis],
                    _ => i,
                };
                same(i, j)
            })
    })
}

/// Rounding to a coarser type that makes one side of the other.
pub(super) fn cast(a: &[f64], b: &[f64]) -> Option<Looks> {
    type Rounding = (&'static str, fn(f64) -> f64);
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked")]
    const ROUNDINGS: [Rounding; 6] = [
        ("FP32", |v| f64::from(v as f32)),
        ("FP16", |v| f16::from_f64(v).to_f64()),
        ("BF16", |v| bf16::from_f64(v).to_f64()),
        ("FP16 by way of FP32", |v| f16::from_f32(v as f32).to_f64()),
        ("whole numbers, towards zero", f64::trunc),
        ("whole numbers, to the nearest", f64::round_ties_even),
    ];
    let is = |from: &[f64], to: &[f64], round: fn(f64) -> f64| {
        from.iter()
            .zip(to)
            .all(|(&f, &t)| round(f).total_cmp(&t).is_eq() || (f.is_nan() && t.is_nan()))
    };
    ROUNDINGS.into_iter().find_map(|(through, round)| {
        let of = if is(a, b, round) {
            'b'
        } else if is(b, a, round) {
            'a'
        } else {
            return None;
        };
        Some(Looks::Cast { through, of })
    })
}

/// How far a number of that datatype may be from what it should be, relative to the largest, where
/// it went through a few operations.
pub(super) fn grid(datatype: Datatype) -> f64 {
    match datatype {
        Datatype::Fp64 => 1e-12,
        Datatype::Fp32 => 2e-6,
        Datatype::Fp16 => 2e-3,
        Datatype::Bf16 => 2e-2,
        // Half a step of the largest value there is at most.
        _ => 4e-3,
    }
}

/// b = k·a + o over all elements, or per channel of one axis.
pub(super) fn scaling(shape: &[usize], a: &[f64], b: &[f64], grid: f64) -> Option<Looks> {
    /// More channels than this have a scale of their own in nobody's pre-processing.
    const CHANNELS: usize = 16;
    let largest = b
        .iter()
        .filter(|v| v.is_finite())
        .fold(0.0, |m: f64, v| m.max(v.abs()));
    let tolerance = grid * largest;
    if let Some((k, o)) = line(a.iter().copied().zip(b.iter().copied()), tolerance) {
        return Some(Looks::Scaling {
            factor: vec![k],
            offset: vec![o],
            axis: None,
        });
    }
    let strides = strides(shape);
    (0..shape.len())
        .filter(|&axis| (2..=CHANNELS).contains(&shape[axis]))
        .find_map(|axis| {
            let channel = |c: usize| {
                let of = move |i: usize| i / strides_at(shape, axis) % shape[axis];
                (0..a.len())
                    .filter(move |&i| of(i) == c)
                    .map(|i| (a[i], b[i]))
            };
            debug_assert_eq!(strides[axis], strides_at(shape, axis));
            let lines: Option<Vec<_>> = (0..shape[axis])
                .map(|c| line(channel(c), tolerance))
                .collect();
            let (factor, offset) = lines?.into_iter().unzip();
            Some(Looks::Scaling {
                factor,
                offset,
                axis: Some(axis),
            })
        })
}

fn strides_at(shape: &[usize], axis: usize) -> usize {
    shape[axis + 1..].iter().product()
}

/// The line through the points by least squares, if it passes all of them and is not y = x.
fn line(points: impl Iterator<Item = (f64, f64)> + Clone, tolerance: f64) -> Option<(f64, f64)> {
    /// Fewer points than this lie on a line by chance.
    const FEWEST: f64 = 4.0;
    let finite = points
        .clone()
        .filter(|(x, y)| x.is_finite() && y.is_finite());
    let (n, sx, sy) = finite.clone().fold((0.0, 0.0, 0.0), |(n, sx, sy), (x, y)| {
        (n + 1.0, sx + x, sy + y)
    });
    if n < FEWEST {
        return None;
    }
    let (mx, my) = (sx / n, sy / n);
    let (xx, xy) = finite.clone().fold((0.0, 0.0), |(xx, xy), (x, y)| {
        (xx + (x - mx) * (x - mx), xy + (x - mx) * (y - my))
    });
    if xx == 0.0 {
        return None;
    }
    let k = xy / xx;
    let o = my - k * mx;
    let fits = |k: f64, o: f64| {
        points.clone().all(|(x, y)| {
            if x.is_finite() && y.is_finite() {
                (k * x + o - y).abs() <= tolerance
            } else {
                x.total_cmp(&y).is_eq() || (x.is_nan() && y.is_nan())
            }
        })
    };
    (k != 0.0 && fits(k, o) && !fits(1.0, 0.0)).then_some((k, o))
}
