//! `outputs/*.parquet`: answers in the same `list<tensor>` column as a capture's.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow_array::builder::{StringBuilder, UInt64Builder};
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use ulid::Ulid;

use super::RunFileError;
use super::files::{read_batches, write_batch};
use crate::capture::{decode_tensors, encode_tensors, tensor_list};
use crate::tensor::Tensor;

/// What a stage answered to one exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAnswer {
    /// Recorder of the exchange.
    pub recorder: Ulid,
    /// Number of the exchange.
    pub seq: u64,
    /// Outputs, or the stage's own words for why there are none.
    pub answer: Result<Vec<Tensor>, String>,
}

fn schema(payload: &DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("recorder", DataType::Utf8, false),
        Field::new("seq", DataType::UInt64, false),
        Field::new("outputs", tensor_list(payload), true),
        Field::new("error", DataType::Utf8, true),
    ]))
}

static WRITTEN: LazyLock<SchemaRef> = LazyLock::new(|| schema(&DataType::BinaryView));
static READ: LazyLock<SchemaRef> = LazyLock::new(|| schema(&DataType::LargeBinary));

/// Commits one file of answers.
///
/// # Errors
/// [`RunFileError`].
pub fn write_outputs(path: &Path, rows: &[StoredAnswer]) -> Result<(), RunFileError> {
    let fail = |e: arrow_schema::ArrowError| RunFileError::new("write", path, e);
    let (mut recorder, mut seq, mut error) = (
        StringBuilder::new(),
        UInt64Builder::new(),
        StringBuilder::new(),
    );
    for row in rows {
        recorder.append_value(row.recorder.to_string());
        seq.append_value(row.seq);
        error.append_option(row.answer.as_ref().err());
    }
    let tensors = encode_tensors(rows.iter().map(|r| r.answer.as_deref().ok())).map_err(fail)?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(recorder.finish()),
        Arc::new(seq.finish()),
        tensors,
        Arc::new(error.finish()),
    ];
    write_batch(
        path,
        &RecordBatch::try_new(WRITTEN.clone(), columns).map_err(fail)?,
    )
}

/// Reads one file of answers.
///
/// # Errors
/// [`RunFileError`].
pub fn read_outputs(path: &Path) -> Result<Vec<StoredAnswer>, RunFileError> {
    let fail = |e: String| RunFileError::new("read", path, e);
    let mut rows = Vec::new();
    for batch in read_batches(path, &READ)? {
        let column = |name: &str| batch.column_by_name(name).expect("read with READ");
        let (recorder, error) = (column("recorder").as_string::<i32>(), column("error"));
        let error = error.as_string::<i32>();
        let outputs = decode_tensors(&batch, "outputs").map_err(fail)?;
        for (i, outputs) in outputs.into_iter().enumerate() {
            let why = error.is_valid(i).then(|| error.value(i).to_owned());
            rows.push(StoredAnswer {
                recorder: Ulid::from_string(recorder.value(i)).map_err(|e| fail(e.to_string()))?,
                seq: column("seq").as_primitive::<UInt64Type>().value(i),
                answer: outputs.ok_or_else(|| why.unwrap_or_default()),
            });
        }
    }
    Ok(rows)
}
