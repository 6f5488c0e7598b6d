//! Large inputs go through memory that both processes see: a pipe copies every byte twice and takes a
//! new page for every 4 KiB.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};

/// Less than this is quicker through the pipe.
const LARGE: usize = 1 << 16;

/// One buffer, written here and mapped by the worker. It grows to the largest request and lives as long
/// as the process.
#[derive(Debug)]
pub(super) struct Shared(File);

impl Shared {
    /// An empty one; a process that is started now inherits it.
    ///
    /// # Errors
    /// The system has no memory or descriptors left.
    pub fn new() -> io::Result<Self> {
        memfd_create("inferdiff-worker-inputs", MemfdFlags::empty())
            .map(|fd| Self(File::from(fd)))
            .map_err(Into::into)
    }

    /// Its number, here and in the worker.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Puts the bodies one behind the other, where they are large; false: they must go through the pipe.
    /// The worker reads them while it answers, so the next request may overwrite them.
    pub fn put(&self, bodies: &[&[u8]]) -> bool {
        if bodies.iter().map(|b| b.len()).sum::<usize>() < LARGE {
            return false;
        }
        let mut at = 0;
        bodies.iter().all(|body| {
            let from = at;
            at += body.len() as u64;
            // No memory left for it: the pipe needs none.
            self.0.write_all_at(body, from).is_ok()
        })
    }
}
