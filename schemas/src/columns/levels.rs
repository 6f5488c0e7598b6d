//! Parquet's RLE/bit-packed hybrid for repetition and definition levels.
//!
//! Source: <https://parquet.apache.org/docs/file-format/data-pages/encodings/> (RLE = 3).

use parquet::schema::types::ColumnDescriptor;

/// Appends an unsigned LEB128 number.
pub(super) fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n > 0x7f {
        out.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    out.push(n.to_le_bytes()[0]);
}

/// Bits of a level up to this one.
pub(super) fn bits(max_level: i16) -> usize {
    (i16::BITS - max_level.leading_zeros()) as usize
}

/// Which rows of a flat column are null.
#[derive(Default)]
pub(super) struct Nulls {
    rows: usize,
    /// Definition level of each row; empty as long as none is null.
    levels: Vec<u8>,
}

impl Nulls {
    /// The next row is not.
    #[inline]
    pub fn present(&mut self) {
        if !self.levels.is_empty() {
            self.levels.push(1);
        }
        self.rows += 1;
    }

    /// The next row is.
    pub fn null(&mut self) {
        self.levels.resize(self.rows, 1);
        self.levels.push(0);
        self.rows += 1;
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Appends the definition levels where `column` has them, and begins anew.
    pub fn encode(&mut self, column: &ColumnDescriptor, out: &mut Vec<u8>) {
        if column.max_def_level() > 0 {
            self.levels.resize(self.rows, 1);
            encode(out, &self.levels, bits(column.max_def_level()));
        } else {
            debug_assert!(self.levels.is_empty(), "{}", column.name());
        }
        self.levels.clear();
        self.rows = 0;
    }
}

/// Appends `levels`, each below 2^`bits` (`bits` 1 to 8), behind their encoded length (u32-LE) as a
/// data page of version 1 wants them.
pub(super) fn encode(out: &mut Vec<u8>, levels: &[u8], bits: usize) {
    let begin = out.len();
    out.extend_from_slice(&[0; 4]);
    hybrid(out, levels, bits);
    let length = u32::try_from(out.len() - begin - 4)
        .expect("levels of a page take less than its values' lengths, which fit");
    out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
}

/// Appends `values`, each below 2^`bits` (`bits` 1 to 32): as runs where they repeat, else packed.
pub(super) fn hybrid<T: Copy + PartialEq + Into<u32>>(
    out: &mut Vec<u8>,
    values: &[T],
    bits: usize,
) {
    // A run takes a length and its value's whole bytes; eight packed values take `bits`.
    let of_a_run = 1 + bits.div_ceil(8);
    let runs = values.chunk_by(|a, b| a == b).count();
    if of_a_run * runs <= values.len() * bits / 8 + 2 {
        for run in values.chunk_by(|a, b| a == b) {
            varint(out, (run.len() as u64) << 1);
            let value: u32 = run[0].into();
            out.extend_from_slice(&value.to_le_bytes()[..bits.div_ceil(8)]);
        }
    } else {
        varint(out, (values.len().div_ceil(8) as u64) << 1 | 1);
        for group in values.chunks(8) {
            // At most seven bits wait for the next value: 39 in all.
            let (mut waiting, mut count, begin) = (0_u64, 0, out.len());
            for &value in group {
                waiting |= u64::from(value.into()) << count;
                count += bits;
                while count >= 8 {
                    out.push(waiting.to_le_bytes()[0]);
                    waiting >>= 8;
                    count -= 8;
                }
            }
            if count > 0 {
                out.push(waiting.to_le_bytes()[0]);
            }
            out.resize(begin + bits, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(mut bytes: &[u8], bits: usize, count: usize) -> Vec<u8> {
        let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        assert_eq!(length, bytes.len() - 4);
        bytes = &bytes[4..];
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let (mut header, mut shift) = (0usize, 0);
            loop {
                let byte = bytes[0];
                bytes = &bytes[1..];
                header |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            if header & 1 == 0 {
                out.extend(std::iter::repeat_n(bytes[0], header >> 1));
                bytes = &bytes[1..];
            } else {
                for i in 0..(header >> 1) * 8 {
                    let bit = |b: usize| bytes[(i * bits + b) / 8] >> ((i * bits + b) % 8) & 1;
                    out.push((0..bits).map(|b| bit(b) << b).sum());
                }
                bytes = &bytes[(header >> 1) * bits..];
            }
        }
        // Packed groups are filled up with zeros.
        assert!(out.len() >= count && out.len() < count + 8);
        out.truncate(count);
        out
    }

    /// As [`encode`] but for the length, and of any width.
    fn unpacked(values: &[u32], bits: usize) -> Vec<u32> {
        let mut bytes = Vec::new();
        hybrid(&mut bytes, values, bits);
        let (mut at, mut out) = (0, Vec::new());
        while at < bytes.len() {
            let (mut header, mut shift) = (0usize, 0);
            loop {
                let byte = bytes[at];
                at += 1;
                header |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            if header & 1 == 0 {
                let mut value = [0; 4];
                value[..bits.div_ceil(8)].copy_from_slice(&bytes[at..at + bits.div_ceil(8)]);
                out.extend(std::iter::repeat_n(u32::from_le_bytes(value), header >> 1));
                at += bits.div_ceil(8);
            } else {
                for i in 0..(header >> 1) * 8 {
                    let bit = |b: usize| {
                        let place = i * bits + b;
                        u32::from(bytes[at + place / 8] >> (place % 8) & 1)
                    };
                    out.push((0..bits).map(|b| bit(b) << b).sum());
                }
                at += (header >> 1) * bits;
            }
        }
        out.truncate(values.len());
        out
    }

    #[test]
    fn values_of_any_width_come_back() {
        for bits in 1..=32 {
            let most = u32::MAX >> (32 - bits);
            let mixed: Vec<u32> = (0..1003_u32)
                .map(|i| i.wrapping_mul(2_654_435_761) & most)
                .collect();
            let runs: Vec<u32> = mixed.iter().flat_map(|v| [*v; 40]).collect();
            for values in [vec![most; 1000], mixed, runs, vec![most], vec![]] {
                assert_eq!(unpacked(&values, bits), values, "{bits} bits");
            }
        }
    }

    #[test]
    fn levels_come_back_whatever_their_runs() {
        for bits in [1, 2] {
            let most = 1u8 << bits;
            let cases: [Vec<u8>; 5] = [
                vec![most - 1; 1000],
                (0..1000).map(|i| i as u8 % most).collect(),
                vec![0],
                (0..77).map(|i| u8::from(i > 40)).collect(),
                (0..1003).map(|i| (i * i / 7) as u8 % most).collect(),
            ];
            for levels in cases {
                let mut out = Vec::new();
                encode(&mut out, &levels, bits);
                assert_eq!(decode(&out, bits, levels.len()), levels);
                assert!(out.len() <= 4 + 2 + 2 + levels.len().div_ceil(8) * bits);
            }
        }
    }
}
