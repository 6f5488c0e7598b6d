//! The local file system.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::{Entry, ReadFile, Storage, WriteFile, forget};

/// The local file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

struct DiskWrite(File);

/// An open file that nobody changes below `len`.
pub(crate) struct DiskRead {
    file: File,
    len: u64,
    /// The kernel [forgets](forget) it when it is closed.
    once: bool,
}

impl DiskRead {
    /// As long as it is now.
    ///
    /// # Errors
    /// Its length cannot be asked for.
    pub fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self {
            file,
            len,
            once: false,
        })
    }

    /// The same, to be read from beginning to end and not again soon.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn once(file: File) -> io::Result<Self> {
        let mut file = Self::new(file)?;
        file.once = true;
        Ok(file)
    }
}

impl Drop for DiskRead {
    fn drop(&mut self) {
        if self.once {
            forget(&self.file, self.len);
        }
    }
}

impl WriteFile for DiskWrite {
    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        self.0.write_all(buf)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        // The handle is in append mode, so there is no position to move back.
        self.0.set_len(len)
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(self.0.metadata()?.nlink() > 0)
    }
}

impl ReadFile for DiskRead {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
}

/// `flock` on the handle; held until it is dropped, also by a kill.
fn lock(file: File) -> io::Result<Option<Box<dyn WriteFile>>> {
    match file.try_lock() {
        Ok(()) => Ok(Some(Box::new(DiskWrite(file)))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

impl Storage for Disk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let unlinked = file.try_clone()?;
        let locked = lock(file)?;
        // Between create and lock a recovering neighbour may have taken the empty file for an
        // abandoned one and removed it: writing on would write into nothing.
        match locked {
            Some(file) if unlinked.metadata()?.nlink() > 0 => Ok(file),
            _ => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "another process took the new file for an abandoned one; choose a new name",
            )),
        }
    }

    fn open_locked(&self, path: &Path) -> io::Result<Option<Box<dyn WriteFile>>> {
        lock(OpenOptions::new().append(true).open(path)?)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        Ok(Box::new(DiskRead::new(File::open(path)?)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                // Removed by its owner since the directory was read.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            entries.push(Entry {
                name: entry.file_name().to_string_lossy().into_owned(),
                len: meta.len(),
                is_dir: meta.is_dir(),
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
