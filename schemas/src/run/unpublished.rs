//! Files that are whole or not there: written beside, synced, renamed.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::RunFileError;
use crate::storage::forget;

/// The name of a file that is not there yet: it is written beside, and removed if it is never published.
pub(super) struct Unpublished {
    path: PathBuf,
    /// `None` once it is published.
    temporary: Option<PathBuf>,
}

impl Unpublished {
    /// A new file beside the one that it will become.
    pub fn begin(path: &Path) -> Result<(File, Self), RunFileError> {
        let io = |e: std::io::Error| RunFileError::io("write", path, &e);
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(io)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = folder.join(format!(".{name}.{}", std::process::id()));
        let file = File::create(&temporary).map_err(io)?;
        let unpublished = Self {
            path: path.to_owned(),
            temporary: Some(temporary),
        };
        Ok((file, unpublished))
    }

    /// An error of this file.
    pub fn error(&self, why: impl ToString) -> RunFileError {
        RunFileError::new("write", &self.path, why)
    }

    /// An error of the disk at this file.
    pub fn failed(&self, e: &std::io::Error) -> RunFileError {
        RunFileError::io("write", &self.path, e)
    }

    /// Makes the file durable and gives it its name.
    pub fn publish(mut self, file: &File) -> Result<(), RunFileError> {
        let temporary = self.temporary.as_ref().expect("it is published only here");
        let folder = self.path.parent().unwrap_or(Path::new("."));
        file.sync_data().map_err(|e| self.failed(&e))?;
        let len = file.metadata().map_err(|e| self.failed(&e))?.len();
        forget(file, len);
        std::fs::rename(temporary, &self.path).map_err(|e| self.failed(&e))?;
        let synced = File::open(folder).and_then(|d| d.sync_all());
        synced.map_err(|e| self.failed(&e))?;
        self.temporary = None;
        Ok(())
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // The error that matters was told already.
            let _ = std::fs::remove_file(temporary);
        }
    }
}
