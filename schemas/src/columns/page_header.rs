//! Headers of pages, version 1, in Thrift's compact protocol.
//!
//! Source: <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>
//! (`PageHeader`, `DataPageHeader`, `DictionaryPageHeader`). The checksum is left out: pages of captures
//! have digests in the footer, run files are synced before they have a name.

use std::io;

use super::levels::varint;

/// Encodings of a page's values.
pub(super) const PLAIN: usize = 0;
pub(super) const RLE_DICTIONARY: usize = 8;

/// The encoding of levels.
const RLE: usize = 3;

const DATA_PAGE: usize = 0;
const DICTIONARY_PAGE: usize = 2;

/// A field's header is the step from the field before it (high half) and its type (low half).
const NEXT_I32: u8 = 0x15;
/// `data_page_header` is field 5 and `dictionary_page_header` field 7; `compressed_page_size` is field 3.
const DATA_HEADER: u8 = 0x2c;
const DICTIONARY_HEADER: u8 = 0x4c;
const STOP: u8 = 0;

/// Of a data page of `size` bytes (levels and values) with so many entries.
///
/// # Errors
/// `InvalidInput` where the format cannot say that many bytes or entries.
pub(super) fn data(
    out: &mut Vec<u8>,
    size: usize,
    entries: usize,
    encoding: usize,
) -> io::Result<()> {
    fields(out, &[DATA_PAGE, size, size], size)?;
    out.push(DATA_HEADER);
    fields(out, &[entries, encoding, RLE, RLE], size)?;
    out.extend([STOP, STOP]);
    Ok(())
}

/// Of a dictionary page of `size` bytes with so many values.
///
/// # Errors
/// As [`data`].
pub(super) fn dictionary(out: &mut Vec<u8>, size: usize, values: usize) -> io::Result<()> {
    fields(out, &[DICTIONARY_PAGE, size, size], size)?;
    out.push(DICTIONARY_HEADER);
    fields(out, &[values, PLAIN], size)?;
    out.extend([STOP, STOP]);
    Ok(())
}

fn fields(out: &mut Vec<u8>, numbers: &[usize], size: usize) -> io::Result<()> {
    for &n in numbers {
        let n = i32::try_from(n).map_err(|_| too_long(size))?;
        out.push(NEXT_I32);
        // Zigzag of a number that is not negative.
        varint(out, u64::from(n.unsigned_abs()) << 1);
    }
    Ok(())
}

pub(super) fn too_long(size: usize) -> io::Error {
    let why = format!("a page of {size} bytes is longer than Parquet can say (2 GiB)");
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
