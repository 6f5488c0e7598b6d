//! Digests of what lies between two footers, piece by piece: what is damaged is named by its piece.

use std::ops::Range;

use crate::storage::ReadFile;
use crate::xxh3::Hash64;

/// Bytes that are read at a time.
const BLOCK: u64 = 1 << 20;

/// A span of the file and its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanDigest {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// XXH3-64, seed 0: of the XXH3-64 of each piece, as u64-LE one after the other; of the bytes
    /// themselves where there are no pieces.
    pub xxh3: u64,
    /// What it consists of, in order: chunks of described columns, pages of payloads.
    pub pieces: Vec<Piece>,
}

/// A piece of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes.
    pub length: u64,
    /// The low half of its XXH3-64, seed 0.
    pub xxh3: u32,
}

/// Makes the digest of a span while it is written.
#[derive(Default)]
pub(super) struct Hasher {
    piece: Hash64,
    length: u64,
    whole: Hash64,
    pieces: Vec<Piece>,
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.piece.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// Ends a piece; nothing where it would be empty.
    pub fn end_piece(&mut self) {
        let length = std::mem::take(&mut self.length);
        if length > 0 {
            let digest = std::mem::take(&mut self.piece).digest();
            self.whole.update(&digest.to_le_bytes());
            let xxh3 = low_half(digest);
            self.pieces.push(Piece { length, xxh3 });
        }
    }

    /// Ends a span that began at `start`.
    pub fn end_span(&mut self, start: u64) -> SpanDigest {
        self.end_piece();
        let pieces = std::mem::take(&mut self.pieces);
        SpanDigest {
            start,
            end: start + pieces.iter().map(|p| p.length).sum::<u64>(),
            xxh3: std::mem::take(&mut self.whole).digest(),
            pieces,
        }
    }
}

impl SpanDigest {
    /// True where the span's bytes still give its digest.
    ///
    /// # Errors
    /// Of the file.
    pub(super) fn holds(&self, file: &dyn ReadFile) -> std::io::Result<bool> {
        Ok(self.damaged(file)?.is_empty())
    }

    /// The pieces whose bytes have changed; the span as one where it is not known which. Reads in
    /// blocks of 1 MiB.
    ///
    /// # Errors
    /// Of the file.
    pub fn damaged(&self, file: &dyn ReadFile) -> std::io::Result<Vec<Range<u64>>> {
        let all = || std::iter::once(self.start..self.end).collect();
        let ranges = self.ranges();
        let Some(ranges) = ranges.filter(|_| self.end <= file.len()) else {
            return Ok(all());
        };
        let mut block = vec![0; usize::try_from(BLOCK).expect("1 MiB fits")];
        let mut digest = |range: &Range<u64>| {
            let mut hash = Hash64::new();
            let mut at = range.start;
            while at < range.end {
                let n = usize::try_from((range.end - at).min(BLOCK)).expect("at most 1 MiB");
                file.read_exact_at(&mut block[..n], at)?;
                hash.update(&block[..n]);
                at += n as u64;
            }
            Ok::<_, std::io::Error>(hash.digest())
        };
        if self.pieces.is_empty() {
            let same = digest(&(self.start..self.end))? == self.xxh3;
            return Ok(if same { Vec::new() } else { all() });
        }
        let (mut whole, mut damaged) = (Hash64::new(), Vec::new());
        for (range, piece) in ranges.into_iter().zip(&self.pieces) {
            let found = digest(&range)?;
            whole.update(&found.to_le_bytes());
            if low_half(found) != piece.xxh3 {
                damaged.push(range);
            }
        }
        // Half a digest may agree by chance, once in four thousand million times.
        if damaged.is_empty() && whole.digest() != self.xxh3 {
            return Ok(all());
        }
        Ok(damaged)
    }

    /// Where its pieces lie; nothing where they do not fill it.
    fn ranges(&self) -> Option<Vec<Range<u64>>> {
        let mut at = self.start;
        let mut ranges = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let end = at.checked_add(piece.length)?;
            ranges.push(at..end);
            at = end;
        }
        (self.start <= self.end && (at == self.end || self.pieces.is_empty())).then_some(ranges)
    }

    /// `start-end:xxh3`, then `:length-xxh3` of each piece; all but start and end in hexadecimal.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}-{}:{:016x}", self.start, self.end, self.xxh3);
        for piece in &self.pieces {
            text.push_str(&format!(":{:x}-{:08x}", piece.length, piece.xxh3));
        }
        text
    }

    /// What [`Self::text`] wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (start, end) = parts.next()?.split_once('-')?;
        let xxh3 = u64::from_str_radix(parts.next()?, 16).ok()?;
        let piece = |part: &str| {
            let (length, xxh3) = part.split_once('-')?;
            Some(Piece {
                length: u64::from_str_radix(length, 16).ok()?,
                xxh3: u32::from_str_radix(xxh3, 16).ok()?,
            })
        };
        Some(Self {
            start: start.parse().ok()?,
            end: end.parse().ok()?,
            xxh3,
            pieces: parts.map(piece).collect::<Option<_>>()?,
        })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "half of it is wanted")]
fn low_half(digest: u64) -> u32 {
    digest as u32
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::storage::{Simulated, Storage};

    fn file(bytes: &[u8]) -> Box<dyn ReadFile> {
        let (disk, path) = (Simulated::new(), Path::new("/c/file"));
        disk.create_dir(Path::new("/c")).unwrap();
        disk.create(path).unwrap().write_all(bytes).unwrap();
        disk.open(path).unwrap()
    }

    proptest! {
        #[test]
        fn exactly_the_changed_pieces_are_named(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..9),
            start in 0usize..9,
            flips in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut hasher = Hasher::default();
            let mut bytes = vec![7; start];
            let mut expected = Vec::new();
            for piece in &pieces {
                // As they come: in parts.
                let (a, b) = piece.split_at(piece.len() / 2);
                hasher.update(a);
                hasher.update(b);
                hasher.end_piece();
                let from = bytes.len() as u64;
                bytes.extend(piece);
                expected.push(from..bytes.len() as u64);
            }
            let span = hasher.end_span(start as u64);
            prop_assert_eq!(span.end, bytes.len() as u64);
            prop_assert_eq!(SpanDigest::parse(&span.text()), Some(span.clone()));
            let mut changed = bytes.clone();
            if bytes.len() > start {
                for flip in &flips {
                    changed[start + flip.index(bytes.len() - start)] = !bytes[0];
                }
            }
            expected.retain(|r| {
                let r = usize::try_from(r.start).unwrap()..usize::try_from(r.end).unwrap();
                changed[r.clone()] != bytes[r]
            });
            prop_assert_eq!(span.damaged(file(&changed).as_ref()).unwrap(), expected);
        }
    }

    #[test]
    fn a_span_without_pieces_has_the_digest_of_its_bytes() {
        let digest = crate::xxh3::hash64(b"abc");
        let span = SpanDigest::parse(&format!("1-4:{digest:016x}")).unwrap();
        assert!(span.holds(file(b"xabc").as_ref()).unwrap());
        let damaged = span.damaged(file(b"xabd").as_ref()).unwrap();
        assert_eq!((damaged.len(), damaged[0].clone()), (1, 1..4));
        assert!(!span.holds(file(b"xab").as_ref()).unwrap(), "it is cut");
    }
}
