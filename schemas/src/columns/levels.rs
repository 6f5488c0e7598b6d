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

/// Levels of a column's entries.
pub(super) struct Levels {
    entries: usize,
    /// Definition level of a value.
    value: u8,
    /// Definition level of each entry; empty as long as all are values.
    definition: Vec<u8>,
    /// Repetition level of each; empty as long as each begins a row.
    repetition: Vec<u8>,
}

impl Levels {
    /// Of a column whose values have the definition level `value`: 1 in a flat one, which may be one
    /// without nulls.
    pub fn new(value: u8) -> Self {
        Self {
            entries: 0,
            value,
            definition: Vec::new(),
            repetition: Vec::new(),
        }
    }

    /// The next entry is a value, with this repetition level: 0 begins a row.
    #[inline]
    pub fn value(&mut self, repetition: u8) {
        self.entry(repetition, self.value);
    }

    /// The next entry is a list without values, which is not null.
    #[inline]
    pub fn empty(&mut self, repetition: u8) {
        self.entry(repetition, self.value - 1);
    }

    /// The next entry, with its repetition and its definition level.
    #[inline]
    pub fn entry(&mut self, repetition: u8, definition: u8) {
        if definition != self.value || !self.definition.is_empty() {
            self.definition.resize(self.entries, self.value);
            self.definition.push(definition);
        }
        if repetition != 0 || !self.repetition.is_empty() {
            self.repetition.resize(self.entries, 0);
            self.repetition.push(repetition);
        }
        self.entries += 1;
    }

    /// Begins a page with the levels that `column` has, and begins anew; says how many entries it has.
    /// What is in `out` is dropped.
    pub fn begin_page(&mut self, column: &ColumnDescriptor, out: &mut Vec<u8>) -> usize {
        out.clear();
        if column.max_rep_level() > 0 {
            self.repetition.resize(self.entries, 0);
            encode(out, &self.repetition, bits(column.max_rep_level()));
        } else {
            debug_assert!(self.repetition.is_empty(), "{}", column.name());
        }
        if column.max_def_level() > 0 {
            debug_assert_eq!(i16::from(self.value), column.max_def_level());
            self.definition.resize(self.entries, self.value);
            encode(out, &self.definition, bits(column.max_def_level()));
        } else {
            debug_assert!(self.definition.is_empty(), "{}", column.name());
        }
        self.definition.clear();
        self.repetition.clear();
        std::mem::take(&mut self.entries)
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
