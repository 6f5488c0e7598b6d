//! Parquet's RLE/bit-packed hybrid for repetition and definition levels.
//!
//! Source: <https://parquet.apache.org/docs/file-format/data-pages/encodings/> (RLE = 3).

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

/// Appends `levels`, each below 2^`bits` (`bits` 1 to 8), behind their encoded length (u32-LE) as a
/// data page of version 1 wants them: as runs where levels repeat, else packed.
pub(super) fn encode(out: &mut Vec<u8>, levels: &[u8], bits: usize) {
    let begin = out.len();
    out.extend_from_slice(&[0; 4]);
    // A run takes two bytes at least; eight packed levels take `bits`.
    let runs = levels.chunk_by(|a, b| a == b).count();
    if 2 * runs <= levels.len() * bits / 8 + 2 {
        for run in levels.chunk_by(|a, b| a == b) {
            varint(out, (run.len() as u64) << 1);
            out.push(run[0]);
        }
    } else {
        varint(out, (levels.len().div_ceil(8) as u64) << 1 | 1);
        for group in levels.chunks(8) {
            let packed = group.iter().enumerate().fold(0u64, |packed, (i, &level)| {
                packed | u64::from(level) << (i * bits)
            });
            out.extend_from_slice(&packed.to_le_bytes()[..bits]);
        }
    }
    let length = u32::try_from(out.len() - begin - 4)
        .expect("levels of a page take less than its values' lengths, which fit");
    out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
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
