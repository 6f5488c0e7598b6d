//! What a Parquet file says of its row groups.

use parquet::errors::Result;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, KeyValue, ParquetMetaDataBuilder, ParquetMetaDataWriter,
    RowGroupMetaData,
};
use parquet::schema::types::SchemaDescPtr;

use super::signed;

/// Begins a Parquet file, and ends it.
pub(crate) const MAGIC: &[u8] = b"PAR1";

/// What a footer says of who wrote the file.
pub(crate) const CREATED_BY: &str = concat!("inferdiff ", env!("CARGO_PKG_VERSION"));

/// The row group `ordinal` of a file, which begins at offset `start`.
///
/// # Errors
/// `chunks` are not one of each column.
pub(crate) fn row_group(
    columns: &SchemaDescPtr,
    chunks: Vec<ColumnChunkMetaData>,
    rows: i64,
    ordinal: usize,
    start: u64,
) -> Result<RowGroupMetaData> {
    let bytes = chunks.iter().map(ColumnChunkMetaData::uncompressed_size);
    let ordinal = i32::try_from(ordinal);
    RowGroupMetaData::builder(columns.clone())
        .set_num_rows(rows)
        .set_ordinal(ordinal.expect("a file has few row groups"))
        .set_file_offset(signed(start))
        .set_total_byte_size(bytes.sum())
        .set_column_metadata(chunks)
        .build()
}

/// The footer of a file of these row groups, with its length and the magic bytes behind it.
///
/// # Errors
/// Of encoding.
pub(crate) fn footer(
    row_groups: &[RowGroupMetaData],
    columns: &SchemaDescPtr,
    pairs: Vec<KeyValue>,
) -> Result<Vec<u8>> {
    let rows = row_groups.iter().map(RowGroupMetaData::num_rows).sum();
    let created = Some(CREATED_BY.to_owned());
    let file = FileMetaData::new(2, rows, created, Some(pairs), columns.clone(), None);
    let metadata = ParquetMetaDataBuilder::new(file)
        .set_row_groups(row_groups.to_vec())
        .build();
    let mut out = Vec::with_capacity(4096 * (row_groups.len() + 1));
    ParquetMetaDataWriter::new(&mut out, &metadata).finish()?;
    Ok(out)
}
