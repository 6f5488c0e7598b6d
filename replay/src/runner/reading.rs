//! What a stage replays, chunk after chunk, read by one thread ahead of the engine.

use std::iter::once;
use std::sync::Arc;

use inferdiff_schemas::Exchange;
use inferdiff_schemas::capture::{Capture, CaptureError, Projection};
use inferdiff_schemas::run::manifest::Chunk;

use super::ahead::{Ahead, ahead};
use crate::source::{self, Pending};

/// The chunks of a stage, in their order.
///
/// One thread reads all of them: the next chunk is read while this one is committed, and what a thread
/// holds of memory when it ends would be lost to the next. It reads and decompresses; exchanges, which are
/// many small pieces of memory, are made by the thread that uses and frees them.
pub(super) struct Reading {
    pieces: Ahead<Piece>,
}

enum Piece {
    Batch(Result<Pending, CaptureError>),
    /// The chunk has no more.
    End,
}

impl Reading {
    /// Starts to read.
    ///
    /// # Errors
    /// The system starts no more threads.
    pub fn start(
        capture: Arc<Capture>,
        chunks: Vec<Chunk>,
        projection: Projection,
    ) -> std::io::Result<Self> {
        let pieces = chunks.into_iter().flat_map(move |chunk| {
            let (batches, error) = match source::batches(&capture, &chunk, projection) {
                Ok(batches) => (Some(batches), None),
                Err(e) => (None, Some(Err(e))),
            };
            let batches = batches.into_iter().flatten().chain(error);
            batches.map(Piece::Batch).chain(once(Piece::End))
        });
        Ok(Self {
            pieces: ahead(pieces)?,
        })
    }

    /// The exchanges of the next chunk, in order, a few at a time. They must be taken to their end before
    /// those of the chunk after it; an error ends them.
    pub fn chunk(&mut self) -> impl Iterator<Item = Result<Vec<Exchange>, CaptureError>> + '_ {
        let batches = self.pieces.by_ref().map_while(|piece| match piece {
            Piece::Batch(batch) => Some(batch),
            Piece::End => None,
        });
        batches.flat_map(source::decoded)
    }
}

/// Exchanges one by one; an error stands where it came.
pub(super) fn each(
    batches: impl Iterator<Item = Result<Vec<Exchange>, CaptureError>>,
) -> impl Iterator<Item = Result<Exchange, CaptureError>> {
    batches.flat_map(|batch| {
        let (rows, error) = match batch {
            Ok(rows) => (rows, None),
            Err(e) => (Vec::new(), Some(Err(e))),
        };
        rows.into_iter().map(Ok).chain(error)
    })
}
