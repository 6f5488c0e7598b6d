//! `comparisons/*.parquet`.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow_array::builder::{
    BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, StringBuilder, UInt32Builder,
    UInt64Builder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use ulid::Ulid;

use super::RunFileError;
use super::comparison::{Comparison, Outcome};
use super::files::{read_batches, write_batch};

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let dims = DataType::List(Arc::new(Field::new("item", DataType::Int64, false)));
    let column = |name: &str, ty: DataType, nullable: bool| Field::new(name, ty, nullable);
    Arc::new(Schema::new(vec![
        column("recorder", DataType::Utf8, false),
        column("seq", DataType::UInt64, false),
        column("item", DataType::UInt32, false),
        column("output", DataType::Utf8, false),
        column("outcome", DataType::Utf8, false),
        column("error", DataType::Utf8, true),
        column("datatype", DataType::Utf8, false),
        column("shape", dims, false),
        column("elements", DataType::UInt64, false),
        column("bits_equal", DataType::Boolean, false),
        column("production_equal", DataType::Boolean, true),
        column("max_abs", DataType::Float64, true),
        column("mean_abs", DataType::Float64, true),
        column("max_rel", DataType::Float64, true),
        column("rel_l2", DataType::Float64, true),
        column("cosine", DataType::Float64, true),
        column("log_norm_ratio", DataType::Float64, true),
        column("max_ulp", DataType::UInt64, true),
        column("violations", DataType::UInt64, false),
        column("rtol", DataType::Float64, false),
        column("atol", DataType::Float64, false),
        column("nonfinite_mismatches", DataType::UInt64, false),
        column("nonfinite_matched", DataType::UInt64, false),
        column("worst_index", DataType::UInt64, true),
        column("reference_top1", DataType::UInt32, true),
        column("stage_top1", DataType::UInt32, true),
        column("reference_margin", DataType::Float64, true),
        column("reference_tie", DataType::Boolean, false),
        column("stage_tie", DataType::Boolean, false),
    ]))
});

/// Commits one file of comparisons.
///
/// # Errors
/// [`RunFileError`].
pub fn write_comparisons(path: &Path, rows: &[Comparison]) -> Result<(), RunFileError> {
    macro_rules! column {
        ($builder:ty, $r:ident => $value:expr) => {{
            let mut b = <$builder>::new();
            for $r in rows {
                b.append_option($value);
            }
            Arc::new(b.finish()) as ArrayRef
        }};
    }
    let mut shape = ListBuilder::new(Int64Builder::new()).with_field(Field::new(
        "item",
        DataType::Int64,
        false,
    ));
    for r in rows {
        shape.values().append_slice(&r.shape);
        shape.append(true);
    }
    let columns = vec![
        column!(StringBuilder, r => Some(r.recorder.to_string())),
        column!(UInt64Builder, r => Some(r.seq)),
        column!(UInt32Builder, r => Some(r.item)),
        column!(StringBuilder, r => Some(&r.output)),
        column!(StringBuilder, r => Some(r.outcome.name())),
        column!(StringBuilder, r => r.error.as_deref()),
        column!(StringBuilder, r => Some(&r.datatype)),
        Arc::new(shape.finish()) as ArrayRef,
        column!(UInt64Builder, r => Some(r.elements)),
        column!(BooleanBuilder, r => Some(r.bits_equal)),
        column!(BooleanBuilder, r => r.production_equal),
        column!(Float64Builder, r => r.max_abs),
        column!(Float64Builder, r => r.mean_abs),
        column!(Float64Builder, r => r.max_rel),
        column!(Float64Builder, r => r.rel_l2),
        column!(Float64Builder, r => r.cosine),
        column!(Float64Builder, r => r.log_norm_ratio),
        column!(UInt64Builder, r => r.max_ulp),
        column!(UInt64Builder, r => Some(r.violations)),
        column!(Float64Builder, r => Some(r.rtol)),
        column!(Float64Builder, r => Some(r.atol)),
        column!(UInt64Builder, r => Some(r.nonfinite_mismatches)),
        column!(UInt64Builder, r => Some(r.nonfinite_matched)),
        column!(UInt64Builder, r => r.worst_index),
        column!(UInt32Builder, r => r.reference_top1),
        column!(UInt32Builder, r => r.stage_top1),
        column!(Float64Builder, r => r.reference_margin),
        column!(BooleanBuilder, r => Some(r.reference_tie)),
        column!(BooleanBuilder, r => Some(r.stage_tie)),
    ];
    let batch = RecordBatch::try_new(SCHEMA.clone(), columns)
        .map_err(|e| RunFileError::new("write", path, e))?;
    write_batch(path, &batch)
}

/// Reads one file of comparisons.
///
/// # Errors
/// [`RunFileError`].
pub fn read_comparisons(path: &Path) -> Result<Vec<Comparison>, RunFileError> {
    let mut rows = Vec::new();
    for batch in read_batches(path, &SCHEMA)? {
        decode(&batch, &mut rows).map_err(|e| RunFileError::new("read", path, e))?;
    }
    Ok(rows)
}

fn decode(batch: &RecordBatch, rows: &mut Vec<Comparison>) -> Result<(), String> {
    // The batch was read as SCHEMA, so every column is there with its type.
    let column = |name: &str| batch.column_by_name(name).expect("read with SCHEMA");
    let text = |name: &str| column(name).as_string::<i32>();
    let u64s = |name: &str| column(name).as_primitive::<UInt64Type>();
    let u32s = |name: &str| column(name).as_primitive::<UInt32Type>();
    let f64s = |name: &str| column(name).as_primitive::<Float64Type>();
    let bools = |name: &str| column(name).as_boolean();
    macro_rules! maybe {
        ($array:expr, $i:expr) => {{
            let array = $array;
            array.is_valid($i).then(|| array.value($i))
        }};
    }
    let shape = column("shape").as_list::<i32>();
    for i in 0..batch.num_rows() {
        let outcome = text("outcome").value(i);
        rows.push(Comparison {
            recorder: Ulid::from_string(text("recorder").value(i)).map_err(|e| e.to_string())?,
            seq: u64s("seq").value(i),
            item: u32s("item").value(i),
            output: text("output").value(i).to_owned(),
            outcome: Outcome::from_name(outcome)
                .ok_or_else(|| format!("unknown outcome `{outcome}`"))?,
            error: maybe!(text("error"), i).map(str::to_owned),
            datatype: text("datatype").value(i).to_owned(),
            shape: shape.value(i).as_primitive::<Int64Type>().values().to_vec(),
            elements: u64s("elements").value(i),
            bits_equal: bools("bits_equal").value(i),
            production_equal: maybe!(bools("production_equal"), i),
            max_abs: maybe!(f64s("max_abs"), i),
            mean_abs: maybe!(f64s("mean_abs"), i),
            max_rel: maybe!(f64s("max_rel"), i),
            rel_l2: maybe!(f64s("rel_l2"), i),
            cosine: maybe!(f64s("cosine"), i),
            log_norm_ratio: maybe!(f64s("log_norm_ratio"), i),
            max_ulp: maybe!(u64s("max_ulp"), i),
            violations: u64s("violations").value(i),
            rtol: f64s("rtol").value(i),
            atol: f64s("atol").value(i),
            nonfinite_mismatches: u64s("nonfinite_mismatches").value(i),
            nonfinite_matched: u64s("nonfinite_matched").value(i),
            worst_index: maybe!(u64s("worst_index"), i),
            reference_top1: maybe!(u32s("reference_top1"), i),
            stage_top1: maybe!(u32s("stage_top1"), i),
            reference_margin: maybe!(f64s("reference_margin"), i),
            reference_tie: bools("reference_tie").value(i),
            stage_tie: bools("stage_tie").value(i),
        });
    }
    Ok(())
}
