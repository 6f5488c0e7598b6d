//! Column chunks of one data page, behind a dictionary or not.

use parquet::basic::{Compression, Encoding};
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::ColumnDescPtr;

use super::page_header::{self, PLAIN, RLE_DICTIONARY};
use super::pages::Output;
use super::signed;

/// A column of a row group that grows entry by entry.
pub(crate) trait Column {
    /// Appends the chunk of `column` to `out`, and begins anew. `scratch`: memory for its page; what is in it
    /// is dropped.
    ///
    /// # Errors
    /// Those of `out`, and `InvalidInput` for more entries or bytes than a page can have (2 GiB), as
    /// `ParquetError::External`.
    fn encode(
        &mut self,
        column: &ColumnDescPtr,
        out: &mut impl Output,
        scratch: &mut Vec<u8>,
    ) -> Result<ColumnChunkMetaData>;
}

/// What a chunk consists of.
pub(super) struct OnePage<'a> {
    pub column: &'a ColumnDescPtr,
    /// Of the data page, those that are no values too.
    pub entries: usize,
    /// The dictionary's values as PLAIN has them, and their number. Then `body` has places in it.
    pub dictionary: Option<(&'a [u8], usize)>,
    /// Levels and values.
    pub body: &'a [u8],
}

impl OnePage<'_> {
    /// Appends it to `out`.
    ///
    /// # Errors
    /// As [`Column::encode`].
    pub fn append(&self, out: &mut impl Output) -> Result<ColumnChunkMetaData> {
        let begin = out.position();
        let (mut encoding, mut encodings) = (PLAIN, vec![Encoding::PLAIN, Encoding::RLE]);
        let mut header = Vec::new();
        if let Some((values, count)) = self.dictionary {
            page_header::dictionary(&mut header, values.len(), count)?;
            out.append(&header)?;
            out.append(values)?;
            header.clear();
            encoding = RLE_DICTIONARY;
            encodings.push(Encoding::RLE_DICTIONARY);
        }
        let data = out.position();
        page_header::data(&mut header, self.body.len(), self.entries, encoding)?;
        out.append(&header)?;
        out.append(self.body)?;
        let length = signed(out.position() - begin);
        ColumnChunkMetaData::builder(self.column.clone())
            .set_encodings(encodings)
            .set_compression(Compression::UNCOMPRESSED)
            .set_num_values(signed(self.entries as u64))
            .set_dictionary_page_offset(self.dictionary.map(|_| signed(begin)))
            .set_data_page_offset(signed(data))
            .set_total_compressed_size(length)
            .set_total_uncompressed_size(length)
            .build()
    }
}
