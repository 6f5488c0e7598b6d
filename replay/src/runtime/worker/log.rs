//! What a process prints, kept in memory: complete while a stage opens, the end of it afterwards.
//!
//! A file and not a pipe: it needs no thread that reads, a full one blocks nobody, and whatever was
//! printed before an answer was written is in it when the answer is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};

/// What is read of it at most.
const MOST: u64 = 16 << 20;
/// Beyond this it is forgotten between two requests.
const LONG: u64 = 1 << 20;

/// The log of one process.
#[derive(Debug)]
pub(super) struct Log(File);

impl Log {
    /// An empty one.
    ///
    /// # Errors
    /// The system has no memory or descriptors left.
    pub fn new() -> io::Result<Self> {
        let file = memfd_create("inferdiff-worker-log", MemfdFlags::CLOEXEC)?;
        // Writers go on at the end after it was emptied.
        fcntl_setfl(&file, OFlags::APPEND)?;
        Ok(Self(File::from(file)))
    }

    /// A descriptor for a process to print to.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn writer(&self) -> io::Result<Stdio> {
        Ok(Stdio::from(self.0.try_clone()?))
    }

    /// Its text so far, at most the first 16 MiB.
    pub fn text(&self) -> String {
        let length = self.0.metadata().map_or(0, |m| m.len()).min(MOST);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        match self.0.read_exact_at(&mut bytes, 0) {
            Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => String::new(),
        }
    }

    /// Empties it.
    pub fn clear(&self) {
        // Memory that cannot be given back is no reason to lose an answer.
        let _ = self.0.set_len(0);
    }

    /// Empties it where it has become long.
    pub fn trim(&self) {
        if self.0.metadata().is_ok_and(|m| m.len() > LONG) {
            self.clear();
        }
    }
}
