//! Column chunks of numbers, one page each: as they are, or said once where all are the same.
//!
//! The general writer looks at each for a dictionary or compresses it, and copies it several times
//! (docs/benchmarks.md, "Replaying").

use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::ColumnDescPtr;

use super::levels::{Levels, varint};
use super::one_page::{Column, OnePage};
use super::pages::Output;

/// What a column of numbers holds.
pub(crate) trait Number: Copy {
    /// There can be a dictionary.
    const DICTIONARY: bool;

    /// The same bits.
    fn is(self, other: Self) -> bool;

    /// Appends values as PLAIN has them.
    fn plain(values: &[Self], out: &mut Vec<u8>);
}

macro_rules! number {
    ($($type:ty,)*) => {$(
        impl Number for $type {
            const DICTIONARY: bool = true;

            fn is(self, other: Self) -> bool {
                self.to_le_bytes() == other.to_le_bytes()
            }

            fn plain(values: &[Self], out: &mut Vec<u8>) {
                const BYTES: usize = size_of::<$type>();
                let begin = out.len();
                out.resize(begin + BYTES * values.len(), 0);
                let (places, _) = out[begin..].as_chunks_mut::<BYTES>();
                for (place, value) in places.iter_mut().zip(values) {
                    *place = value.to_le_bytes();
                }
            }
        }
    )*};
}

number! { u32, u64, i64, f64, }

/// Eight in a byte, the first in its lowest bit.
impl Number for bool {
    const DICTIONARY: bool = false;

    fn is(self, other: Self) -> bool {
        self == other
    }

    fn plain(values: &[Self], out: &mut Vec<u8>) {
        let byte = |bits: &[bool]| {
            let bits = bits.iter().enumerate();
            bits.fold(0, |byte, (i, bit)| byte | u8::from(*bit) << i)
        };
        out.extend(values.chunks(8).map(byte));
    }
}

/// Digests: hardly any comes twice.
impl<const N: usize> Number for [u8; N] {
    const DICTIONARY: bool = false;

    fn is(self, other: Self) -> bool {
        self == other
    }

    fn plain(values: &[Self], out: &mut Vec<u8>) {
        out.extend_from_slice(values.as_flattened());
    }
}

/// A column of a row group that grows row by row.
pub(crate) struct Numbers<T> {
    levels: Levels,
    /// Entries that are values.
    present: usize,
    /// The value of all of them, as long as they are the same; then `values` is empty.
    once: Option<T>,
    values: Vec<T>,
}

impl<T: Number> Numbers<T> {
    /// Without rows.
    pub fn new() -> Self {
        Self::nested(1)
    }

    /// Without rows, of a column within lists, whose values have this definition level.
    pub fn nested(value: u8) -> Self {
        Self {
            levels: Levels::new(value),
            present: 0,
            once: None,
            values: Vec::new(),
        }
    }

    /// The next row.
    #[inline]
    pub fn append_value(&mut self, value: T) {
        self.append_at(0, value);
    }

    /// The next row, null where there is none. The column must be one that can have nulls.
    #[inline]
    pub fn append_option(&mut self, value: Option<T>) {
        match value {
            Some(value) => self.append_value(value),
            None => self.append_none(0, 0),
        }
    }

    /// The next entry, with its repetition level.
    #[inline]
    pub fn append_at(&mut self, repetition: u8, value: T) {
        self.levels.value(repetition);
        match self.once {
            Some(once) if once.is(value) => {}
            None if self.present == 0 => self.once = Some(value),
            once => {
                if let Some(once) = once {
                    self.values.resize(self.present, once);
                    self.once = None;
                }
                self.values.push(value);
            }
        }
        self.present += 1;
    }

    /// The next entry is no value, and has these levels.
    pub fn append_none(&mut self, repetition: u8, definition: u8) {
        self.levels.entry(repetition, definition);
    }
}

impl<T: Number> Column for Numbers<T> {
    fn encode(
        &mut self,
        column: &ColumnDescPtr,
        out: &mut impl Output,
        scratch: &mut Vec<u8>,
    ) -> Result<ColumnChunkMetaData> {
        let mut dictionary = Vec::new();
        let entries = self.levels.begin_page(column, scratch);
        match self.once {
            Some(once) if T::DICTIONARY => {
                T::plain(&[once], &mut dictionary);
                // Places in the dictionary: their bits, and one run of zeros.
                scratch.push(1);
                varint(scratch, (self.present as u64) << 1);
                scratch.push(0);
            }
            once => {
                if let Some(once) = once {
                    self.values.resize(self.present, once);
                }
                T::plain(&self.values, scratch);
            }
        }
        self.values.clear();
        (self.present, self.once) = (0, None);
        let page = OnePage {
            column,
            entries,
            dictionary: (!dictionary.is_empty()).then_some((dictionary.as_slice(), 1)),
            body: scratch,
        };
        page.append(out)
    }
}
