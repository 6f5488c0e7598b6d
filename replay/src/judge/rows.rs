//! The comparisons of a stage, read chunk by chunk each time they are needed: what stays in memory
//! of an item is what a metric keeps of it.

use inferdiff_schemas::run::comparison::{Comparison, Outcome};
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::{Chunk, Manifest};
use inferdiff_schemas::run::{ComparisonColumns, ComparisonReader, RunFileError};

use super::JudgeError;
use crate::labels::Joined;
use crate::requests::Requests;

/// What judging reads.
pub(super) struct Source<'a> {
    pub layout: &'a RunLayout,
    pub manifest: &'a Manifest,
    pub requests: &'a Requests,
    pub labels: Option<&'a Joined>,
    pub batch_axis: bool,
}

/// One judged item of one output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// Place in the run's requests.
    pub request: u32,
    pub item: u32,
    pub reference: Option<u32>,
    pub stage: Option<u32>,
    /// The two answers could be compared.
    pub compared: bool,
    pub tie: bool,
    /// Every bit is equal.
    pub bits_equal: bool,
    /// Beyond the tolerance, or not compared.
    pub beyond: bool,
    /// Largest difference.
    pub max_abs: Option<f64>,
    /// Largest minus second largest of the reference.
    pub lead: Option<f64>,
    /// Below 2 for scalars and BYTES: there is no largest element to speak of.
    pub classes: u64,
}

impl Item {
    /// `None` where there is nothing to hold against the stage: nobody answered or nobody asked, or
    /// the reference itself failed.
    fn judged(request: u32, row: &Comparison) -> Option<Self> {
        let compared = row.outcome == Outcome::Compared;
        (!is_nobodys(row) && row.outcome != Outcome::ReferenceFailed).then(|| Self {
            request,
            item: row.item,
            reference: row.reference_top1,
            stage: row.stage_top1,
            compared,
            tie: row.reference_tie || row.stage_tie,
            bits_equal: row.bits_equal,
            beyond: row.violations > 0 || !compared,
            max_abs: row.max_abs,
            lead: row.reference_margin,
            classes: row.shape.iter().map(|d| d.unsigned_abs()).product(),
        })
    }
}

/// Nobody answered, or nobody asked.
pub(super) fn is_nobodys(row: &Comparison) -> bool {
    matches!(row.outcome, Outcome::BothFailed | Outcome::PartialOutput)
}

/// A row of comparisons with its request, and the item of it that is judged, if any.
pub(super) struct Row<'r> {
    pub request: u32,
    pub row: &'r Comparison,
    pub judged: Option<Item>,
}

impl Source<'_> {
    /// The rows of a stage's folder, in the order of the capture. Chunks that are not there have none.
    pub fn rows(
        &self,
        folder: &str,
        see: &mut dyn FnMut(Row<'_>) -> Result<(), JudgeError>,
    ) -> Result<(), JudgeError> {
        let mut near = 0;
        self.manifest
            .chunks
            .iter()
            .try_for_each(|chunk| self.rows_of(folder, chunk, &mut near, see))
    }

    /// The rows of one chunk; `near`: the request of the row before.
    pub fn rows_of(
        &self,
        folder: &str,
        chunk: &Chunk,
        near: &mut u32,
        see: &mut dyn FnMut(Row<'_>) -> Result<(), JudgeError>,
    ) -> Result<(), JudgeError> {
        let path = self.layout.comparisons(folder, &chunk.name);
        let mut rows = optional(ComparisonReader::open(&path, ComparisonColumns::Judged))?;
        while let Some(few) = rows.as_mut().and_then(ComparisonReader::few) {
            for row in &few? {
                let key = (row.recorder, row.seq);
                let Some(request) = self.requests.find_near(&key, *near) else {
                    continue;
                };
                *near = request;
                let judged = Item::judged(request, row);
                see(Row {
                    request,
                    row,
                    judged,
                })?;
            }
        }
        Ok(())
    }

    /// The judged items of a stage's folder, with their outputs.
    pub fn items(&self, folder: &str, see: &mut dyn FnMut(&str, Item)) -> Result<(), JudgeError> {
        self.rows(folder, &mut |r| {
            if let Some(item) = r.judged {
                see(&r.row.output, item);
            }
            Ok(())
        })
    }
}

pub(super) fn optional<T>(read: Result<T, RunFileError>) -> Result<Option<T>, JudgeError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.missing => Ok(None),
        Err(e) => Err(e.into()),
    }
}
