//! Column chunks of texts.

use parquet::data_type::ByteArray;
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use ulid::Ulid;

use super::dictionary::Dictionary;
use super::levels::Levels;
use super::one_page::{Column, OnePage};
use super::pages::Output;

/// A column of a row group that grows row by row, of texts that mostly repeat.
pub(crate) struct Texts {
    values: Dictionary<Box<str>>,
    last: String,
    /// Bytes of all texts so far, of those that repeat too: what a reader has of them in memory.
    bytes: usize,
}

impl Texts {
    /// Without rows.
    pub fn new() -> Self {
        Self::nested(1)
    }

    /// Without rows, of a column within lists, whose values have this definition level.
    pub fn nested(value: u8) -> Self {
        Self {
            values: Dictionary::new(value),
            last: String::new(),
            bytes: 0,
        }
    }

    /// The next entry, with its repetition level and the text that came last.
    #[inline]
    pub fn repeat(&mut self, repetition: u8) {
        self.bytes += self.last.len();
        self.values.repeat(repetition, 1);
    }

    /// The next row.
    #[inline]
    pub fn append_value(&mut self, text: &str) {
        self.append_at(0, text);
    }

    /// The next row, null where there is none. The column must be one that can have nulls.
    #[inline]
    pub fn append_option(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.append_value(text),
            None => self.append_none(0, 0),
        }
    }

    /// The next entry, with its repetition level.
    #[inline]
    pub fn append_at(&mut self, repetition: u8, text: &str) {
        if !self.values.is_empty() && self.last == text {
            return self.repeat(repetition);
        }
        text.clone_into(&mut self.last);
        self.bytes += text.len();
        self.values
            .append(repetition, text, |page| plain(page, text));
    }

    /// The next entry is no value, and has these levels.
    #[inline]
    pub fn append_none(&mut self, repetition: u8, definition: u8) {
        self.values.levels.entry(repetition, definition);
    }

    /// Bytes of the texts so far, of those that repeat too.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Column for Texts {
    fn encode(
        &mut self,
        column: &ColumnDescPtr,
        out: &mut impl Output,
        scratch: &mut Vec<u8>,
    ) -> Result<ColumnChunkMetaData> {
        self.bytes = 0;
        self.values.encode(column, out, scratch)
    }
}

/// A column of texts of which hardly any comes twice.
pub(crate) struct PlainTexts {
    levels: Levels,
    values: Vec<u8>,
}

impl PlainTexts {
    /// Without rows.
    pub fn new() -> Self {
        Self {
            levels: Levels::new(1),
            values: Vec::new(),
        }
    }

    /// The next row, null where there is none. The column must be one that can have nulls.
    pub fn append_option(&mut self, text: Option<&str>) {
        match text {
            Some(text) => {
                self.levels.value(0);
                plain(&mut self.values, text);
            }
            None => self.levels.entry(0, 0),
        }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.values.len()
    }
}

impl Column for PlainTexts {
    fn encode(
        &mut self,
        column: &ColumnDescPtr,
        out: &mut impl Output,
        scratch: &mut Vec<u8>,
    ) -> Result<ColumnChunkMetaData> {
        let entries = self.levels.begin_page(column, scratch);
        scratch.append(&mut self.values);
        let page = OnePage {
            column,
            entries,
            dictionary: None,
            body: scratch,
        };
        page.append(out)
    }
}

/// Appends a text as PLAIN has it.
fn plain(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("texts are far shorter than 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A column of recorders: mostly one, whose text is made once. Its chunk has bounds.
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
            return self.texts.repeat(0);
        }
        let mut text = [0; ulid::ULID_LEN];
        self.texts.append_value(recorder.array_to_str(&mut text));
        self.last = Some(recorder);
    }
}

impl Column for Recorders {
    fn encode(
        &mut self,
        column: &ColumnDescPtr,
        out: &mut impl Output,
        scratch: &mut Vec<u8>,
    ) -> Result<ColumnChunkMetaData> {
        self.last = None;
        let mut bounds: Option<(&str, &str)> = None;
        for text in self.texts.values.known().map(AsRef::as_ref) {
            let (low, high) = bounds.unwrap_or((text, text));
            bounds = Some((low.min(text), high.max(text)));
        }
        let bound = |of: fn((&str, &str)) -> Vec<u8>| bounds.map(of).map(ByteArray::from);
        let low = bound(|(low, _)| low.as_bytes().to_vec());
        let high = bound(|(_, high)| high.as_bytes().to_vec());
        let bounds = Statistics::byte_array(low, high, None, Some(0), false);
        let chunk = self.texts.encode(column, out, scratch)?;
        chunk.into_builder().set_statistics(bounds).build()
    }
}
