//! What is committed together: neighbouring row groups of a segment, put together and read again.

use inferdiff_schemas::Exchange;
use inferdiff_schemas::capture::{Capture, CaptureError, Projection, Segment};
use inferdiff_schemas::run::manifest::Chunk;

/// How many exchanges are committed together, unless one row group holds more. What comes with a commit
/// (files, synced) costs milliseconds, as much as a hundred exchanges of a small model, and a recorder
/// of little traffic makes a row group of a few exchanges a second.
pub const COMMIT_EVERY: u64 = 1000;

/// Bytes of a chunk's row groups, as they are in memory, unless one alone is larger: large exchanges take
/// the longest.
const CHUNK_BYTES: u64 = 64 << 20;

/// The chunk that a segment's row groups are put together to.
pub(super) struct Pieces<'a> {
    segment: &'a Segment,
    commit_every: u64,
    pub chunk: Option<Chunk>,
    bytes: u64,
}

impl<'a> Pieces<'a> {
    pub fn new(segment: &'a Segment, commit_every: u64) -> Self {
        Self {
            segment,
            commit_every,
            chunk: None,
            bytes: 0,
        }
    }

    /// Adds a row group; the chunk before it, where both do not go into one.
    pub fn add(&mut self, piece: Chunk) -> Option<Chunk> {
        let bytes = self.segment.uncompressed_bytes(piece.row_group);
        if let Some(chunk) = &mut self.chunk
            && chunk.exchanges() + piece.exchanges() <= self.commit_every
            && self.bytes + bytes <= CHUNK_BYTES
        {
            let earlier = (chunk.row_group..piece.row_group).map(|g| self.segment.rows_of(g));
            let start: u64 = earlier.sum();
            let rows = piece.rows.iter();
            rows.for_each(|[from, to]| chunk.push([start + from, start + to]));
            chunk.row_groups = piece.row_group + 1 - chunk.row_group;
            self.bytes += bytes;
            return None;
        }
        self.bytes = bytes;
        self.chunk.replace(piece)
    }
}

/// The exchanges of a chunk, in order, a few at a time. Row groups of which none is replayed are not
/// read.
///
/// # Errors
/// The segment is gone, or cannot be read.
pub fn exchanges(
    capture: &Capture,
    chunk: &Chunk,
    projection: Projection,
) -> Result<impl Iterator<Item = Result<Vec<Exchange>, CaptureError>> + Send + use<>, CaptureError>
{
    let segment = capture.segment(&chunk.segment)?.clone();
    let chunk = chunk.clone();
    let mut start = 0;
    let groups = (chunk.row_group..chunk.row_group + chunk.row_groups).filter_map({
        let chunk = chunk.clone();
        let segment = segment.clone();
        move |group| {
            let first = start;
            start += segment.rows_of(group);
            chunk.touches([first, start]).then_some((group, first))
        }
    });
    Ok(groups.flat_map(move |(group, first)| {
        let chunk = chunk.clone();
        let mut row = first;
        let (rows, error) = match segment.stream(group, projection) {
            Ok(rows) => (Some(rows), None),
            Err(e) => (None, Some(Err(e))),
        };
        let replayed = rows.into_iter().flatten().map(move |batch| {
            let mut batch = batch?;
            batch.retain(|_| {
                row += 1;
                chunk.contains(row - 1)
            });
            Ok(batch)
        });
        replayed.chain(error)
    }))
}
