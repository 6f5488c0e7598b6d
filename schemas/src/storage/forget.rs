//! Large files that go through the kernel's cache and do not stay there.

use std::fs::File;
use std::num::NonZeroU64;

use rustix::fs::{Advice, fadvise};

/// Shorter files stay: they take little of it.
const SHORT: u64 = 1 << 20;

/// A multiple of every page size that kernels have. What is behind the last one stays: the footer, which
/// is read first.
const WHOLE_PAGES: u64 = 64 << 10;

/// Takes a file of `len` bytes, all on the disk, out of the kernel's cache.
///
/// What is written once and read once, in order, would push out what others read again and again
/// (production's model, beside which this may run). And memory that comes back serves what is written next:
/// fresh memory costs a virtual machine far more than what is copied there, as its host gives each page at
/// a fault, cleared.
pub(crate) fn forget(file: &File, len: u64) {
    let whole = NonZeroU64::new(len - len % WHOLE_PAGES);
    if len >= SHORT {
        // Advice: a file system that does not take it keeps the file.
        let _ = fadvise(file, 0, whole, Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;

    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    use super::*;

    /// What a read says that may not wait for the disk.
    fn at_once(file: &File) -> Result<usize, Errno> {
        let mut first = [0; 512];
        preadv2(
            file,
            &mut [IoSliceMut::new(&mut first)],
            0,
            ReadWriteFlags::NOWAIT,
        )
    }

    #[test]
    fn only_a_long_file_goes_to_the_disk_alone() {
        // Not in the temporary folder, which may have no disk below it.
        let program = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        for (len, after) in [(SHORT - 1, Ok(512)), (SHORT + 1, Err(Errno::AGAIN))] {
            let path = folder.path().join("file");
            let bytes = vec![7; usize::try_from(len).unwrap()];
            std::fs::write(&path, &bytes).unwrap();
            let file = File::open(&path).unwrap();
            file.sync_data().unwrap();
            assert_eq!(at_once(&file), Ok(512));
            forget(&file, len);
            assert_eq!(at_once(&file), after);
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }
}
