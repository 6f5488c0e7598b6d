//! Column chunks of payloads, written straight from the bytes that the proxy or an engine gave.
//!
//! A payload is in memory once already. The general writer would copy it into a page and the page
//! into its buffers; here a page is a header, levels, and the values themselves. Pages are version 1,
//! PLAIN, uncompressed: <https://parquet.apache.org/docs/file-format/data-pages/>.

use std::io;

use parquet::basic::{Compression, Encoding};
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::ColumnDescPtr;

use super::page_header::{self, PLAIN};
use super::{levels, signed};
use crate::tensor::Tensor;

/// Values below this length are gathered before they are written: a call costs more than the copy.
const GATHERED_BELOW: usize = 16 * 1024;
/// Gathered bytes are written when there are so many.
const GATHERED: usize = 256 * 1024;
/// A page ends at the end of a row as soon as it has this many bytes (what was just hashed is to be in
/// the second-level cache still when it is written),
const PAGE: u64 = 512 << 10;
/// and inside a row at this many, so that with a value of 1 GiB it stays below the format's 2 GiB.
const LONGEST_PAGE: u64 = 64 << 20;

/// One entry of a payload column.
pub(crate) struct Slot<'a> {
    /// 0 begins a row.
    repetition: u8,
    definition: u8,
    data: Option<&'a [u8]>,
}

/// The entries of a column of tensors' payloads that one row gives.
///
/// Definition levels: 0 no list, 1 an empty one, 2 an entry without data, 3 data.
pub(crate) fn tensor_slots<'a>(tensors: Option<&'a [Tensor]>, out: &mut Vec<Slot<'a>>) {
    let row = |definition| Slot {
        repetition: 0,
        definition,
        data: None,
    };
    match tensors {
        None => out.push(row(0)),
        Some([]) => out.push(row(1)),
        Some(tensors) => out.extend(tensors.iter().enumerate().map(|(i, t)| Slot {
            repetition: u8::from(i > 0),
            definition: 2 + u8::from(t.data.is_some()),
            data: t.data.as_deref(),
        })),
    }
}

/// The entry of a column of bodies that one row gives.
pub(crate) fn body_slot(data: Option<&[u8]>) -> Slot<'_> {
    Slot {
        repetition: 0,
        definition: u8::from(data.is_some()),
        data,
    }
}

/// Where a chunk is written to.
pub(crate) trait Output {
    /// Bytes written so far: the offset of the next one.
    fn position(&self) -> u64;
    /// Appends `bytes`.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// What was appended since the last call has a digest of its own.
    fn end_piece(&mut self);
    /// Called every tenth of a millisecond or so: whoever else wants the core may have it.
    fn pause(&mut self);
}

/// Memory that stands for a piece of the file.
pub(crate) struct Piece {
    start: u64,
    pub bytes: Vec<u8>,
}

impl Piece {
    /// Nothing yet, from offset `start` of the file on.
    pub fn at(start: u64) -> Self {
        Self {
            start,
            bytes: Vec::new(),
        }
    }
}

impl Output for Piece {
    fn position(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn end_piece(&mut self) {}

    fn pause(&mut self) {}
}

/// One column chunk that grows page by page.
pub(crate) struct Chunk {
    column: ColumnDescPtr,
    entries: u64,
    start: u64,
}

impl Chunk {
    /// A chunk of `column` that begins where `out` stands.
    pub fn begin(column: ColumnDescPtr, out: &impl Output) -> Self {
        Self {
            column,
            entries: 0,
            start: out.position(),
        }
    }

    /// Payload bytes so far, with what is beside them in pages.
    pub fn bytes(&self, out: &impl Output) -> u64 {
        out.position() - self.start
    }

    /// Ends the chunk, which has an entry for each row at least, and ends where `out` stands.
    ///
    /// # Errors
    /// None that is known: of the metadata's builder.
    pub fn end(self, out: &impl Output) -> Result<ColumnChunkMetaData> {
        let length = signed(self.bytes(out));
        ColumnChunkMetaData::builder(self.column)
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE])
            .set_compression(Compression::UNCOMPRESSED)
            .set_num_values(signed(self.entries))
            .set_data_page_offset(signed(self.start))
            .set_total_compressed_size(length)
            .set_total_uncompressed_size(length)
            .build()
    }
}

/// Writes pages of a chunk while their entries come. Payload bytes go to `out` without a copy of them
/// (values of at least 16 KiB).
pub(crate) struct Pages<'a, 'o, O> {
    out: &'o mut O,
    chunk: &'o mut Chunk,
    gathered: &'o mut Vec<u8>,
    page: Vec<Slot<'a>>,
    bytes: u64,
}

impl<'a, 'o, O: Output> Pages<'a, 'o, O> {
    /// `gathered`: room for small values; what is in it is dropped.
    pub fn new(out: &'o mut O, chunk: &'o mut Chunk, gathered: &'o mut Vec<u8>) -> Self {
        gathered.clear();
        Self {
            out,
            chunk,
            gathered,
            page: Vec::new(),
            bytes: 0,
        }
    }

    /// The next entry.
    ///
    /// # Errors
    /// Those of `out`, as `ParquetError::External`; `InvalidInput` likewise for a page that the format
    /// cannot describe (a value of 2 GiB).
    pub fn push(&mut self, slot: Slot<'a>) -> Result<()> {
        if self.bytes >= LONGEST_PAGE || (self.bytes >= PAGE && slot.repetition == 0) {
            self.end_page()?;
        }
        self.bytes += slot.data.map_or(0, |data| 4 + data.len() as u64);
        self.page.push(slot);
        Ok(())
    }

    /// A turn is over.
    pub fn pause(&mut self) {
        self.out.pause();
    }

    /// Ends the last page. The next entry of the chunk must begin a row.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn end(mut self) -> Result<()> {
        self.end_page()
    }

    fn end_page(&mut self) -> Result<()> {
        write_page(self.out, &self.chunk.column, &self.page, self.gathered)?;
        self.chunk.entries += self.page.len() as u64;
        self.page.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// Gathers header, levels and small values, and writes what was gathered before each large value and
/// at the end of the page.
fn write_page(
    out: &mut impl Output,
    column: &ColumnDescPtr,
    slots: &[Slot<'_>],
    gathered: &mut Vec<u8>,
) -> io::Result<()> {
    let mut head = Vec::new();
    let mut level = Vec::with_capacity(slots.len());
    if column.max_rep_level() > 0 {
        level.extend(slots.iter().map(|s| s.repetition));
        levels::encode(&mut head, &level, levels::bits(column.max_rep_level()));
        level.clear();
    }
    level.extend(slots.iter().map(|s| s.definition));
    levels::encode(&mut head, &level, levels::bits(column.max_def_level()));
    let values = || slots.iter().filter_map(|s| s.data);
    let size = head.len() + values().map(|data| 4 + data.len()).sum::<usize>();
    page_header::data(gathered, size, slots.len(), PLAIN)?;
    gathered.extend_from_slice(&head);
    for data in values() {
        // Each value is shorter than its page, whose length was just found to fit.
        let length = u32::try_from(data.len()).map_err(|_| page_header::too_long(size))?;
        gathered.extend_from_slice(&length.to_le_bytes());
        if data.len() < GATHERED_BELOW {
            gathered.extend_from_slice(data);
        }
        if data.len() >= GATHERED_BELOW || gathered.len() >= GATHERED {
            out.append(gathered)?;
            gathered.clear();
        }
        if data.len() >= GATHERED_BELOW {
            out.append(data)?;
        }
    }
    out.append(gathered)?;
    gathered.clear();
    out.end_piece();
    Ok(())
}
