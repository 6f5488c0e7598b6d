//! What can go wrong with a capture.

use std::path::PathBuf;

/// What can go wrong with a capture: what, where, why and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// There is no capture at that path.
    #[error(
        "no capture at {path}: {why}. Give the directory that `inferdiff record --capture` wrote"
    )]
    NotACapture {
        /// Where.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The capture was written by a newer build.
    #[error(
        "{path} has capture format {found}, written by a newer inferdiff: this build reads up to \
         {supported}; upgrade to {needed}"
    )]
    TooNew {
        /// Where.
        path: PathBuf,
        /// Version found.
        found: u32,
        /// Newest version that this build reads.
        supported: u32,
        /// The build to upgrade to.
        needed: String,
    },
    /// A segment that a run names is not there any more.
    #[error(
        "segment {segment} is gone from {path}: the run was made from another state of it. Retention, \
         deletion or a merge took it; replay what is there into another --run"
    )]
    Gone {
        /// The capture.
        path: PathBuf,
        /// The segment's id.
        segment: String,
    },
    /// A file is damaged.
    #[error(
        "{path} is damaged: {why}. `inferdiff captures verify` lists what is readable, \
         `inferdiff captures recover` cuts growing segments back to their last checkpoint"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file that holds the key of an encrypted capture cannot be used.
    #[error("cannot use the key in {path}: {why}")]
    Key {
        /// The key's file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A segment is encrypted and no key was given.
    #[error(
        "{path} is encrypted: give the file that holds the capture's key with --encryption-key"
    )]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// A segment is encrypted with another key.
    #[error(
        "{path} is encrypted with key {needed}, and the key given is {given}: give the one that it \
         was recorded with"
    )]
    WrongKey {
        /// Which file.
        path: PathBuf,
        /// The key that it needs, by id.
        needed: String,
        /// The key given, by id.
        given: String,
    },
    /// The storage refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried: `create`, `write`, …
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl CaptureError {
    /// Wraps an I/O error with what was tried and where.
    pub fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// A file of a newer format; `writer`: what wrote it (`inferdiff X.Y.Z` or `X.Y.Z`), where it
    /// says so.
    pub fn too_new(path: impl Into<PathBuf>, found: u32, writer: Option<&str>) -> Self {
        let version = writer.map(|w| w.trim_start_matches("inferdiff ").to_owned());
        Self::TooNew {
            path: path.into(),
            found,
            supported: super::FORMAT_VERSION,
            needed: version.map_or("the build that wrote it".to_owned(), |v| format!(">= {v}")),
        }
    }

    /// The reason under which exchanges that it cost are counted: `disk_full`, `read_only`,
    /// `directory_missing` or `write_error`.
    pub fn drop_reason(&self) -> &'static str {
        use std::io::ErrorKind;
        let Self::Io { source, .. } = self else {
            return "write_error";
        };
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "disk_full",
            ErrorKind::ReadOnlyFilesystem => "read_only",
            ErrorKind::NotFound => "directory_missing",
            _ => "write_error",
        }
    }

    /// True where the right key would help.
    pub fn needs_key(&self) -> bool {
        matches!(self, Self::NoKey { .. } | Self::WrongKey { .. })
    }

    /// True where a file was not there.
    pub fn is_not_found(&self) -> bool {
        self.is_io(std::io::ErrorKind::NotFound)
    }

    /// True where a file was there that must not be.
    pub fn already_exists(&self) -> bool {
        self.is_io(std::io::ErrorKind::AlreadyExists)
    }

    fn is_io(&self, kind: std::io::ErrorKind) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == kind)
    }

    /// A damaged file.
    pub fn damaged(path: impl Into<PathBuf>, why: impl ToString) -> Self {
        Self::Damaged {
            path: path.into(),
            why: why.to_string(),
        }
    }
}
