//! Where the bytes of a run's file go: blocks of it, each written by one call.
//!
//! The kernel keeps a file in its cache in pieces as large as a single call fills at a place that is a
//! multiple of their size, and its work is by the piece: a block costs it half of what the same bytes cost
//! value by value, copying them here included.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use crate::columns::Output;

/// Bytes of a block: what is copied to it is still in the second-level cache when the kernel reads it.
const BLOCK: usize = 256 << 10;

/// A file that only grows, but for room that was left in it.
pub(super) struct Sink {
    file: File,
    /// What was not written yet, less than a block; it goes behind `written`.
    block: Vec<u8>,
    /// Bytes written, whole blocks.
    written: u64,
}

impl Sink {
    /// Of an empty file. `block`: memory for one; what is in it is dropped.
    pub fn new(file: File, mut block: Vec<u8>) -> Self {
        block.clear();
        block.reserve_exact(BLOCK);
        Self {
            file,
            block,
            written: 0,
        }
    }

    /// Leaves room for what will be known later, and says where.
    pub fn leave(&mut self, room: &[u8]) -> io::Result<u64> {
        let place = self.position();
        self.append(room)?;
        Ok(place)
    }

    /// Writes into room that was left.
    pub fn fill(&mut self, place: u64, bytes: &[u8]) -> io::Result<()> {
        let before = usize::try_from(self.written.saturating_sub(place)).unwrap_or(usize::MAX);
        let (written, waiting) = bytes.split_at(before.min(bytes.len()));
        self.file.write_all_at(written, place)?;
        if !waiting.is_empty() {
            let at = place + written.len() as u64 - self.written;
            let at = usize::try_from(at).expect("it is in the block");
            self.block[at..at + waiting.len()].copy_from_slice(waiting);
        }
        Ok(())
    }

    /// Writes what is left; gives the block's memory back.
    pub fn end(mut self) -> io::Result<(File, Vec<u8>)> {
        self.file.write_all(&self.block)?;
        Ok((self.file, self.block))
    }
}

impl Output for Sink {
    fn position(&self) -> u64 {
        self.written + self.block.len() as u64
    }

    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while self.block.len() + bytes.len() >= BLOCK {
            let more;
            (more, bytes) = bytes.split_at(BLOCK - self.block.len());
            if self.block.is_empty() {
                self.file.write_all(more)?;
            } else {
                self.block.extend_from_slice(more);
                self.file.write_all(&self.block)?;
                self.block.clear();
            }
            self.written += BLOCK as u64;
        }
        self.block.extend_from_slice(bytes);
        Ok(())
    }

    /// Run files have no digests,
    fn end_piece(&mut self) {}

    /// and a replay has nobody to give way to.
    fn pause(&mut self) {}
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Pieces of any length, and room filled at the end, wherever block ends lie.
        #[test]
        fn the_file_is_what_was_appended(
            lengths in vec(prop_oneof![0..300usize, 0..3 * BLOCK], 1..12),
            room in 0..12usize,
        ) {
            let path = tempfile::NamedTempFile::new().unwrap();
            let mut sink = Sink::new(File::create(path.path()).unwrap(), Vec::new());
            let mut expected = Vec::new();
            let mut left = None;
            for (i, &length) in lengths.iter().enumerate() {
                let bytes: Vec<u8> = (0..length).map(|b| u8::try_from((b + i) % 251).unwrap()).collect();
                if i == room {
                    let place = sink.leave(&bytes).unwrap();
                    assert_eq!(place, expected.len() as u64);
                    left = Some((place, length));
                } else {
                    sink.append(&bytes).unwrap();
                }
                expected.extend_from_slice(&bytes);
                prop_assert_eq!(sink.position(), expected.len() as u64);
            }
            if let Some((place, length)) = left {
                sink.fill(place, &vec![255; length]).unwrap();
                let place = usize::try_from(place).unwrap();
                expected[place..place + length].fill(255);
            }
            sink.end().unwrap();
            let mut found = Vec::new();
            File::open(path.path()).unwrap().read_to_end(&mut found).unwrap();
            prop_assert!(found == expected);
        }
    }
}
