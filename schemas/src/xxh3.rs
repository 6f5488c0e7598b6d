//! XXH3 with the vector instructions that the processor has, found at run time.
//!
//! Seed 0 throughout: the values are those of every other XXH3 implementation (golden vectors in
//! [`crate::digest`]). One type, so that the product hashes with one library.

use twox_hash::xxhash3_64::{DEFAULT_SECRET_LENGTH, SecretBuffer as Secret64};
use twox_hash::xxhash3_128::SecretBuffer as Secret128;
use twox_hash::{XxHash3_64, XxHash3_128, xxhash3_64, xxhash3_128};

use crate::prefetch::prefetch;

/// Bytes that are asked for while as many are hashed.
const AHEAD: usize = 4096;

type DefaultSecret = &'static [u8; DEFAULT_SECRET_LENGTH];

/// XXH3-64 of bytes that come piece by piece.
#[derive(Clone)]
pub struct Hash64(xxhash3_64::RawHasher<DefaultSecret>);

/// XXH3-128 of bytes that come piece by piece.
#[derive(Clone)]
pub struct Hash128(xxhash3_128::RawHasher<DefaultSecret>);

impl Hash64 {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self(xxhash3_64::RawHasher::new(Secret64::default()))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        std::hash::Hasher::write(&mut self.0, bytes);
    }

    /// The hash of everything added.
    pub fn digest(&self) -> u64 {
        std::hash::Hasher::finish(&self.0)
    }
}

impl Hash128 {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self(xxhash3_128::RawHasher::new(Secret128::default()))
    }

    /// Adds bytes. Many of them are asked for ahead: they come from a network, another thread's copy, or
    /// a disk.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut left = bytes;
        while left.len() > AHEAD {
            let (now, later) = left.split_at(AHEAD);
            prefetch(&later[..AHEAD.min(later.len())]);
            self.0.write(now);
            left = later;
        }
        self.0.write(left);
    }

    /// The hash of everything added.
    pub fn digest(&self) -> u128 {
        self.0.finish_128()
    }
}

impl Default for Hash64 {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Hash128 {
    fn default() -> Self {
        Self::new()
    }
}

/// XXH3-64 of bytes that are there whole.
pub fn hash64(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// XXH3-128 of bytes that are there whole.
pub fn hash128(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference library's values (Python `xxhash`) for 0, 1, 2 … mod 251, at lengths on both
    /// sides of every internal border, however the bytes are cut.
    #[test]
    fn values_are_the_reference_librarys() {
        let bytes: Vec<u8> = (0..=250).cycle().take(3000).collect();
        let expected: [(usize, u64, u128); 14] = [
            (0, 0x2d06800538d394c2, 0x99aa06d3014798d86001c324468d497f),
            (1, 0xc44bdff4074eecdb, 0xa6cd5e9392000f6ac44bdff4074eecdb),
            (8, 0x3a1c2d7c85af88f8, 0xe1e4432a62217fe4cfd50c61c8bb98c1),
            (16, 0x8355e3a6f61770db, 0x72950631827607e2842812cc870dcae2),
            (17, 0x9ef341a99de37328, 0x685bc458b37d057fc06e233df7729217),
            (128, 0x85c6174c7ff4c46b, 0x14792fc3af88dc6c05321a0b64d67b41),
            (129, 0xec7642b431ba3e5a, 0xdd5e74ac6b45f54ebc30b63382b09a3b),
            (240, 0x375a384d957fe865, 0x65b5be86da5540e7c92b68e16f83bbb6),
            (241, 0x02e8cd95421c6d02, 0x1da1cb61bcb8a2a102e8cd95421c6d02),
            (256, 0x44f5d90dacde463a, 0x96c36c85d00e5bc544f5d90dacde463a),
            (257, 0x88fc3f7934a6c9be, 0x8c650dc0594ae28188fc3f7934a6c9be),
            (1024, 0xe5d78bafa45b2aa5, 0xd0ac1f7b93bf57b9e5d78bafa45b2aa5),
            (1025, 0xe95c42288f28186e, 0x2882ebca04ec915ce95c42288f28186e),
            (3000, 0x1b846747012c24aa, 0xd324b9e72fa9fb271b846747012c24aa),
        ];
        for (length, h64, h128) in expected {
            let bytes = &bytes[..length];
            assert_eq!(hash64(bytes), h64, "{length}");
            assert_eq!(hash128(bytes), h128, "{length}");
            for piece in [1, 63, 64, 100, 1024] {
                let (mut a, mut b) = (Hash64::new(), Hash128::new());
                for part in bytes.chunks(piece) {
                    a.update(part);
                    b.update(part);
                }
                assert_eq!((a.digest(), b.digest()), (h64, h128), "{length} by {piece}");
            }
        }
    }
}
