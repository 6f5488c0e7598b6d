//! Names of the files of a capture.

use std::path::{Path, PathBuf};

use ulid::Ulid;

/// Version of the capture format written by this build, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Where everything of one capture lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The capture's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `_capture.json`.
    pub fn meta(&self) -> PathBuf {
        self.root.join("_capture.json")
    }

    /// `_recorders/`.
    pub fn recorders(&self) -> PathBuf {
        self.root.join("_recorders")
    }

    /// `_recorders/<ulid>.json`.
    pub fn recorder(&self, recorder: Ulid) -> PathBuf {
        self.recorders().join(format!("{recorder}.json"))
    }

    /// `_recorders/_<ulid>.lock`, held for as long as the recorder lives.
    pub fn recorder_lock(&self, recorder: Ulid) -> PathBuf {
        self.recorders().join(format!("_{recorder}.lock"))
    }

    /// `_recorders/<ulid>.removed.json`.
    pub fn removed(&self, recorder: Ulid) -> PathBuf {
        self.recorders().join(format!("{recorder}.removed.json"))
    }

    /// `_upkeep.lock`, held while sealed segments are changed.
    pub fn upkeep_lock(&self) -> PathBuf {
        self.root.join("_upkeep.lock")
    }

    /// `_<ulid>.journal.json`: a decided change of sealed segments.
    pub fn journal(&self, id: Ulid) -> PathBuf {
        self.root.join(format!("_{id}.journal.json"))
    }

    /// `_<ulid>.parquet.new`: a segment that is to replace others.
    pub fn replacement(&self, segment: Ulid) -> PathBuf {
        self.root.join(format!("_{segment}.parquet.new"))
    }

    /// `<ulid>.parquet`.
    pub fn sealed(&self, segment: Ulid) -> PathBuf {
        self.root.join(format!("{segment}.parquet"))
    }

    /// `_<ulid>.parquet.open`.
    pub fn open(&self, segment: Ulid) -> PathBuf {
        self.root.join(format!("_{segment}.parquet.open"))
    }

    /// The segment that a file name of a sealed segment names.
    pub fn parse_sealed(name: &str) -> Option<Ulid> {
        Ulid::from_string(name.strip_suffix(".parquet")?).ok()
    }

    /// The segment that a file name of a growing segment names.
    pub fn parse_open(name: &str) -> Option<Ulid> {
        Ulid::from_string(name.strip_prefix('_')?.strip_suffix(".parquet.open")?).ok()
    }

    /// The segment that a file name of a replacement names.
    pub fn parse_replacement(name: &str) -> Option<Ulid> {
        Ulid::from_string(name.strip_prefix('_')?.strip_suffix(".parquet.new")?).ok()
    }

    /// The journal that a file name names.
    pub fn parse_journal(name: &str) -> Option<Ulid> {
        Ulid::from_string(name.strip_prefix('_')?.strip_suffix(".journal.json")?).ok()
    }

    /// The recorder whose books a file name in `_recorders/` names.
    pub fn parse_recorder(name: &str) -> Option<Ulid> {
        Ulid::from_string(name.strip_suffix(".json")?).ok()
    }

    /// True for names of a capture's own files and folders, finished or not.
    pub fn is_known(name: &str) -> bool {
        const FIXED: [&str; 3] = ["_capture.json", "_recorders", "_upkeep.lock"];
        let torn = |name: &str| {
            let id = name.strip_prefix('_')?.strip_suffix(".parquet.torn")?;
            Ulid::from_string(id).ok()
        };
        FIXED.contains(&name)
            || name.ends_with(".tmp")
            || Self::parse_sealed(name)
                .or(Self::parse_open(name))
                .or(Self::parse_replacement(name))
                .or(Self::parse_journal(name))
                .or(torn(name))
                .is_some()
    }
}
