//! What a stage replays, chunk after chunk, decoded by one thread ahead of the engine.

use std::iter::once;
use std::sync::Arc;

use inferdiff_schemas::Exchange;
use inferdiff_schemas::capture::{Capture, CaptureError, Projection};
use inferdiff_schemas::run::manifest::Chunk;

use super::ahead::{Ahead, ahead};
use crate::source;

/// The chunks of a stage, in their order.
///
/// One thread reads all of them: the next chunk is decoded while this one is committed, and what a
/// thread holds of memory when it ends would be lost to the next.
pub(super) struct Reading {
    pieces: Ahead<Piece>,
}

enum Piece {
    Exchanges(Result<Vec<Exchange>, CaptureError>),
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
            let (batches, error) = match source::exchanges(&capture, &chunk, projection) {
                Ok(batches) => (Some(batches), None),
                Err(e) => (None, Some(Err(e))),
            };
            let batches = batches.into_iter().flatten().chain(error);
            batches.map(Piece::Exchanges).chain(once(Piece::End))
        });
        Ok(Self {
            pieces: ahead(pieces)?,
        })
    }

    /// The exchanges of the next chunk, in order. They must be taken to their end before those of the
    /// chunk after it; an error ends them.
    pub fn chunk(&mut self) -> impl Iterator<Item = Result<Exchange, CaptureError>> + '_ {
        each(self.pieces.by_ref().map_while(|piece| match piece {
            Piece::Exchanges(batch) => Some(batch),
            Piece::End => None,
        }))
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
