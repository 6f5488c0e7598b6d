//! The storage seam under capture writer and reader.
//!
//! [`Disk`], a fault layer over any storage ([`Faulty`]), a file system in memory that loses at a
//! power cut what was never synced ([`Simulated`]); an object store later. The seam is as narrow as
//! the capture needs it, so that every operation can be made to fail in a test.

use std::io;
use std::path::Path;

mod chunks;
mod disk;
mod fault;
mod faulty;
mod forget;
mod simulated;

pub(crate) use chunks::{Chunks, batch_rows};
pub use disk::Disk;
pub(crate) use disk::DiskRead;
pub use fault::{Fault, Operation};
pub use faulty::Faulty;
pub(crate) use forget::forget;
pub use simulated::Simulated;

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// File name.
    pub name: String,
    /// Bytes.
    pub len: u64,
    /// A directory.
    pub is_dir: bool,
}

/// A file being written. Dropping it closes it and releases its lock.
pub trait WriteFile: Send {
    /// Appends all of `buf`.
    ///
    /// # Errors
    /// Any I/O error; how much was written is then unknown.
    fn write_all(&mut self, buf: &[u8]) -> io::Result<()>;

    /// Makes everything written durable (`fdatasync`).
    ///
    /// # Errors
    /// Any I/O error. After one, nothing since the last success may be trusted.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to `len` bytes; the next write appends there.
    ///
    /// # Errors
    /// Any I/O error.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// False where no name leads to the file any more: what is written is lost when it is closed.
    ///
    /// # Errors
    /// Any I/O error.
    fn is_linked(&self) -> io::Result<bool>;
}

/// A file opened for ranged reads.
pub trait ReadFile: Send + Sync {
    /// Bytes when opened.
    fn len(&self) -> u64;

    /// True when the file is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// Any I/O error; `UnexpectedEof` where the file ends before `buf` is full.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

/// Where captures live. Paths are whole paths, not names.
pub trait Storage: Send + Sync {
    /// Creates the directory and its parents (mode 0700); fine when it is there.
    ///
    /// # Errors
    /// Any I/O error.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Creates a file that must not exist (mode 0600) and locks it for this handle.
    ///
    /// # Errors
    /// `AlreadyExists`, and any I/O error.
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;

    /// Opens an existing file for cutting and appending, if nobody holds its lock.
    ///
    /// `Ok(None)`: another process is writing it.
    ///
    /// # Errors
    /// Any I/O error.
    fn open_locked(&self, path: &Path) -> io::Result<Option<Box<dyn WriteFile>>>;

    /// Opens a file for ranged reads.
    ///
    /// # Errors
    /// Any I/O error.
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>>;

    /// Renames within a directory, replacing `to`.
    ///
    /// # Errors
    /// Any I/O error.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Any I/O error.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes renames and removals in a directory durable.
    ///
    /// # Errors
    /// Any I/O error.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The entries of a directory, sorted by name.
    ///
    /// # Errors
    /// Any I/O error.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// Bytes that can still be written to the file system of a directory.
    ///
    /// # Errors
    /// Any I/O error.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}
