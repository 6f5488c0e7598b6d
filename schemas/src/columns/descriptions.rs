//! Column chunks of what describes the tensors of a `list<tensor>` column: all but their payloads.

use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::ColumnDescPtr;

use super::{Column, Numbers, Output, Shapes, Texts};
use crate::tensor::Tensor;

/// Definition levels: 0 no list, 1 an empty one, 2 a tensor, 3 a value of it that might be null.
const NO_LIST: u8 = 0;
const NO_TENSOR: u8 = 1;
const TENSOR: u8 = 2;

/// The columns of a row group that grow row by row. Answers mostly resemble the one before: those are
/// counted, and written when another comes.
pub(crate) struct Descriptions {
    name: Texts,
    message: Numbers<u32>,
    datatype: Texts,
    shape: Shapes,
    payload: Texts,
    parameters: Texts,
    /// The tensors of the last row, without payloads, and how many rows of these are not yet in the columns.
    last: Option<Vec<Tensor>>,
    waiting: usize,
    /// Bytes of such a row, and of all rows so far.
    each: usize,
    bytes: usize,
}

impl Descriptions {
    /// Without rows.
    pub fn new() -> Self {
        Self {
            name: Texts::nested(TENSOR),
            message: Numbers::nested(TENSOR),
            datatype: Texts::nested(TENSOR),
            shape: Shapes::nested(1, TENSOR),
            payload: Texts::nested(TENSOR),
            parameters: Texts::nested(TENSOR + 1),
            last: None,
            waiting: 0,
            each: 0,
            bytes: 0,
        }
    }

    /// The next row; `None` is a null.
    pub fn append_option(&mut self, tensors: Option<&[Tensor]>) {
        if !self.resembles_last(tensors) {
            self.settle();
            let described = |t: &Tensor| Tensor {
                data: None,
                ..t.clone()
            };
            self.last = tensors.map(|tensors| tensors.iter().map(described).collect());
            self.each = tensors.unwrap_or_default().iter().map(bytes).sum();
        }
        self.waiting += 1;
        self.bytes += self.each;
    }

    /// Bytes that the rows so far take in memory, about, here or where they are read.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn resembles_last(&self, tensors: Option<&[Tensor]>) -> bool {
        match (tensors, &self.last) {
            (None, None) => true,
            (Some(tensors), Some(last)) => {
                tensors.len() == last.len() && tensors.iter().zip(last).all(|(a, b)| alike(a, b))
            }
            _ => false,
        }
    }

    /// Writes the rows that wait to the columns.
    fn settle(&mut self) {
        let last = self.last.take();
        for row in 0..std::mem::take(&mut self.waiting) {
            match last.as_deref() {
                None => self.none(NO_LIST),
                Some([]) => self.none(NO_TENSOR),
                Some([tensor]) if row > 0 => self.repeat(tensor),
                Some(tensors) => {
                    for (i, tensor) in tensors.iter().enumerate() {
                        self.tensor(u8::from(i > 0), tensor);
                    }
                }
            }
        }
        self.last = last;
    }

    /// The only tensor of this row and of the one before.
    fn repeat(&mut self, tensor: &Tensor) {
        self.name.repeat(0);
        self.message.append_value(tensor.message);
        self.datatype.repeat(0);
        self.shape.repeat(0, &tensor.shape);
        self.payload.repeat(0);
        match &tensor.parameters {
            Some(_) => self.parameters.repeat(0),
            None => self.parameters.append_none(0, TENSOR),
        }
    }

    fn none(&mut self, definition: u8) {
        self.name.append_none(0, definition);
        self.message.append_none(0, definition);
        self.datatype.append_none(0, definition);
        self.shape.append_none(0, definition);
        self.payload.append_none(0, definition);
        self.parameters.append_none(0, definition);
    }

    fn tensor(&mut self, repetition: u8, tensor: &Tensor) {
        self.name.append_at(repetition, &tensor.name);
        self.message.append_at(repetition, tensor.message);
        self.datatype.append_at(repetition, tensor.datatype.name());
        self.shape.append_at(repetition, &tensor.shape);
        self.payload.append_at(repetition, tensor.payload.name());
        match &tensor.parameters {
            Some(parameters) => self.parameters.append_at(repetition, parameters),
            None => self.parameters.append_none(repetition, TENSOR),
        }
    }

    /// Appends the chunks to `out` in the order of their columns, which `column` finds by their names, and
    /// begins anew. `scratch`: as theirs.
    ///
    /// # Errors
    /// As [`Column::encode`].
    pub fn encode(
        &mut self,
        column: impl Fn(&str) -> &'static ColumnDescPtr,
        out: &mut impl Output,
        scratch: &mut Vec<u8>,
    ) -> Result<Vec<ColumnChunkMetaData>> {
        self.settle();
        (self.last, self.each, self.bytes) = (None, 0, 0);
        Ok(vec![
            self.name.encode(column("name"), out, scratch)?,
            self.message.encode(column("message"), out, scratch)?,
            self.datatype.encode(column("datatype"), out, scratch)?,
            self.shape.encode(column("shape.list.item"), out, scratch)?,
            self.payload.encode(column("payload"), out, scratch)?,
            self.parameters.encode(column("parameters"), out, scratch)?,
        ])
    }
}

/// Places in dictionaries and levels, and the texts.
fn bytes(tensor: &Tensor) -> usize {
    let parameters = tensor.parameters.as_ref().map_or(0, String::len);
    32 + 8 * tensor.shape.len() + tensor.name.len() + parameters
}

/// But for their payloads.
fn alike(a: &Tensor, b: &Tensor) -> bool {
    a.shape == b.shape
        && a.datatype == b.datatype
        && a.name == b.name
        && a.message == b.message
        && a.payload == b.payload
        && a.parameters == b.parameters
}
