//! Column chunks of texts that mostly repeat: each once in a dictionary, and its place in it for each row.

use std::collections::HashMap;

use parquet::data_type::ByteArray;
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use ulid::Ulid;

use super::levels::{self, Nulls};
use super::one_page::OnePage;

/// A column of a row group that grows row by row.
pub(crate) struct Texts {
    nulls: Nulls,
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
            nulls: Nulls::default(),
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
            None => self.nulls.null(),
        }
    }

    /// Bytes of the dictionary so far: of each text once.
    pub fn bytes(&self) -> usize {
        self.page.len()
    }

    fn place(&mut self, place: u32) {
        self.nulls.present();
        self.places.push(place);
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
        let (mut body, rows) = (Vec::new(), self.nulls.rows());
        self.nulls.encode(column, &mut body);
        let known = self.known.len();
        if known > 0 {
            // A bit at least: not every reader takes none.
            let largest = (known as u64 - 1).max(1);
            let bits = u64::BITS - largest.leading_zeros();
            body.push(u8::try_from(bits).expect("places have 32 bits at most"));
            levels::hybrid(&mut body, &self.places, bits as usize);
        }
        let page = OnePage {
            column,
            rows,
            // Without a text there is nothing but nulls.
            dictionary: (known > 0).then_some((self.page.as_slice(), known)),
            body: &body,
        };
        let chunk = page.append(start, out);
        self.places.clear();
        self.known.clear();
        self.page.clear();
        chunk
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
