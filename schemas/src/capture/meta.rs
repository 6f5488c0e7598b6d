//! `_capture.json` and `_recorders/<ulid>.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{CaptureError, Ledger};
use crate::storage::Storage;

/// `_capture.json`: written once by the first recorder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptureMeta {
    /// Capture format version.
    pub format: u32,
    /// RFC 3339, UTC.
    pub created: String,
    /// Version of inferdiff that wrote it.
    #[serde(default)]
    pub version: Option<String>,
    /// The upstream as given to the first recorder.
    #[serde(default)]
    pub upstream: Option<String>,
    /// What the upstream's own metadata routes answered, by route.
    #[serde(default)]
    pub upstream_metadata: BTreeMap<String, serde_json::Value>,
    /// What is kept and what is not.
    #[serde(default)]
    pub keep: BTreeMap<String, Vec<String>>,
    /// Probability of sampling.
    #[serde(default = "one")]
    pub sample_rate: f64,
}

fn one() -> f64 {
    1.0
}

/// `_recorders/<ulid>.json`: one recorder process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecorderMeta {
    /// The process.
    pub recorder: String,
    /// Version of inferdiff.
    pub version: String,
    /// Host name.
    pub host: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC; `None` while running and after a crash.
    #[serde(default)]
    pub stopped: Option<String>,
    /// The process ended without saying so; its ledger is as of its last checkpoint.
    #[serde(default)]
    pub crashed: bool,
    /// The books at stop (or at the last checkpoint, where crashed).
    pub ledger: Ledger,
    /// Upstream.
    #[serde(default)]
    pub upstream: Option<String>,
    /// `--note k=v`.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
    /// `--model-file`: path, digest and size.
    #[serde(default)]
    pub model_file: Option<crate::run::evidence::ModelIdentity>,
}

impl CaptureMeta {
    /// A capture in the format of this build, everything recorded, nothing else known.
    pub fn new(created: impl Into<String>) -> Self {
        Self {
            format: super::FORMAT_VERSION,
            created: created.into(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            upstream: None,
            upstream_metadata: BTreeMap::new(),
            keep: BTreeMap::new(),
            sample_rate: 1.0,
        }
    }
}

impl RecorderMeta {
    /// A recorder process of this build that has just started, with empty books.
    pub fn new(recorder: ulid::Ulid, started: impl Into<String>) -> Self {
        Self {
            recorder: recorder.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: String::new(),
            started: started.into(),
            stopped: None,
            crashed: false,
            ledger: Ledger::default(),
            upstream: None,
            notes: BTreeMap::new(),
            model_file: None,
        }
    }
}

/// How the names of files end that are about to replace a JSON file.
pub(super) const TEMPORARY: &str = ".tmp";

/// Reads a JSON file of the capture.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(
    storage: &dyn Storage,
    path: &Path,
) -> Result<T, CaptureError> {
    let file = storage.open(path).map_err(CaptureError::io("open", path))?;
    let length = usize::try_from(file.len()).map_err(|e| CaptureError::damaged(path, e))?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)
        .map_err(CaptureError::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|e| CaptureError::damaged(path, e))
}

/// Replaces a JSON file of the capture: write, sync, rename, sync the directory.
pub(super) fn write_json<T: Serialize>(
    storage: &dyn Storage,
    path: &Path,
    value: &T,
) -> Result<(), CaptureError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| CaptureError::damaged(path, e))?;
    bytes.push(b'\n');
    let folder = path.parent().unwrap_or(Path::new("."));
    // Unique, because two recorders may write `_capture.json` at the same time.
    let temporary = folder.join(format!("_{}{TEMPORARY}", ulid::Ulid::generate()));
    let mut file = storage
        .create(&temporary)
        .map_err(CaptureError::io("create", &temporary))?;
    file.write_all(&bytes)
        .map_err(CaptureError::io("write", &temporary))?;
    file.sync().map_err(CaptureError::io("sync", &temporary))?;
    // Locked until it has its name: recovery removes temporary files that nobody holds.
    storage
        .rename(&temporary, path)
        .map_err(CaptureError::io("rename", path))?;
    drop(file);
    storage
        .sync_dir(folder)
        .map_err(CaptureError::io("sync", folder))
}
