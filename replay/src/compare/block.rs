//! Some elements of both sides as f64, small enough for the first-level cache.

use inferdiff_schemas::Datatype;

use super::elements::{coarser, element, grid};
use super::level::{Kernel, LANES, Level};
use super::numeric::{Numeric, with_numeric};

/// Elements in a block: three arrays of f64 and the data itself stay within 32 KiB.
pub(super) const BLOCK: usize = 512;

/// Reference, stage and |r−t|. Aligned as the widest registers, which would touch two lines of the cache
/// with each access otherwise.
#[repr(align(64))]
pub(super) struct Block {
    pub r: [f64; BLOCK],
    pub t: [f64; BLOCK],
    pub d: [f64; BLOCK],
}

/// One side of a block: little-endian elements of a numeric datatype.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side<'a> {
    pub datatype: Datatype,
    pub data: &'a [u8],
}

type Steps<'a> = &'a [[f64; LANES]];

impl Block {
    pub fn new() -> Box<Self> {
        Box::new(Self {
            r: [0.0; BLOCK],
            t: [0.0; BLOCK],
            d: [0.0; BLOCK],
        })
    }

    /// Loads the first `n` pairs. Returns the largest distance on the grid, which means nothing where
    /// there are non-finite elements.
    pub fn load(&mut self, level: Level, r: Side<'_>, t: Side<'_>, n: usize) -> u64 {
        if r.datatype != t.datatype {
            return self.load_mixed(level, r, t, n);
        }
        let block = self;
        with_numeric!(r.datatype, T => level.run(Load::<T> {
            r: r.data,
            t: t.data,
            block,
            n,
            numeric: std::marker::PhantomData,
        }), 0)
    }

    /// Loads the reference alone; true where an element is not finite.
    pub fn load_one(&mut self, level: Level, side: Side<'_>, n: usize) -> bool {
        widen(level, side, &mut self.r[..n]);
        side.datatype.is_float() && level.run(AnyNonfinite(&self.r[..n]))
    }

    /// Different datatypes: element by element, on the coarser one's grid.
    fn load_mixed(&mut self, level: Level, r: Side<'_>, t: Side<'_>, n: usize) -> u64 {
        widen(level, r, &mut self.r[..n]);
        widen(level, t, &mut self.t[..n]);
        for i in 0..n {
            self.d[i] = difference(r, t, i);
        }
        (0..n).map(|i| ulps(r, t, i)).max().unwrap_or(0)
    }

    /// Zeros after the first `n` pairs up to a whole step: they change no sum and no maximum.
    pub fn pad(&mut self, n: usize) {
        let end = n.next_multiple_of(LANES);
        for side in [&mut self.r, &mut self.t, &mut self.d] {
            side[n..end].fill(0.0);
        }
    }

    /// The first `n` pairs and their padding, step by step.
    #[inline(always)]
    pub fn steps(&self, n: usize) -> (Steps<'_>, Steps<'_>, Steps<'_>) {
        let end = n.next_multiple_of(LANES);
        (
            self.r[..end].as_chunks::<LANES>().0,
            self.t[..end].as_chunks::<LANES>().0,
            self.d[..end].as_chunks::<LANES>().0,
        )
    }
}

struct Load<'a, T> {
    r: &'a [u8],
    t: &'a [u8],
    block: &'a mut Block,
    n: usize,
    numeric: std::marker::PhantomData<T>,
}

impl<T: Numeric> Kernel for Load<'_, T> {
    type Out = u64;

    #[inline(always)]
    fn run(self) -> u64 {
        let Block { r, t, d } = self.block;
        let (r, t, d) = (&mut r[..self.n], &mut t[..self.n], &mut d[..self.n]);
        T::widen(self.r, r);
        T::widen(self.t, t);
        if T::WIDE {
            T::differences(self.r, self.t, d);
        } else {
            for ((d, r), t) in d.iter_mut().zip(&*r).zip(&*t) {
                *d = (r - t).abs();
            }
        }
        T::distance(self.r, self.t)
    }
}

struct Widen<'a, T> {
    data: &'a [u8],
    out: &'a mut [f64],
    numeric: std::marker::PhantomData<T>,
}

impl<T: Numeric> Kernel for Widen<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        T::widen(self.data, self.out);
    }
}

fn widen(level: Level, side: Side<'_>, out: &mut [f64]) {
    with_numeric!(side.datatype, T => level.run(Widen::<T> {
        data: side.data,
        out,
        numeric: std::marker::PhantomData,
    }), ());
}

/// Some value is NaN or infinite.
struct AnyNonfinite<'a>(&'a [f64]);

impl Kernel for AnyNonfinite<'_> {
    type Out = bool;

    #[inline(always)]
    fn run(self) -> bool {
        const EXPONENT: u64 = 0x7ff << 52;
        let mut most = 0;
        for v in self.0 {
            most = most.max(v.to_bits() & EXPONENT);
        }
        most == EXPONENT
    }
}

/// |r−t| of pair `i`; exact before rounding where both are integers.
fn difference(r: Side<'_>, t: Side<'_>, i: usize) -> f64 {
    let pair = element(r.datatype, r.data, i).zip(element(t.datatype, t.data, i));
    let (r, t) = pair.expect("the caller has checked the lengths");
    #[expect(
        clippy::cast_precision_loss,
        reason = "a distance beyond 2^53 may be rounded"
    )]
    match (r.exact, t.exact) {
        (Some(r), Some(t)) => (r - t).unsigned_abs() as f64,
        _ => (r.value - t.value).abs(),
    }
}

/// The distance of pair `i` on the coarser datatype's grid; 0 where either is not finite.
pub(super) fn ulps(r: Side<'_>, t: Side<'_>, i: usize) -> u64 {
    let pair = element(r.datatype, r.data, i).zip(element(t.datatype, t.data, i));
    let (a, b) = pair.expect("the caller has checked the lengths");
    if !a.value.is_finite() || !b.value.is_finite() {
        return 0;
    }
    let datatype = coarser(r.datatype, t.datatype);
    let distance = (grid(datatype, a) - grid(datatype, b)).unsigned_abs();
    u64::try_from(distance).unwrap_or(u64::MAX)
}
