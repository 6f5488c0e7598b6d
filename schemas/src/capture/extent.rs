//! Where the column chunks of a footer say they lie.
//!
//! A footer is bytes from a disk: its offsets may be negative, or so large that sums overflow. The
//! Parquet crate's `byte_range` panics on the former, so nothing asks it before this was asked.

use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

/// True where every column chunk lies before byte `end` and all counts add up.
pub(super) fn lies_before(metadata: &ParquetMetaData, end: u64) -> bool {
    let groups = metadata.row_groups();
    let rows = total(groups.iter().map(RowGroupMetaData::num_rows));
    let fits = |group: &RowGroupMetaData| {
        let columns = group.columns();
        let sizes = total(columns.iter().map(ColumnChunkMetaData::uncompressed_size));
        group.total_byte_size() >= 0
            && sizes.is_some()
            && columns.iter().all(|chunk| chunk_lies_before(chunk, end))
    };
    rows == Some(metadata.file_metadata().num_rows()) && groups.iter().all(fits)
}

/// The sum, where no number is negative and none overflows it.
fn total(mut numbers: impl Iterator<Item = i64>) -> Option<i64> {
    numbers.try_fold(0i64, |sum, n| sum.checked_add(n).filter(|_| n >= 0))
}

fn chunk_lies_before(chunk: &ColumnChunkMetaData, end: u64) -> bool {
    let data = u64::try_from(chunk.data_page_offset());
    let start = chunk.dictionary_page_offset().map_or(data, u64::try_from);
    let length = u64::try_from(chunk.compressed_size());
    let (Ok(_), Ok(start), Ok(length)) = (data, start, length) else {
        return false;
    };
    start.checked_add(length).is_some_and(|to| to <= end)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use std::path::Path;

    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::ColumnChunkMetaDataBuilder;
    use ulid::Ulid;

    use super::super::footer::{self, Footer, FooterNote};
    use super::super::schema::{VIEWS, properties};
    use super::super::{Ledger, encode};
    use crate::Exchange;
    use crate::storage::{Simulated, Storage};

    type Change = fn(ColumnChunkMetaDataBuilder) -> ColumnChunkMetaDataBuilder;

    /// A file of one row group whose footer is signed as ours; `change` is made to what the footer
    /// says of one column.
    fn file(change: Change) -> Vec<u8> {
        let exchange = Exchange::new(Ulid::from_parts(1, 2), 0);
        let mut writer =
            ArrowWriter::try_new(Vec::new(), VIEWS.clone(), Some(properties())).unwrap();
        writer.write(&encode::whole(&[exchange]).unwrap()).unwrap();
        writer.flush().unwrap();
        let group = writer.flushed_row_groups()[0].clone();
        let mut columns = group.columns().to_vec();
        columns[3] = change(columns[3].clone().into_builder()).build().unwrap();
        let group = group
            .into_builder()
            .set_column_metadata(columns)
            .build()
            .unwrap();
        writer.sync().unwrap();
        let mut bytes = writer.inner().clone();
        let mut note = FooterNote::new(Ulid::from_parts(1, 2), Ulid::from_parts(3, 4));
        note.ledger = Ledger::default();
        let footer = footer::write(&[group], &note, bytes.len() as u64).unwrap();
        bytes.extend(footer);
        bytes
    }

    fn find(bytes: &[u8]) -> Option<Footer> {
        let (disk, path) = (Simulated::new(), Path::new("/c/file"));
        disk.create_dir(Path::new("/c")).unwrap();
        let mut file = disk.create(path).unwrap();
        file.write_all(bytes).unwrap();
        file.sync().unwrap();
        footer::find_last(disk.open(path).unwrap().as_ref(), None).unwrap()
    }

    #[test]
    fn a_signed_footer_whose_offsets_are_impossible_is_no_footer() {
        assert!(find(&file(|c| c)).is_some(), "as it was written, it is one");
        let changes: [(&str, Change); 6] = [
            ("data page before the file", |c| c.set_data_page_offset(-1)),
            ("dictionary before the file", |c| {
                c.set_dictionary_page_offset(Some(-1))
            }),
            ("dictionary at the lowest number", |c| {
                c.set_dictionary_page_offset(Some(i64::MIN))
            }),
            ("negative length", |c| c.set_total_compressed_size(-5)),
            ("length past the end", |c| {
                c.set_total_compressed_size(1 << 40)
            }),
            ("negative size", |c| c.set_total_uncompressed_size(-1)),
        ];
        for (what, change) in changes {
            assert!(find(&file(change)).is_none(), "{what}");
        }
    }

    /// Every bit of a footer, one at a time: among them those that make offsets negative.
    #[test]
    fn a_footer_with_a_flipped_bit_is_no_footer() {
        let whole = file(|c| c);
        let start = usize::try_from(find(&whole).unwrap().start).unwrap();
        for bit in start * 8..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(find(&bytes).is_none(), "bit {bit}");
        }
    }
}
