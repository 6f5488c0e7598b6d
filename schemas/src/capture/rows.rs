//! The rows of some row groups, a few at a time.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use arrow_array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::schema::types::SchemaDescriptor;

use super::schema::{VIEWS, leaf_paths};
use super::{CaptureError, Segment, decode};
use crate::Exchange;
use crate::storage::Chunks;

/// Which columns a read touches. What is left out reads as `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projection {
    /// Neither tensors nor bodies.
    Keys,
    /// Tensors without their data, no bodies.
    Shapes,
    /// What [`crate::run::requests::RequestRow`] and the choice of what can be replayed need: tensors
    /// without their data, and a few keys. The other texts read as empty.
    Requests,
    /// Tensors, and how the exchange ended: what executing a request and comparing its answer needs.
    /// The other texts read as empty.
    Tensors,
    /// Everything.
    Full,
}

/// Beside the tensors, what says which exchange it is and how it ended.
const ANSWER: [&str; 10] = [
    "recorder",
    "seq",
    "part",
    "last",
    "sequence_id",
    "status",
    "outcome",
    "error",
    "decode_error",
    "requested_outputs.list.item",
];

/// Beside the tensors, what a run keeps of a request.
const REQUEST: [&str; 16] = [
    "recorder",
    "seq",
    "part",
    "last",
    "arrived_at",
    "end_ns",
    "protocol",
    "model",
    "model_version",
    "client_request_id",
    "sequence_id",
    "outcome",
    "request_headers.list.item.name",
    "request_headers.list.item.value",
    "input_digest",
    "sample_rate",
];

static LEAVES: LazyLock<usize> = LazyLock::new(|| leaf_paths().len());

/// Bytes and rows that are decoded at a time: the data of a batch stays within the caches.
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_ROWS: u64 = 4096;

/// The rows of neighbouring row groups as they are read, batch by batch, in the order they were written.
/// Nothing follows an error.
pub struct Batches {
    batches: ParquetRecordBatchReader,
    origin: Arc<Origin>,
    /// Rows that must still come.
    left: usize,
    ended: bool,
}

/// Where a batch comes from.
struct Origin {
    path: PathBuf,
    groups: Range<usize>,
    projection: Projection,
}

/// Some rows, not yet decoded into exchanges: whoever uses those makes them, a few at a time.
pub struct Batch {
    rows: RecordBatch,
    origin: Arc<Origin>,
}

impl Batch {
    /// Rows that are worth decoding at a time: their exchanges stay within the caches, and go back to the
    /// allocator before more of it is taken.
    pub const FEW: usize = 256;

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows.num_rows()
    }

    /// The exchanges of these rows.
    ///
    /// # Errors
    /// [`CaptureError::Damaged`] where they are none.
    pub fn exchanges(&self, rows: Range<usize>) -> Result<Vec<Exchange>, CaptureError> {
        let some = self.rows.slice(rows.start, rows.len());
        let decoded = decode::decode(&some, self.origin.projection);
        decoded.map_err(|e| self.origin.damaged(e))
    }
}

impl Origin {
    fn damaged(&self, why: String) -> CaptureError {
        damaged(&self.path, &self.groups, why)
    }
}

impl Batches {
    pub(super) fn open(
        segment: &Segment,
        groups: Range<usize>,
        projection: Projection,
    ) -> Result<Self, CaptureError> {
        let metadata = segment.metadata()?;
        let mask = mask(projection, metadata.file_metadata().schema_descr());
        let opened = unless_it_panics(|| batches(segment, &metadata, &groups, mask));
        let (left, batches) = opened.map_err(|e| damaged(&segment.path, &groups, e))?;
        Ok(Self {
            batches,
            origin: Arc::new(Origin {
                path: segment.path.clone(),
                groups,
                projection,
            }),
            left,
            ended: false,
        })
    }

    fn step(&mut self) -> Result<Option<RecordBatch>, String> {
        let batch = unless_it_panics(|| self.batches.next().transpose())?;
        let Some(batch) = batch else {
            return match self.left {
                0 => Ok(None),
                left => Err(format!("it ends {left} rows early")),
            };
        };
        self.left = self
            .left
            .checked_sub(batch.num_rows())
            .ok_or("it holds more rows than were written")?;
        Ok(Some(batch))
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step();
        self.ended = !matches!(step, Ok(Some(_)));
        let batch = |rows| Batch {
            rows,
            origin: Arc::clone(&self.origin),
        };
        match step {
            Ok(rows) => rows.map(|rows| Ok(batch(rows))),
            Err(e) => Some(Err(self.origin.damaged(e))),
        }
    }
}

/// The exchanges of neighbouring row groups, a few at a time, in the order they were written. Nothing
/// follows an error.
pub struct Rows {
    batches: Batches,
    /// What is left to decode of a batch.
    batch: Option<(Batch, Range<usize>)>,
    ended: bool,
}

impl Rows {
    pub(super) fn of(batches: Batches) -> Self {
        Self {
            batches,
            batch: None,
            ended: false,
        }
    }

    fn step(&mut self) -> Option<Result<Vec<Exchange>, CaptureError>> {
        loop {
            if let Some((batch, left)) = &mut self.batch
                && left.start < left.end
            {
                let end = left.end.min(left.start + Batch::FEW);
                return Some(batch.exchanges(std::mem::replace(&mut left.start, end)..end));
            }
            match self.batches.next()? {
                Ok(batch) => {
                    let rows = 0..batch.rows();
                    self.batch = Some((batch, rows));
                }
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Vec<Exchange>, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let rows = self.step();
        self.ended = matches!(rows, Some(Err(_)));
        rows
    }
}

/// The columns of a row group of which some page does not decode.
///
/// # Errors
/// Those of [`Segment::metadata`].
pub(super) fn damaged_columns(
    segment: &Segment,
    row_group: usize,
) -> Result<Vec<String>, CaptureError> {
    let metadata = segment.metadata()?;
    let schema = metadata.file_metadata().schema_descr();
    let decodes = |leaf: usize| {
        let mask = ProjectionMask::leaves(schema, [leaf]);
        let read = || {
            let (rows, batches) = batches(segment, &metadata, &(row_group..row_group + 1), mask)?;
            let mut read = 0;
            for batch in batches {
                read += batch?.num_rows();
            }
            Ok::<_, ParquetError>(read == rows)
        };
        unless_it_panics(read).unwrap_or(false)
    };
    let leaves = schema.columns().iter().enumerate();
    let damaged = leaves.filter(|(leaf, _)| !decodes(*leaf));
    Ok(damaged.map(|(_, column)| column.path().string()).collect())
}

/// The column that a piece of a row group belongs to, in words.
pub(super) fn column_at(segment: &Segment, row_group: usize, piece: &Range<u64>) -> String {
    let metadata = segment.metadata().ok();
    let group = metadata
        .as_ref()
        .and_then(|m| m.row_groups().get(row_group));
    let columns = group.map(RowGroupMetaData::columns).unwrap_or_default();
    let within = |range: (u64, u64)| range.0 < piece.end && piece.start < range.0 + range.1;
    let mut hit = columns.iter().filter(|c| within(c.byte_range()));
    match (hit.next(), hit.next()) {
        (Some(column), None) => format!("a page of {}", column.column_path().string()),
        _ => "some page".to_owned(),
    }
}

fn damaged(path: &std::path::Path, groups: &Range<usize>, why: String) -> CaptureError {
    let which = match groups.len() {
        1 => format!("row group {}", groups.start),
        _ => format!("row groups {} to {}", groups.start, groups.end - 1),
    };
    CaptureError::damaged(path, format!("{which}: {why}"))
}

/// The Parquet reader panics on some damaged pages (an index into a dictionary that is not there);
/// whoever reads a damaged capture must outlive that. What panicked is not used again.
pub(super) fn unless_it_panics<T, E: std::fmt::Display>(
    read: impl FnOnce() -> Result<T, E>,
) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read))
        .map_err(|_| "a page cannot be decoded".to_owned())?
        .map_err(|e| e.to_string())
}

/// The number of rows of row groups, and their batches.
fn batches(
    segment: &Segment,
    metadata: &Arc<ParquetMetaData>,
    groups: &Range<usize>,
    mask: ProjectionMask,
) -> Result<(usize, ParquetRecordBatchReader), ParquetError> {
    let read = metadata
        .row_groups()
        .get(groups.clone())
        .filter(|groups| !groups.is_empty())
        .ok_or_else(|| ParquetError::General("there is no such row group".to_owned()))?;
    let rows: i64 = read.iter().map(RowGroupMetaData::num_rows).sum();
    let rows = usize::try_from(rows)?;
    let columns = || {
        let columns = read
            .iter()
            .flat_map(|group| group.columns().iter().enumerate());
        columns.filter(|(leaf, _)| mask.leaf_included(*leaf))
    };
    let mut chunks = Chunks::new(Arc::clone(&segment.file), segment.bytes);
    chunks.hold(columns().map(|(_, column)| column.byte_range()))?;
    let bytes: i64 = columns()
        .map(|(_, column)| column.uncompressed_size())
        .sum();
    let each = bytes.unsigned_abs().checked_div(rows as u64).unwrap_or(0);
    let batch = (BATCH_BYTES / each.max(1)).clamp(1, BATCH_ROWS);
    let options = match metadata.file_metadata().schema_descr().num_columns() {
        n if n == *LEAVES => ArrowReaderOptions::new().with_schema(Arc::clone(&VIEWS)),
        // Of another version: as its own footer says.
        _ => ArrowReaderOptions::new(),
    };
    let metadata = ArrowReaderMetadata::try_new(Arc::clone(metadata), options)?;
    let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, metadata)
        .with_row_groups(groups.clone().collect())
        .with_projection(mask)
        .with_batch_size(usize::try_from(batch).unwrap_or(1))
        .build()?;
    Ok((rows, batches))
}

fn mask(projection: Projection, schema: &SchemaDescriptor) -> ProjectionMask {
    let tensor = |leaf: &str| leaf.starts_with("inputs.") || leaf.starts_with("outputs.");
    let keep = |leaf: &str| match projection {
        Projection::Full => true,
        Projection::Tensors => tensor(leaf) || ANSWER.contains(&leaf),
        Projection::Shapes => !super::PAYLOAD_COLUMNS.contains(&leaf),
        Projection::Requests => {
            tensor(leaf) && !super::PAYLOAD_COLUMNS.contains(&leaf) || REQUEST.contains(&leaf)
        }
        Projection::Keys => !super::PAYLOAD_COLUMNS.contains(&leaf) && !tensor(leaf),
    };
    let leaves = schema
        .columns()
        .iter()
        .enumerate()
        .filter(|(_, column)| keep(&column.path().string()))
        .map(|(i, _)| i);
    ProjectionMask::leaves(schema, leaves)
}
