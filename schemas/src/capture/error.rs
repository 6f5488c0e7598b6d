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
         {supported}; upgrade inferdiff"
    )]
    TooNew {
        /// Where.
        path: PathBuf,
        /// Version found.
        found: u32,
        /// Newest version that this build reads.
        supported: u32,
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

    /// A damaged file.
    pub fn damaged(path: impl Into<PathBuf>, why: impl ToString) -> Self {
        Self::Damaged {
            path: path.into(),
            why: why.to_string(),
        }
    }
}
