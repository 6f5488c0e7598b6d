//! A capture of one segment, in memory, for reading only.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ulid::Ulid;

use crate::capture::Layout;
use crate::storage::{Entry, ReadFile, Storage, WriteFile};

pub(super) struct Memory {
    meta: Vec<u8>,
    segment: Bytes,
    segment_path: PathBuf,
}

pub(super) struct File(Bytes);

impl Memory {
    pub fn new(layout: &Layout, meta: Vec<u8>, segment: Bytes) -> Self {
        Self {
            meta,
            segment,
            segment_path: layout.sealed(Ulid::nil()),
        }
    }

    pub fn segment(&self) -> File {
        File(self.segment.clone())
    }
}

impl ReadFile for File {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let source = from
            .checked_add(buf.len())
            .and_then(|to| self.0.get(from..to))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(source);
        Ok(())
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Storage for Memory {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn create(&self, _: &Path) -> io::Result<Box<dyn WriteFile>> {
        read_only()
    }

    fn open_locked(&self, _: &Path) -> io::Result<Option<Box<dyn WriteFile>>> {
        read_only()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        if path == self.segment_path {
            return Ok(Box::new(self.segment()));
        }
        if path.file_name().is_some_and(|n| n == "_capture.json") {
            return Ok(Box::new(File(self.meta.clone().into())));
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        if Some(path) != self.segment_path.parent() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let entry = |name: String, len| Entry {
            name,
            len,
            is_dir: false,
        };
        let name = self.segment_path.file_name().unwrap_or_default();
        Ok(vec![
            entry(
                name.to_string_lossy().into_owned(),
                self.segment.len() as u64,
            ),
            entry("_capture.json".to_owned(), self.meta.len() as u64),
        ])
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(0)
    }
}
