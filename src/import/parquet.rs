//! Parquet files with tensor columns: a request per row, a tensor per column.
//!
//! A column is a number, a text, (nested) lists of numbers, or an Arrow extension type
//! `arrow.fixed_shape_tensor` or `arrow.variable_shape_tensor` (Arrow columnar format, "Canonical
//! Extension Types").

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch, StructArray};
use arrow_schema::{DataType, Field};
use inferdiff_schemas::tensor::element_count;
use inferdiff_schemas::{Datatype, Tensor};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::{ImportError, Roles, Sample, Samples, bytes_data, dimension, files};

/// Rows that are in memory at a time.
const BATCH: usize = 64;

/// A request per row of every file.
///
/// # Errors
/// No Parquet file is there, or one of them is none.
pub(super) fn samples(path: &Path, roles: &Roles) -> Result<Samples, ImportError> {
    let mut files = files(path)?;
    files.retain(|f| f == path || f.extension().is_some_and(|e| e == "parquet"));
    if files.is_empty() {
        return Err(ImportError::at(path, "no .parquet file is there"));
    }
    Ok(Box::new(Rows {
        files: files.into(),
        open: None,
        ready: VecDeque::new(),
        roles: Arc::new(roles.clone()),
    }))
}

struct Rows {
    files: VecDeque<PathBuf>,
    open: Option<(PathBuf, usize, ParquetRecordBatchReader)>,
    ready: VecDeque<Result<Sample, ImportError>>,
    roles: Arc<Roles>,
}

impl Iterator for Rows {
    type Item = Result<Sample, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(sample) = self.ready.pop_front() {
                return Some(sample);
            }
            let Some((path, row, reader)) = &mut self.open else {
                let path = self.files.pop_front()?;
                match open(&path) {
                    Ok(reader) => self.open = Some((path, 0, reader)),
                    Err(e) => return Some(Err(e)),
                }
                continue;
            };
            match reader.next() {
                None => self.open = None,
                Some(Err(e)) => {
                    let failed = ImportError::at(path, e);
                    self.open = None;
                    return Some(Err(failed));
                }
                Some(Ok(batch)) => {
                    let first = *row;
                    *row += batch.num_rows();
                    let of = |i| {
                        let place = format!("{}: row {}", path.display(), first + i);
                        sample(&batch, i, &place, &self.roles)
                            .map_err(|why| ImportError::new(place, why))
                    };
                    self.ready.extend((0..batch.num_rows()).map(of));
                }
            }
        }
    }
}

fn open(path: &Path) -> Result<ParquetRecordBatchReader, ImportError> {
    let fail = |e: String| ImportError::at(path, e);
    let file = File::open(path).map_err(|e| fail(e.to_string()))?;
    ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|b| b.with_batch_size(BATCH).build())
        .map_err(|e| fail(format!("no Parquet file that can be read: {e}")))
}

fn sample(batch: &RecordBatch, row: usize, place: &str, roles: &Roles) -> Result<Sample, String> {
    let schema = batch.schema();
    let (mut id, mut tensors) = (None, Vec::new());
    if let Some(column) = &roles.id
        && batch.column_by_name(column).is_none()
    {
        return Err(format!("there is no column `{column}` for the ids"));
    }
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let name = field.name();
        if roles.ignored.contains(name) {
            continue;
        }
        let fail = |why: String| format!("`{name}`: {why}");
        if roles.id.as_ref() == Some(name) {
            let text = arrow_cast::display::array_value_to_string(column, row);
            id = Some(text.map_err(|e| fail(e.to_string()))?);
            continue;
        }
        tensors.push(tensor(field, column, row, roles).map_err(fail)?);
    }
    Ok(Sample::new(id, place, tensors))
}

fn tensor(field: &Field, column: &dyn Array, row: usize, roles: &Roles) -> Result<Tensor, String> {
    let name = field.name();
    let extension = field
        .metadata()
        .get("ARROW:extension:name")
        .map(String::as_str);
    let mut value = Value::default();
    let mut shape = None;
    match (extension, field.data_type()) {
        (Some("arrow.variable_shape_tensor"), DataType::Struct(_)) => {
            let (data, dims) = variable(column.as_struct(), row)?;
            value.collect(&data, 0, 0)?;
            shape = Some(dims);
        }
        (Some("arrow.fixed_shape_tensor"), _) => {
            value.collect(column, row, 0)?;
            let text = field.metadata().get("ARROW:extension:metadata");
            let text = text.ok_or("a fixed shape tensor without its shape")?;
            shape = Some(fixed(text)?);
        }
        _ => value.collect(column, row, 0)?,
    }
    let given = roles.shape(name).map(<[i64]>::to_vec);
    let shape = given.or(shape).map_or_else(|| value.shape(), Ok)?;
    let (datatype, data) = match (value.datatype, roles.datatype(name)) {
        // One binary value with a datatype is that tensor's bytes.
        (Some(Datatype::Bytes), Some(wanted))
            if value.elements == 1 && wanted != Datatype::Bytes =>
        {
            (wanted, value.data.split_off(4))
        }
        (Some(found), Some(wanted)) if found != wanted => {
            return Err(format!("the file says {found}, --datatype says {wanted}"));
        }
        (found, wanted) => {
            let datatype = found.or(wanted).ok_or("an empty list says no datatype")?;
            (datatype, value.data)
        }
    };
    let elements = element_count(name, &shape).map_err(|e| e.to_string())?;
    Tensor::inline(name, datatype, shape, data.into())
        .map_err(|e| format!("{e} ({elements} elements)"))
}

/// The shape of `arrow.fixed_shape_tensor`.
fn fixed(metadata: &str) -> Result<Vec<i64>, String> {
    let json: serde_json::Value =
        serde_json::from_str(metadata).map_err(|e| format!("extension metadata: {e}"))?;
    let natural = |p: &Vec<serde_json::Value>| {
        p.iter()
            .enumerate()
            .all(|(i, v)| v.as_u64() == Some(i as u64))
    };
    if json
        .get("permutation")
        .and_then(|p| p.as_array())
        .is_some_and(|p| !natural(p))
    {
        return Err("a permuted tensor: save it in row-major order".to_owned());
    }
    let shape = json.get("shape").cloned().unwrap_or_default();
    serde_json::from_value(shape).map_err(|e| format!("extension metadata: shape: {e}"))
}

/// Data and shape of one `arrow.variable_shape_tensor`.
fn variable(column: &StructArray, row: usize) -> Result<(Arc<dyn Array>, Vec<i64>), String> {
    let part = |name: &str| {
        let part = column.column_by_name(name);
        part.ok_or_else(|| format!("a variable shape tensor without `{name}`"))
    };
    let data = part("data")?.slice(row, 1);
    let mut shape = Value::default();
    shape.collect(part("shape")?, row, 0)?;
    let dims = shape.data.chunks_exact(4).map(|c| {
        i64::from(i32::from_le_bytes(
            c.try_into().expect("chunks_exact gives four bytes"),
        ))
    });
    Ok((data, dims.collect()))
}

/// The elements of one row, collected through its nested lists.
#[derive(Default)]
struct Value {
    datatype: Option<Datatype>,
    data: Vec<u8>,
    elements: u64,
    /// Length of the lists at each depth; lists of one depth must agree.
    lengths: Vec<u64>,
}

impl Value {
    fn shape(&self) -> Result<Vec<i64>, String> {
        if self.lengths.is_empty() {
            return Ok(vec![1]);
        }
        self.lengths.iter().map(|&d| dimension(d)).collect()
    }

    fn collect(&mut self, array: &dyn Array, row: usize, depth: usize) -> Result<(), String> {
        if array.is_null(row) {
            return Err("null".to_owned());
        }
        match array.data_type() {
            DataType::List(_) => self.list(&array.as_list::<i32>().value(row), depth),
            DataType::LargeList(_) => self.list(&array.as_list::<i64>().value(row), depth),
            DataType::FixedSizeList(..) => self.list(&array.as_fixed_size_list().value(row), depth),
            _ => {
                let one = array.slice(row, 1);
                self.leaves(&one)
            }
        }
    }

    fn list(&mut self, values: &dyn Array, depth: usize) -> Result<(), String> {
        let length = values.len() as u64;
        match self.lengths.get(depth) {
            None => self.lengths.push(length),
            Some(&known) if known != length => {
                return Err(format!(
                    "ragged: lists of {known} and of {length} on axis {depth}"
                ));
            }
            Some(_) => {}
        }
        if matches!(
            values.data_type(),
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)
        ) {
            return (0..values.len()).try_for_each(|i| self.collect(values, i, depth + 1));
        }
        if values.null_count() > 0 {
            return Err("null inside a list".to_owned());
        }
        self.leaves(values)
    }

    fn leaves(&mut self, values: &dyn Array) -> Result<(), String> {
        self.elements += values.len() as u64;
        let datatype = match values.data_type() {
            DataType::Boolean => {
                self.data
                    .extend(values.as_boolean().values().iter().map(u8::from));
                Datatype::Bool
            }
            DataType::Int8 => self.numbers::<Int8Type>(values, Datatype::Int8),
            DataType::Int16 => self.numbers::<Int16Type>(values, Datatype::Int16),
            DataType::Int32 => self.numbers::<Int32Type>(values, Datatype::Int32),
            DataType::Int64 => self.numbers::<Int64Type>(values, Datatype::Int64),
            DataType::UInt8 => self.numbers::<UInt8Type>(values, Datatype::Uint8),
            DataType::UInt16 => self.numbers::<UInt16Type>(values, Datatype::Uint16),
            DataType::UInt32 => self.numbers::<UInt32Type>(values, Datatype::Uint32),
            DataType::UInt64 => self.numbers::<UInt64Type>(values, Datatype::Uint64),
            DataType::Float16 => self.numbers::<Float16Type>(values, Datatype::Fp16),
            DataType::Float32 => self.numbers::<Float32Type>(values, Datatype::Fp32),
            DataType::Float64 => self.numbers::<Float64Type>(values, Datatype::Fp64),
            DataType::Utf8 => self.texts(
                values
                    .as_string::<i32>()
                    .iter()
                    .map(|v| v.map(str::as_bytes)),
            )?,
            DataType::LargeUtf8 => self.texts(
                values
                    .as_string::<i64>()
                    .iter()
                    .map(|v| v.map(str::as_bytes)),
            )?,
            DataType::Binary => self.texts(values.as_binary::<i32>().iter())?,
            DataType::LargeBinary => self.texts(values.as_binary::<i64>().iter())?,
            other => return Err(format!("a column of {other} is no tensor: --ignore it")),
        };
        self.datatype = Some(datatype);
        Ok(())
    }

    /// Arrow's buffers are little-endian, as a capture's are.
    fn numbers<T: ArrowPrimitiveType>(
        &mut self,
        values: &dyn Array,
        datatype: Datatype,
    ) -> Datatype {
        let values = values.as_primitive::<T>().values();
        self.data.extend_from_slice(values.inner().as_slice());
        datatype
    }

    fn texts<'a>(
        &mut self,
        values: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> Result<Datatype, String> {
        self.data.extend(bytes_data(values.flatten())?);
        Ok(Datatype::Bytes)
    }
}
