//! `run.json` and `stages/<name>/status.json`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ladder::Ladder;
use super::probes::Asking;

/// Version of the run format written by this build.
pub const RUN_FORMAT: u32 = 1;

/// `run.json`: what is replayed, under what, where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Run format version.
    pub format: u32,
    /// Version of inferdiff.
    pub version: String,
    /// RFC 3339, UTC.
    pub created: String,
    /// The capture, absolute.
    pub capture: PathBuf,
    /// The file that holds the key of an encrypted capture, absolute.
    #[serde(default)]
    pub encryption_key: Option<PathBuf>,
    /// XXH3-128 over the ids, rows and bytes of the segments read, hex.
    pub capture_digest: String,
    /// XXH3-128 of each model file of the ladder, hex, by path.
    pub models: BTreeMap<PathBuf, String>,
    /// The resolved ladder, production as its last stage where there is one.
    pub ladder: Ladder,
    /// What of the capture is replayed, in order.
    pub chunks: Vec<Chunk>,
    /// Exchanges that are replayed.
    pub requests: u64,
    /// Inputs as the replayed exchanges carry them.
    pub inputs: Vec<InputSeen>,
    /// Exchanges that are not, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// Conditions that a replayed exchange meets, as given (`model=NAME` and the like).
    #[serde(default)]
    pub filter: Vec<String>,
    /// At most this many exchanges, as given.
    #[serde(default)]
    pub limit: Option<u64>,
    /// This share of the exchanges, in (0, 1], chosen by `seed`, as given.
    #[serde(default)]
    pub sample: Option<f64>,
    /// Seed of `sample`.
    #[serde(default)]
    pub seed: u64,
    /// What a stage's process may take.
    #[serde(default)]
    pub limits: Limits,
    /// What is asked beside the replay itself.
    #[serde(default = "Asking::nothing")]
    pub asking: Asking,
    /// Exchanges in a chunk at most, unless one row group holds more, as asked.
    #[serde(default)]
    pub commit_every: u64,
    /// Which outputs are kept: `differing`, `all` or `none`.
    pub keep_outputs: String,
    /// OS, CPU and the like of the machine that ran it.
    pub environment: BTreeMap<String, String>,
}

/// An input of the captured requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InputSeen {
    /// Name.
    pub name: String,
    /// Datatype by protocol name.
    pub datatype: String,
    /// Number of dimensions.
    pub rank: usize,
}

/// One unit of work, committed whole: neighbouring row groups of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Name of its files: `<segment>-<first row group>`.
    pub name: String,
    /// Segment, as a ULID.
    pub segment: String,
    /// Its first row group.
    pub row_group: usize,
    /// How many row groups it spans. Default: 1.
    #[serde(default = "one")]
    pub row_groups: usize,
    /// Rows that are replayed, counted from the first row of the first row group: ranges `[from, to)`,
    /// in order.
    pub rows: Vec<[u64; 2]>,
}

impl Chunk {
    /// Exchanges in it that are replayed.
    pub fn exchanges(&self) -> u64 {
        self.rows.iter().map(|[from, to]| to - from).sum()
    }

    /// Adds rows `[from, to)`, which must lie after those that are there.
    pub fn push(&mut self, [from, to]: [u64; 2]) {
        match self.rows.last_mut() {
            Some([_, end]) if *end == from => *end = to,
            _ => self.rows.push([from, to]),
        }
    }

    /// The row is replayed.
    pub fn contains(&self, row: u64) -> bool {
        self.touches([row, row + 1])
    }

    /// Some row of `[from, to)` is replayed.
    pub fn touches(&self, [from, to]: [u64; 2]) -> bool {
        let before = self.rows.partition_point(|[start, _]| *start < to);
        before > 0 && from < to.min(self.rows[before - 1][1])
    }
}

fn one() -> usize {
    1
}

/// What a stage's process may take. They shape no answer: a resumed run may change them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Seconds that one exchange may take; longer is a hang.
    pub exchange_seconds: f64,
    /// Bytes of address space; `None` = what the machine gives.
    pub memory_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            exchange_seconds: 300.0,
            memory_bytes: None,
        }
    }
}

/// How a stage's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Every chunk was compared.
    Completed,
    /// The stage is wrong or its process died for good.
    Failed,
    /// The runtime, library, provider or device is not there.
    Unavailable,
}

/// `stages/<name>/status.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageStatus {
    /// How it ended.
    pub state: StageState,
    /// In whose words, where it did not complete.
    #[serde(default)]
    pub reason: Option<String>,
    /// Axis 0 of inputs and outputs is a batch axis (as the reference says).
    #[serde(default)]
    pub batch_axis: bool,
    /// Wall-clock seconds of opening the stage.
    #[serde(default)]
    pub open_seconds: f64,
    /// Wall-clock seconds of replaying and comparing.
    #[serde(default)]
    pub replay_seconds: f64,
    /// How processes of the stage died on the way, in order.
    #[serde(default)]
    pub deaths: Vec<String>,
}

impl StageStatus {
    /// The status of a stage that did not complete.
    pub fn without(state: StageState, reason: String) -> Self {
        Self {
            state,
            reason: Some(reason),
            batch_axis: false,
            open_seconds: 0.0,
            replay_seconds: 0.0,
            deaths: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_knows_its_rows_as_ranges() {
        let mut chunk = Chunk {
            name: String::new(),
            segment: String::new(),
            row_group: 0,
            row_groups: 1,
            rows: Vec::new(),
        };
        let taken = [0, 1, 2, 5, 7, 8];
        taken.iter().for_each(|&row| chunk.push([row, row + 1]));
        assert_eq!(chunk.rows, [[0, 3], [5, 6], [7, 9]]);
        assert_eq!(chunk.exchanges(), 6);
        for row in 0..12 {
            assert_eq!(chunk.contains(row), taken.contains(&row), "{row}");
            for to in row..12 {
                let any = taken.iter().any(|n| (row..to).contains(n));
                assert_eq!(chunk.touches([row, to]), any, "{row} to {to}");
            }
        }
    }
}
