//! Column chunks of shapes: a list of dimensions for each row, or for each tensor of a list.

use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::ColumnDescPtr;

use super::dictionary::Dictionary;
use super::one_page::Column;
use super::pages::Output;

/// A column of a row group that grows shape by shape. Shapes are never null.
pub(crate) struct Shapes {
    dimensions: Dictionary<i64>,
    /// Lists around a shape.
    depth: u8,
    last: Vec<i64>,
}

impl Shapes {
    /// Without rows, one shape in each.
    pub fn new() -> Self {
        Self::nested(0, 0)
    }

    /// Without rows, within `depth` lists; a shape of rank 0 there has the definition level `value`.
    pub fn nested(depth: u8, value: u8) -> Self {
        Self {
            dimensions: Dictionary::new(value + 1),
            depth,
            last: Vec::new(),
        }
    }

    /// The next row.
    #[inline]
    pub fn append_value(&mut self, shape: &[i64]) {
        self.append_at(0, shape);
    }

    /// The next shape, the first dimension of which has this repetition level.
    pub fn append_at(&mut self, repetition: u8, shape: &[i64]) {
        if self.last == shape {
            return self.repeat(repetition, shape);
        }
        if shape.is_empty() {
            return self.dimensions.levels.empty(repetition);
        }
        shape.clone_into(&mut self.last);
        for (i, dimension) in shape.iter().enumerate() {
            self.dimensions
                .append(self.level(i, repetition), dimension, |page| {
                    page.extend_from_slice(&dimension.to_le_bytes());
                });
        }
    }

    /// The next shape, which is the last one that had dimensions, or has none.
    pub fn repeat(&mut self, repetition: u8, shape: &[i64]) {
        let rank = shape.len();
        if rank == 0 {
            self.dimensions.levels.empty(repetition);
        }
        for i in 0..rank {
            self.dimensions.repeat(self.level(i, repetition), rank);
        }
    }

    /// Repetition level of a shape's i-th dimension.
    fn level(&self, i: usize, of_shape: u8) -> u8 {
        if i == 0 { of_shape } else { self.depth + 1 }
    }

    /// The next entry is no shape, and has these levels.
    pub fn append_none(&mut self, repetition: u8, definition: u8) {
        self.dimensions.levels.entry(repetition, definition);
    }
}

impl Column for Shapes {
    fn encode(
        &mut self,
        column: &ColumnDescPtr,
        out: &mut impl Output,
        scratch: &mut Vec<u8>,
    ) -> Result<ColumnChunkMetaData> {
        self.last.clear();
        self.dimensions.encode(column, out, scratch)
    }
}
