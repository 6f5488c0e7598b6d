//! The life of a capture after its segments were sealed: recovery, merging, retention, deletion.
//!
//! Sealed segments change only under `_upkeep.lock`, and only through a journal (see
//! [`journal`]) that decides a change before anything of it can be seen. Recording never waits for
//! any of this.

mod delete;
pub(super) mod journal;
mod merge;
pub(super) mod removed;
mod retention;
mod rewrite;

use std::path::Path;
use std::sync::Arc;

pub use delete::Deleted;
pub use merge::{MergeOptions, Merged};
pub use retention::{Retention, Retired};

use super::recovery::{Recovered, recover};
use super::{CaptureError, CaptureKey, Layout};
use crate::storage::{Storage, WriteFile};

/// The right to change sealed segments. Whoever holds it is the only one, in any process.
pub struct Upkeep {
    storage: Arc<dyn Storage>,
    layout: Layout,
    key: Option<CaptureKey>,
    _lock: Box<dyn WriteFile>,
}

/// What a piece of work costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes read and written since the last step.
    pub moved: u64,
    /// Memory that the work holds until the next step.
    pub held: u64,
}

/// Called before each row group is read, and at the end; false stops the work where it can be taken
/// up again later. It may sleep, to leave the disk to recording.
pub type Pace<'a> = &'a mut dyn FnMut(Step) -> bool;

impl Upkeep {
    /// Takes the capture's upkeep lock; `Ok(None)` where another process holds it.
    ///
    /// # Errors
    /// [`CaptureError::NotACapture`], [`CaptureError::TooNew`], and storage errors.
    pub fn lock(storage: Arc<dyn Storage>, dir: &Path) -> Result<Option<Self>, CaptureError> {
        let layout = Layout::new(dir);
        super::reader::read_meta(storage.as_ref(), &layout)?;
        Self::lock_known(storage, layout)
    }

    /// The same, for whoever has just read or written `_capture.json`.
    pub(super) fn lock_known(
        storage: Arc<dyn Storage>,
        layout: Layout,
    ) -> Result<Option<Self>, CaptureError> {
        let path = layout.upkeep_lock();
        let opened = match storage.open_locked(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => match storage.create(&path) {
                // Another process made it at the same time.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                    storage.open_locked(&path)
                }
                created => created.map(Some),
            },
            opened => opened,
        };
        let lock = opened.map_err(CaptureError::io("lock", &path))?;
        Ok(lock.map(|lock| Self {
            storage,
            layout,
            key: None,
            _lock: lock,
        }))
    }

    /// With the key of an encrypted capture.
    #[must_use]
    pub fn with_key(mut self, key: Option<CaptureKey>) -> Self {
        self.key = key;
        self
    }

    /// Finishes changes that were decided and not carried out, cuts growing segments that nobody
    /// holds back to their last checkpoint and seals them, marks recorders that ended without
    /// saying so.
    ///
    /// # Errors
    /// Storage errors.
    pub fn recover(&self) -> Result<Vec<Recovered>, CaptureError> {
        journal::finish(self.storage(), &self.layout)?;
        recover(self.storage(), &self.layout, self.key.as_ref())
    }

    fn storage(&self) -> &dyn Storage {
        self.storage.as_ref()
    }
}
