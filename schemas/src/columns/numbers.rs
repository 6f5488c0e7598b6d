//! Column chunks of numbers, one page each: as they are, or said once where all are the same.
//!
//! The general writer takes twenty times as long for a number: it looks at each for a dictionary or
//! compresses it, and copies it five times.

use parquet::basic::{Compression, Encoding};
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::ColumnDescPtr;

use super::levels::{self, varint};
use super::page_header::{self, PLAIN, RLE_DICTIONARY};
use super::signed;

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

number! { u32, u64, f64, }

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

/// A column of a row group that grows row by row.
pub(crate) struct Numbers<T> {
    rows: usize,
    /// Definition level of each row; empty as long as none is null.
    levels: Vec<u8>,
    /// Rows that are not null.
    present: usize,
    /// The value of all of them, as long as they are the same; then `values` is empty.
    once: Option<T>,
    values: Vec<T>,
}

impl<T: Number> Numbers<T> {
    /// Without rows.
    pub fn new() -> Self {
        Self {
            rows: 0,
            levels: Vec::new(),
            present: 0,
            once: None,
            values: Vec::new(),
        }
    }

    /// The next row.
    #[inline]
    pub fn append_value(&mut self, value: T) {
        if !self.levels.is_empty() {
            self.levels.push(1);
        }
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
        self.rows += 1;
        self.present += 1;
    }

    /// The next row, null where there is none. The column must be one that can have nulls.
    #[inline]
    pub fn append_option(&mut self, value: Option<T>) {
        match value {
            Some(value) => self.append_value(value),
            None => {
                self.levels.resize(self.rows, 1);
                self.levels.push(0);
                self.rows += 1;
            }
        }
    }

    /// Appends the chunk of `column` to `out`, which begins at offset `start` of the file, and begins anew.
    ///
    /// # Errors
    /// `InvalidInput` as `ParquetError::External` for more rows than a page can have (2 GiB).
    pub fn encode(
        &mut self,
        column: &ColumnDescPtr,
        start: u64,
        out: &mut Vec<u8>,
    ) -> Result<ColumnChunkMetaData> {
        let begin = start + out.len() as u64;
        let mut body = Vec::new();
        if column.max_def_level() > 0 {
            self.levels.resize(self.rows, 1);
            levels::encode(
                &mut body,
                &self.levels,
                levels::bits(column.max_def_level()),
            );
        } else {
            debug_assert_eq!(self.present, self.rows, "{}", column.name());
        }
        if let Some(once) = self.once.filter(|_| !T::DICTIONARY) {
            self.values.resize(self.present, once);
            self.once = None;
        }
        let mut dictionary = None;
        let encoding = if let Some(value) = self.once {
            let mut page = Vec::new();
            T::plain(&[value], &mut page);
            page_header::dictionary(out, page.len(), 1)?;
            out.append(&mut page);
            dictionary = Some(signed(begin));
            // Places in the dictionary: their bits, and one run of zeros.
            body.push(1);
            varint(&mut body, (self.present as u64) << 1);
            body.push(0);
            RLE_DICTIONARY
        } else {
            T::plain(&self.values, &mut body);
            PLAIN
        };
        let data = start + out.len() as u64;
        page_header::data(out, body.len(), self.rows, encoding)?;
        out.append(&mut body);
        let length = signed(start + out.len() as u64 - begin);
        let mut encodings = vec![Encoding::PLAIN, Encoding::RLE];
        encodings.extend(dictionary.map(|_| Encoding::RLE_DICTIONARY));
        let chunk = ColumnChunkMetaData::builder(column.clone())
            .set_encodings(encodings)
            .set_compression(Compression::UNCOMPRESSED)
            .set_num_values(signed(self.rows as u64))
            .set_dictionary_page_offset(dictionary)
            .set_data_page_offset(signed(data))
            .set_total_compressed_size(length)
            .set_total_uncompressed_size(length)
            .build()?;
        self.values.clear();
        self.levels.clear();
        (self.rows, self.present, self.once) = (0, 0, None);
        Ok(chunk)
    }
}
