//! `run.json` and `stages/<name>/status.json`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ladder::Ladder;

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
    /// `model=NAME` and the like, as given.
    #[serde(default)]
    pub filter: BTreeMap<String, String>,
    /// At most this many exchanges, as given.
    #[serde(default)]
    pub limit: Option<u64>,
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

/// One unit of work: a row group of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Name of its files: `<segment>-<row group>`.
    pub name: String,
    /// Segment, as a ULID.
    pub segment: String,
    /// Row group of the segment.
    pub row_group: usize,
    /// Numbers of the exchanges in it that are replayed, in order.
    pub seqs: Vec<u64>,
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
}
