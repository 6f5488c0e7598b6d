//! `[Exchange] → row group`: recorders, payloads, then descriptions.
//!
//! The first column lies first: readers that share a file between them (parquet-java's) find out from
//! its place who reads the row group, and would lose one whose first column lies at its end.

use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};

use super::encode;
use super::schema::{COLUMNS, DESCRIBED, PAYLOAD_COLUMNS, properties};
use super::turns::TURN;
use crate::Exchange;
use crate::columns::{
    Chunk, Column, Described, Output, Pages, Recorders, Slot, body_slot, tensor_slots,
};

/// The column of the inputs' payloads.
const INPUTS: &str = "inputs.list.item.data";

/// Encodes the row groups of one file.
pub(super) struct RowGroups {
    described: Described,
    gathered: Vec<u8>,
}

impl RowGroups {
    /// Of a file of which nothing is written yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            described: Described::new(DESCRIBED.clone(), COLUMNS.clone(), properties())?,
            gathered: Vec::new(),
        })
    }

    /// The row groups written.
    pub fn written(&self) -> &[RowGroupMetaData] {
        self.described.written()
    }

    /// Appends `exchanges` (one at least) to `out` as one row group: recorders, then payloads, and meanwhile
    /// the digests of inputs that have none yet; then the described columns.
    ///
    /// # Errors
    /// Of encoding, and of `out` as `ParquetError::External`. After one, the file must be given up.
    pub fn append(&mut self, out: &mut impl Output, exchanges: &[Exchange]) -> Result<()> {
        self.described.begin_file(out)?;
        let start = out.position();
        let mut digests = Vec::with_capacity(exchanges.len());
        let mut others = Vec::with_capacity(1 + PAYLOAD_COLUMNS.len());
        others.push(recorders(out, exchanges)?);
        let mut entries: Vec<Slot<'_>> = Vec::new();
        for column in COLUMNS.columns() {
            let leaf = column.path().string();
            if !PAYLOAD_COLUMNS.contains(&leaf.as_str()) {
                continue;
            }
            let mut chunk = Chunk::begin(column.clone(), out);
            let mut pages = Pages::new(out, &mut chunk, &mut self.gathered);
            for exchanges in exchanges.chunks(TURN) {
                for exchange in exchanges {
                    slots(&leaf, exchange, &mut entries);
                    entries.drain(..).try_for_each(|entry| pages.push(entry))?;
                    if leaf == INPUTS {
                        // The page before them is written by now, theirs comes next: large ones are
                        // still in the caches when they are hashed again and written.
                        digests.push(exchange.digest_of_inputs());
                    }
                }
                pages.pause();
            }
            pages.end()?;
            others.push(chunk.end(out)?);
        }
        let mut columns = self.described.begin()?;
        for (exchanges, digests) in exchanges.chunks(TURN).zip(digests.chunks(TURN)) {
            columns.write(&encode::described(exchanges, digests)?)?;
            out.pause();
        }
        self.described.end(out, columns, others, start)
    }
}

/// Appends the column of recorders.
fn recorders(out: &mut impl Output, exchanges: &[Exchange]) -> Result<ColumnChunkMetaData> {
    let mut recorders = Recorders::new();
    for exchange in exchanges {
        recorders.append_value(exchange.recorder);
    }
    let chunk = recorders.encode(&COLUMNS.column(0), out, &mut Vec::new())?;
    out.end_piece();
    Ok(chunk)
}

/// The entries of column `leaf` (one of [`PAYLOAD_COLUMNS`]) that one exchange gives.
fn slots<'a>(leaf: &str, exchange: &'a Exchange, out: &mut Vec<Slot<'a>>) {
    match leaf {
        INPUTS => tensor_slots(exchange.inputs.as_deref(), out),
        "outputs.list.item.data" => tensor_slots(exchange.outputs.as_deref(), out),
        "request_body" => out.push(body_slot(exchange.request_body.as_deref())),
        _ => out.push(body_slot(exchange.response_body.as_deref())),
    }
}
