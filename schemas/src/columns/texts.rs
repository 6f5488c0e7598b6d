//! Column chunks of texts that mostly repeat: each once in a dictionary, and its place in it for each row.

use std::collections::HashMap;

use parquet::basic::{Compression, Encoding};
use parquet::data_type::ByteArray;
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use ulid::Ulid;

use super::page_header::{self, PLAIN, RLE_DICTIONARY};
use super::{levels, signed};

/// A column of a row group that grows row by row.
pub(crate) struct Texts {
    rows: usize,
    /// Definition level of each row; empty as long as none is null.
    levels: Vec<u8>,
    /// Place in the dictionary of each row that is not null.
    places: Vec<u32>,
    known: HashMap<Box<str>, u32>,
    /// The dictionary's page, and the last text that came.
    page: Vec<u8>,
    last: String,
}

impl Texts {
    /// Without rows.
    pub fn new() -> Self {
        Self {
            rows: 0,
            levels: Vec::new(),
            places: Vec::new(),
            known: HashMap::new(),
            page: Vec::new(),
            last: String::new(),
        }
    }

    /// The next row, with the text of the row before it that was not null.
    #[inline]
    pub fn repeat(&mut self) {
        let last = self.places.last().copied();
        self.place(last.expect("a text came before"));
    }

    /// The next row.
    #[inline]
    pub fn append_value(&mut self, text: &str) {
        if !self.places.is_empty() && self.last == text {
            return self.repeat();
        }
        text.clone_into(&mut self.last);
        let place = self.known.get(text).copied();
        let place = place.unwrap_or_else(|| self.add(text));
        self.place(place);
    }

    /// The next row, null where there is none. The column must be one that can have nulls.
    #[inline]
    pub fn append_option(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.append_value(text),
            None => {
                self.levels.resize(self.rows, 1);
                self.levels.push(0);
                self.rows += 1;
            }
        }
    }

    fn place(&mut self, place: u32) {
        if !self.levels.is_empty() {
            self.levels.push(1);
        }
        self.places.push(place);
        self.rows += 1;
    }

    #[cold]
    fn add(&mut self, text: &str) -> u32 {
        let new = u32::try_from(self.known.len()).expect("a row group has fewer rows");
        self.known.insert(text.into(), new);
        let length = u32::try_from(text.len()).expect("texts are far shorter than 4 GiB");
        self.page.extend_from_slice(&length.to_le_bytes());
        self.page.extend_from_slice(text.as_bytes());
        new
    }

    /// Appends the chunk of `column` to `out`, which begins at offset `start` of the file, and begins anew.
    ///
    /// # Errors
    /// `InvalidInput` as `ParquetError::External` for more rows or bytes than a page can have (2 GiB).
    pub fn encode(
        &mut self,
        column: &ColumnDescPtr,
        start: u64,
        out: &mut Vec<u8>,
    ) -> Result<ColumnChunkMetaData> {
        let begin = start + out.len() as u64;
        let mut dictionary = None;
        if !self.known.is_empty() {
            page_header::dictionary(out, self.page.len(), self.known.len())?;
            out.append(&mut self.page);
            dictionary = Some(signed(begin));
        }
        let data = start + out.len() as u64;
        let mut body = Vec::new();
        if column.max_def_level() > 0 {
            self.levels.resize(self.rows, 1);
            levels::encode(
                &mut body,
                &self.levels,
                levels::bits(column.max_def_level()),
            );
        } else {
            debug_assert_eq!(self.places.len(), self.rows, "{}", column.name());
        }
        let encoding = match dictionary {
            // Nothing but nulls.
            None => PLAIN,
            Some(_) => {
                // A bit at least: not every reader takes none.
                let largest = (self.known.len() as u64 - 1).max(1);
                let bits = u64::BITS - largest.leading_zeros();
                body.push(u8::try_from(bits).expect("places have 32 bits at most"));
                levels::hybrid(&mut body, &self.places, bits as usize);
                RLE_DICTIONARY
            }
        };
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
        self.levels.clear();
        self.places.clear();
        self.known.clear();
        self.rows = 0;
        Ok(chunk)
    }
}

/// A column of recorders: mostly one, whose text is made once.
pub(crate) struct Recorders {
    texts: Texts,
    last: Option<Ulid>,
}

impl Recorders {
    /// Without rows.
    pub fn new() -> Self {
        Self {
            texts: Texts::new(),
            last: None,
        }
    }

    /// The next row.
    pub fn append_value(&mut self, recorder: Ulid) {
        if self.last == Some(recorder) {
            return self.texts.repeat();
        }
        let mut text = [0; ulid::ULID_LEN];
        self.texts.append_value(recorder.array_to_str(&mut text));
        self.last = Some(recorder);
    }

    /// As [`Texts::encode`], with the bounds of the texts.
    pub fn encode(
        &mut self,
        column: &ColumnDescPtr,
        start: u64,
        out: &mut Vec<u8>,
    ) -> Result<ColumnChunkMetaData> {
        self.last = None;
        let mut bounds: Option<(&str, &str)> = None;
        for text in self.texts.known.keys().map(AsRef::as_ref) {
            let (low, high) = bounds.unwrap_or((text, text));
            bounds = Some((low.min(text), high.max(text)));
        }
        let bound = |of: fn((&str, &str)) -> Vec<u8>| bounds.map(of).map(ByteArray::from);
        let low = bound(|(low, _)| low.as_bytes().to_vec());
        let high = bound(|(_, high)| high.as_bytes().to_vec());
        let bounds = Statistics::byte_array(low, high, None, Some(0), false);
        let chunk = self.texts.encode(column, start, out)?;
        chunk.into_builder().set_statistics(bounds).build()
    }
}
