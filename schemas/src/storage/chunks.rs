//! A stored file as the Parquet reader reads it.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::ReadFile;
use crate::pool::POOL;

/// A column chunk up to this long is read at once; longer ones page by page.
const WHOLE: u64 = 256 * 1024;
/// Bytes read for a page header in a long column chunk: headers without bounds are far shorter.
const HEADER: usize = 512;

/// Ranged reads of a file up to `end`.
#[derive(Clone)]
pub(crate) struct Chunks {
    file: Arc<dyn ReadFile>,
    end: u64,
    /// First byte and content of short column chunks.
    held: Arc<[(u64, Bytes)]>,
}

impl Chunks {
    pub fn new(file: Arc<dyn ReadFile>, end: u64) -> Self {
        Self {
            file,
            end,
            held: Arc::from([]),
        }
    }

    /// Reads the short ones of the given byte ranges now, each whole: they hold many small pages,
    /// and neighbours come in one read.
    pub fn hold(&mut self, ranges: impl IntoIterator<Item = (u64, u64)>) -> Result<()> {
        let mut ranges: Vec<(u64, u64)> = ranges
            .into_iter()
            .filter(|(_, length)| *length <= WHOLE)
            .collect();
        ranges.sort_unstable();
        let mut held = Vec::new();
        let mut rest = ranges.as_slice();
        while let Some(&(start, length)) = rest.first() {
            let mut end = start.saturating_add(length);
            let neighbours = rest.iter().skip(1).take_while(|(next, length)| {
                let joins = *next == end && end - start + length <= WHOLE;
                end = if joins { end + length } else { end };
                joins
            });
            let count = 1 + neighbours.count();
            rest = &rest[count..];
            let length = usize::try_from(end - start).expect("at most WHOLE");
            held.push((start, self.read(start, length)?));
        }
        self.held = held.into();
        Ok(())
    }

    fn read(&self, start: u64, length: usize) -> Result<Bytes> {
        let inside = start
            .checked_add(length as u64)
            .is_some_and(|end| end <= self.end);
        if !inside {
            return Err(ParquetError::EOF(format!(
                "{length} bytes at {start} reach past the end at {}",
                self.end
            )));
        }
        let read = |memory: &mut [u8]| self.file.read_exact_at(memory, start);
        Ok(POOL.filled(length, read)?)
    }

    /// What is held from `start` on, where it is.
    fn find(&self, start: u64) -> Option<Bytes> {
        let after = self.held.partition_point(|(from, _)| *from <= start);
        let (from, bytes) = self.held.get(after.checked_sub(1)?)?;
        let at = usize::try_from(start - from).ok()?;
        (at < bytes.len()).then(|| bytes.slice(at..))
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.end
    }
}

impl ChunkReader for Chunks {
    type T = Pieces;

    fn get_read(&self, start: u64) -> Result<Pieces> {
        Ok(Pieces {
            piece: self.find(start).unwrap_or_default(),
            chunks: self.clone(),
            at: start,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        match self.find(start) {
            Some(held) if held.len() >= length => Ok(held.slice(..length)),
            _ => self.read(start, length),
        }
    }
}

/// Reads on from a position, a little at a time: the length of a page header is not known before.
pub(crate) struct Pieces {
    chunks: Chunks,
    /// Position of the first byte of `piece`.
    at: u64,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let left = self.chunks.end.saturating_sub(self.at);
            let length = usize::try_from(left).unwrap_or(HEADER).min(HEADER);
            self.piece = self
                .chunks
                .read(self.at, length)
                .map_err(io::Error::other)?;
        }
        let n = out.len().min(self.piece.len());
        out[..n].copy_from_slice(&self.piece.split_to(n));
        self.at += n as u64;
        Ok(n)
    }
}

/// Rows of a batch of about `bytes`, at most `most`.
pub(crate) fn batch_rows(metadata: &ParquetMetaData, bytes: u64, most: u64) -> usize {
    let groups = metadata.row_groups().iter();
    let (size, rows) = groups.fold((0u64, 0u64), |(size, rows), g| {
        let (more, count) = (g.total_byte_size(), g.num_rows());
        (size + more.unsigned_abs(), rows + count.unsigned_abs())
    });
    let each = size.checked_div(rows).unwrap_or(0).max(1);
    usize::try_from((bytes / each).clamp(1, most)).unwrap_or(1)
}
