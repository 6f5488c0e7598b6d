//! Two tensors of one name that are not equal: what turns one into the other.

use inferdiff_schemas::Tensor;

use super::looks::{self, Looks};
use super::values::{View, dimensions, index, numbers, shown, strides};

/// Two tensors of one name.
pub(super) struct Pair<'t> {
    tensors: (&'t Tensor, &'t Tensor),
    pub a: View<'t>,
    pub b: View<'t>,
    pub shape_a: Vec<usize>,
    shape_b: Vec<usize>,
    pub numbers: Option<(Vec<f64>, Vec<f64>)>,
}

impl<'t> Pair<'t> {
    pub fn new(a: &'t Tensor, b: &'t Tensor) -> Self {
        let of = |t: &Tensor| numbers(t.datatype, t.data.as_deref().unwrap_or_default());
        Self {
            tensors: (a, b),
            a: View::of(a),
            b: View::of(b),
            shape_a: dimensions(&a.shape),
            shape_b: dimensions(&b.shape),
            numbers: of(a).zip(of(b)),
        }
    }

    /// Element `i` of `a` is element `j` of `b`: by bits, or by value where the datatypes differ.
    pub fn same(&self, i: usize, j: usize) -> bool {
        match &self.numbers {
            Some((a, b)) if self.tensors.0.datatype != self.tensors.1.datatype => {
                a[i].total_cmp(&b[j]).is_eq() || (a[i].is_nan() && b[j].is_nan())
            }
            _ => self.a.at(i) == self.b.at(j),
        }
    }

    /// What turns `a` into `b`.
    pub fn looks(&self) -> Vec<Looks> {
        let other_type = self.tensors.0.datatype != self.tensors.1.datatype;
        let typed = |looks: Looks| {
            let datatype = other_type.then_some(Looks::Datatype);
            datatype.into_iter().chain([looks]).collect()
        };
        if other_type && self.numbers.is_none() {
            return vec![Looks::Unknown];
        }
        let n = self.a.len();
        if n == self.b.len() && (0..n).all(|i| self.same(i, i)) {
            return if self.shape_a == self.shape_b {
                vec![Looks::Datatype]
            } else {
                typed(Looks::Reshape)
            };
        }
        if let Some(order) = self.order() {
            return typed(order);
        }
        if self.shape_a == self.shape_b {
            let found = if other_type { None } else { self.bits() };
            let found = found
                .or_else(|| {
                    looks::channels(&self.shape_a, |i, j| self.same(i, j))
                        .map(|axis| Looks::ChannelOrder { axis })
                })
                .or_else(|| self.rows())
                .or_else(|| self.tail());
            if let Some(found) = found {
                return typed(found);
            }
            let numeric = self.numbers.as_ref().and_then(|(a, b)| self.numeric(a, b));
            return numeric.map_or_else(|| vec![Looks::Unknown], |looks| vec![looks]);
        }
        if let Some(padding) = self.grown() {
            return typed(padding);
        }
        self.order_and_scale()
            .unwrap_or_else(|| vec![Looks::Unknown])
    }

    /// Axes exchanged, every element at its new place.
    fn order(&self) -> Option<Looks> {
        self.orders()
            .find(|axes| {
                (0..self.b.len())
                    .all(|j| self.same(looks::moved(&self.shape_a, &self.shape_b, axes, j), j))
            })
            .map(|axes| Looks::Layout { axes })
    }

    /// Orders of the axes of `a` that give the shape of `b`.
    fn orders(&self) -> impl Iterator<Item = Vec<usize>> {
        let rank = self.shape_a.len();
        let fits = move |axes: &Vec<usize>| {
            rank == self.shape_b.len()
                && axes
                    .iter()
                    .map(|&x| self.shape_a[x])
                    .eq(self.shape_b.iter().copied())
        };
        looks::orders(rank).into_iter().filter(fits)
    }

    /// Axes exchanged and then scaled: pictures on their way into a network.
    fn order_and_scale(&self) -> Option<Vec<Looks>> {
        let (a, b) = self.numbers.as_ref()?;
        self.orders().find_map(|axes| {
            let there = |j| a[looks::moved(&self.shape_a, &self.shape_b, &axes, j)];
            let moved: Vec<f64> = (0..b.len()).map(there).collect();
            let scaling = looks::scaling(&self.shape_b, &moved, b, self.grid())?;
            Some(vec![Looks::Layout { axes }, scaling])
        })
    }

    fn grid(&self) -> f64 {
        looks::grid(self.tensors.0.datatype).max(looks::grid(self.tensors.1.datatype))
    }

    fn numeric(&self, a: &[f64], b: &[f64]) -> Option<Looks> {
        let largest = a.iter().chain(b).filter(|v| v.is_finite());
        let largest = largest.fold(0.0, |m: f64, v| m.max(v.abs()));
        let close = |(x, y): (&f64, &f64)| {
            x.total_cmp(y).is_eq()
                || (x.is_nan() && y.is_nan())
                || (x - y).abs() <= self.grid() * largest
        };
        looks::cast(a, b)
            .or_else(|| looks::scaling(&self.shape_b, a, b, self.grid()))
            .or_else(|| a.iter().zip(b).all(close).then_some(Looks::Rounding))
    }

    /// One flipped bit, or reversed bytes.
    fn bits(&self) -> Option<Looks> {
        let n = self.a.len();
        let mut differing = (0..n).filter(|&i| self.a.at(i) != self.b.at(i));
        let first = differing.next()?;
        let (x, y) = (self.a.at(first), self.b.at(first));
        if differing.next().is_none() && x.len() == y.len() {
            let flipped: Vec<u32> = (0u32..)
                .zip(x.iter().zip(y))
                .flat_map(|(at, (x, y))| {
                    (0..8)
                        .filter(move |bit| (x ^ y) >> bit & 1 == 1)
                        .map(move |bit| 8 * at + bit)
                })
                .collect();
            if let [bit] = flipped.as_slice() {
                return Some(Looks::BitFlip { bit: *bit });
            }
        }
        let wide = self.tensors.0.datatype.size().is_some_and(|size| size > 1);
        let reversed = |i: usize| self.a.at(i).iter().rev().eq(self.b.at(i));
        (wide && (0..n).all(reversed)).then_some(Looks::ByteOrder)
    }

    /// The same rows in another order.
    fn rows(&self) -> Option<Looks> {
        let rows = *self.shape_a.first()?;
        if rows < 2 || self.tensors.0.datatype != self.tensors.1.datatype {
            return None;
        }
        let each = self.a.len() / rows;
        let sorted = |view: &View<'t>| {
            let row = |r: usize| {
                (r * each..(r + 1) * each)
                    .map(|i| view.at(i))
                    .collect::<Vec<_>>()
            };
            let mut all: Vec<_> = (0..rows).map(row).collect();
            all.sort_unstable();
            all
        };
        (sorted(&self.a) == sorted(&self.b)).then_some(Looks::RowOrder)
    }

    /// Equal up to an index of one axis, and from there one side is one value.
    fn tail(&self) -> Option<Looks> {
        let n = self.a.len();
        let differs: Vec<usize> = (0..n).filter(|&i| !self.same(i, i)).collect();
        let strides = strides(&self.shape_a);
        let at = |i: usize, axis: usize| i / strides[axis] % self.shape_a[axis].max(1);
        (0..self.shape_a.len()).find_map(|axis| {
            let from = differs.iter().map(|&i| at(i, axis)).min()?;
            let tail: Vec<usize> = (0..n).filter(|&i| at(i, axis) >= from).collect();
            if from == 0 || tail.len() < 2 {
                return None;
            }
            let constant = |view: &View<'t>| tail.iter().all(|&i| view.at(i) == view.at(tail[0]));
            let (of, datatype, view) = if constant(&self.b) {
                ('b', self.tensors.1.datatype, &self.b)
            } else if constant(&self.a) {
                ('a', self.tensors.0.datatype, &self.a)
            } else {
                return None;
            };
            let fill = shown(datatype, view.at(tail[0]));
            Some(Looks::Padding {
                axis,
                from,
                fill,
                of,
            })
        })
    }

    /// One side is the other with more on one or several axes, and all of that is one value.
    fn grown(&self) -> Option<Looks> {
        if self.shape_a.len() != self.shape_b.len() {
            return None;
        }
        let within = |s: &[usize], l: &[usize]| s.iter().zip(l).all(|(s, l)| s <= l);
        let (of, small, large) = if within(&self.shape_a, &self.shape_b) {
            ('b', &self.shape_a, &self.shape_b)
        } else if within(&self.shape_b, &self.shape_a) {
            ('a', &self.shape_b, &self.shape_a)
        } else {
            return None;
        };
        let datatype = if of == 'b' {
            self.tensors.1.datatype
        } else {
            self.tensors.0.datatype
        };
        let view = if of == 'b' { &self.b } else { &self.a };
        let strides = strides(small);
        let mut fill: Option<&[u8]> = None;
        for n in 0..view.len() {
            let at = index(large, n);
            if at.iter().zip(small).all(|(i, d)| i < d) {
                let inner = at.iter().zip(&strides).map(|(i, s)| i * s).sum();
                let same = match of {
                    'b' => self.same(inner, n),
                    _ => self.same(n, inner),
                };
                if !same {
                    return None;
                }
            } else if *fill.get_or_insert(view.at(n)) != view.at(n) {
                return None;
            }
        }
        let axis = small.iter().zip(large).position(|(s, l)| s < l)?;
        Some(Looks::Padding {
            axis,
            from: small[axis],
            fill: shown(datatype, fill?),
            of,
        })
    }
}
