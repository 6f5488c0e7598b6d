//! What is committed together: neighbouring row groups of a segment, put together and read again.

use std::ops::Range;
use std::sync::Arc;

use inferdiff_schemas::Exchange;
use inferdiff_schemas::capture::{Batch, Capture, CaptureError, Projection, Segment};
use inferdiff_schemas::run::manifest::Chunk;

/// How many exchanges are committed together, unless one row group holds more. What comes with a commit
/// (files, synced; each of some forty columns begun and ended) costs milliseconds, as much as a hundred
/// exchanges of a small model, and a recorder of little traffic makes a row group of a few exchanges a
/// second.
pub const COMMIT_EVERY: u64 = 4000;

/// How long production took over what is committed together, unless one row group took longer: where an
/// exchange takes a second, an interruption is not to cost an hour, nor a first result.
const CHUNK_NS: u64 = 4_000_000_000;

/// So many may take longer together: production may answer many at a time, each slowly.
const FEW: u64 = 100;

/// What an exchange counts that has no time (imported ones have none): a thousand of them are a chunk.
const UNTIMED_NS: u64 = CHUNK_NS / 1000;

/// Bytes of a chunk's row groups, as they are in memory, unless one alone is larger: large exchanges take
/// the longest.
const CHUNK_BYTES: u64 = 64 << 20;

/// The chunks of a segment, as its rows come.
pub(super) struct Chunks<'a> {
    segment: &'a Segment,
    commit_every: u64,
    done: Vec<Chunk>,
    /// Where further row groups may go.
    open: Option<(Chunk, Cost)>,
    /// The row group of the next row, and its rows so far.
    piece: Chunk,
    rows: u64,
    /// What production took over those of them that are replayed.
    ns: u64,
}

/// What of a chunk is bounded beside its exchanges.
#[derive(Clone, Copy)]
struct Cost {
    bytes: u64,
    ns: u64,
}

impl Cost {
    fn with(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            ns: self.ns.saturating_add(other.ns),
        }
    }

    fn fits(self, exchanges: u64) -> bool {
        self.bytes <= CHUNK_BYTES && (self.ns <= CHUNK_NS || exchanges <= FEW)
    }
}

impl<'a> Chunks<'a> {
    pub fn new(segment: &'a Segment, commit_every: u64) -> Self {
        Self {
            segment,
            commit_every,
            done: Vec::new(),
            open: None,
            piece: piece(segment, 0),
            rows: 0,
            ns: 0,
        }
    }

    /// The next row of the segment, and how long production took over it (0: nobody knows).
    pub fn row(&mut self, replayed: bool, took_ns: u64) {
        let took_ns = if took_ns == 0 { UNTIMED_NS } else { took_ns };
        while self.rows >= self.segment.rows_of(self.piece.row_group)
            && self.piece.row_group < self.segment.row_groups
        {
            self.end_piece();
        }
        if replayed {
            self.piece.push([self.rows, self.rows + 1]);
            self.ns = self.ns.saturating_add(took_ns);
        }
        self.rows += 1;
    }

    /// All of them.
    pub fn end(mut self) -> Vec<Chunk> {
        self.end_piece();
        self.done.extend(self.open.map(|(chunk, _)| chunk));
        self.done
    }

    fn end_piece(&mut self) {
        let next = piece(self.segment, self.piece.row_group + 1);
        let piece = std::mem::replace(&mut self.piece, next);
        self.rows = 0;
        let ns = std::mem::take(&mut self.ns);
        if piece.rows.is_empty() {
            return;
        }
        let bytes = self.segment.uncompressed_bytes(piece.row_group);
        let cost = Cost { bytes, ns };
        match &mut self.open {
            Some((chunk, sum))
                if chunk.exchanges() + piece.exchanges() <= self.commit_every
                    && sum.with(cost).fits(chunk.exchanges() + piece.exchanges()) =>
            {
                let earlier = chunk.row_group..piece.row_group;
                let start: u64 = earlier.map(|g| self.segment.rows_of(g)).sum();
                let rows = piece.rows.iter();
                rows.for_each(|[from, to]| chunk.push([start + from, start + to]));
                chunk.row_groups = piece.row_group + 1 - chunk.row_group;
                *sum = sum.with(cost);
            }
            open => {
                let full = open.replace((piece, cost));
                self.done.extend(full.map(|(chunk, _)| chunk));
            }
        }
    }
}

fn piece(segment: &Segment, row_group: usize) -> Chunk {
    Chunk {
        name: format!("{}-{row_group:04}", segment.id),
        segment: segment.id.to_string(),
        row_group,
        row_groups: 1,
        rows: Vec::new(),
    }
}

/// Rows of a chunk as they were read, of which some are replayed.
pub struct Pending {
    batch: Batch,
    /// Place of its first row in the chunk.
    first: u64,
    chunk: Arc<Chunk>,
}

impl Pending {
    /// Those that are replayed, in order, a few at a time.
    pub fn exchanges(self) -> impl Iterator<Item = Result<Vec<Exchange>, CaptureError>> {
        let starts = (0..self.batch.rows()).step_by(Batch::FEW);
        starts.filter_map(move |start| {
            let rows = start..self.batch.rows().min(start + Batch::FEW);
            let place = |row: usize| self.first + row as u64;
            let mut row = place(rows.start);
            if !self.chunk.touches([row, place(rows.end)]) {
                return None;
            }
            Some(self.batch.exchanges(rows).map(|mut exchanges| {
                exchanges.retain(|_| {
                    row += 1;
                    self.chunk.contains(row - 1)
                });
                exchanges
            }))
        })
    }
}

/// The rows of a chunk, in order, a few at a time. Row groups of which none is replayed are not read.
///
/// # Errors
/// The segment is gone, or cannot be read.
pub fn batches(
    capture: &Capture,
    chunk: &Chunk,
    projection: Projection,
) -> Result<impl Iterator<Item = Result<Pending, CaptureError>> + Send + use<>, CaptureError> {
    let segment = capture.segment(&chunk.segment)?.clone();
    let spans = spans(&segment, chunk);
    let chunk = Arc::new(chunk.clone());
    Ok(spans.into_iter().flat_map(move |(span, mut first)| {
        let chunk = Arc::clone(&chunk);
        let (batches, error) = match segment.batches(span, projection) {
            Ok(batches) => (Some(batches), None),
            Err(e) => (None, Some(Err(e))),
        };
        let mut pending = move |batch: Batch| {
            let (begin, rows) = (first, batch.rows() as u64);
            first += rows;
            Pending {
                batch,
                first: begin,
                chunk: Arc::clone(&chunk),
            }
        };
        let batches = batches.into_iter().flatten();
        batches
            .map(move |batch| batch.map(&mut pending))
            .chain(error)
    }))
}

/// The exchanges of a chunk that are replayed, in order, a few at a time.
///
/// # Errors
/// As [`batches`].
pub fn exchanges(
    capture: &Capture,
    chunk: &Chunk,
    projection: Projection,
) -> Result<impl Iterator<Item = Result<Vec<Exchange>, CaptureError>> + use<>, CaptureError> {
    let batches = batches(capture, chunk, projection)?;
    Ok(batches.flat_map(decoded))
}

/// The exchanges of rows; an error stays where it is.
pub fn decoded(
    rows: Result<Pending, CaptureError>,
) -> impl Iterator<Item = Result<Vec<Exchange>, CaptureError>> {
    let (rows, error) = match rows {
        Ok(rows) => (Some(rows), None),
        Err(e) => (None, Some(Err(e))),
    };
    rows.into_iter().flat_map(Pending::exchanges).chain(error)
}

/// What is read of a chunk: row groups, with the place of their first row in it.
fn spans(segment: &Segment, chunk: &Chunk) -> Vec<(Range<usize>, u64)> {
    let mut runs: Vec<(Range<usize>, u64)> = Vec::new();
    let mut first = 0;
    for group in chunk.row_group..chunk.row_group + chunk.row_groups {
        let end = first + segment.rows_of(group);
        if chunk.touches([first, end]) {
            match runs.last_mut() {
                Some((run, _)) if run.end == group => run.end += 1,
                _ => runs.push((group..group + 1, first)),
            }
        }
        first = end;
    }
    let each = runs.into_iter().flat_map(|(run, mut first)| {
        segment.spans(run).map(move |span| {
            let begin = first;
            first += span.clone().map(|g| segment.rows_of(g)).sum::<u64>();
            (span, begin)
        })
    });
    each.collect()
}
