//! Names of the files of a run.

use std::path::{Path, PathBuf};

/// Where everything of one run lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLayout {
    root: PathBuf,
}

impl RunLayout {
    /// The layout below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The run's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `run.json`.
    pub fn manifest(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// `requests.parquet`.
    pub fn requests(&self) -> PathBuf {
        self.root.join("requests.parquet")
    }

    /// `verdicts.json`.
    pub fn verdicts(&self) -> PathBuf {
        self.root.join("verdicts.json")
    }

    /// `stages/<name>`.
    pub fn stage(&self, stage: &str) -> PathBuf {
        self.root.join("stages").join(stage)
    }

    /// The stage's k-th process after the first, as a stage of its own below it: `<name>/again-<k>`.
    pub fn again(stage: &str, k: u32) -> String {
        format!("{stage}/again-{k}")
    }

    /// The process that probes the stage, as a stage of its own below it: `<name>/probes`.
    pub fn probing(stage: &str) -> String {
        format!("{stage}/probes")
    }

    /// `stages/<name>/probes.json`.
    pub fn probes(&self, stage: &str) -> PathBuf {
        self.stage(stage).join("probes.json")
    }

    /// `stages/<name>/status.json`.
    pub fn status(&self, stage: &str) -> PathBuf {
        self.stage(stage).join("status.json")
    }

    /// `stages/<name>/evidence.json`.
    pub fn evidence(&self, stage: &str) -> PathBuf {
        self.stage(stage).join("evidence.json")
    }

    /// `stages/<name>/comparisons/<chunk>.parquet`.
    pub fn comparisons(&self, stage: &str, chunk: &str) -> PathBuf {
        self.stage(stage)
            .join("comparisons")
            .join(format!("{chunk}.parquet"))
    }

    /// `stages/<name>/outputs/<chunk>.parquet`.
    pub fn outputs(&self, stage: &str, chunk: &str) -> PathBuf {
        self.stage(stage)
            .join("outputs")
            .join(format!("{chunk}.parquet"))
    }

    /// `stages/<name>/faults.json`: exchanges that killed or hung the stage's process, by id.
    pub fn faults(&self, stage: &str) -> PathBuf {
        self.stage(stage).join("faults.json")
    }

    /// `stages/<name>/alone/`: answers of exchanges that were suspected and replayed alone; gone
    /// when the stage is complete.
    pub fn alone(&self, stage: &str) -> PathBuf {
        self.stage(stage).join("alone")
    }

    /// `.lock`: held by the process that works on the run.
    pub fn lock(&self) -> PathBuf {
        self.root.join(".lock")
    }
}
