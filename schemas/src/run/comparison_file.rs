//! `comparisons/*.parquet`.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt32Type, UInt64Type};
use arrow_array::{Array, Float64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::SchemaDescPtr;

use super::RunFileError;
use super::comparison::{Comparison, ComparisonRow, Outcome};
use super::files::{RowReader, TableReader};
use super::growing::{Buffers, Growing, LONG_TEXTS, columns, parquet_columns};
use crate::capture::Ulids;
use crate::columns::{Column, Numbers, Recorders, Shapes, Texts};

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
        column("p50_abs", DataType::Float64, true),
        column("p99_abs", DataType::Float64, true),
        column("p999_abs", DataType::Float64, true),
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

static COLUMNS: LazyLock<SchemaDescPtr> = LazyLock::new(|| parquet_columns(&SCHEMA));

/// Rows of a row group, at most: the writer holds it in memory, two hundred bytes a row.
const FULL: usize = 16 << 10;

/// Memory of a writer, for the next one.
#[derive(Default)]
pub struct ComparisonBuffers {
    file: Buffers,
    columns: Columns,
}

/// Writes one file of comparisons, row group by row group: memory does not grow with the rows.
pub struct ComparisonWriter {
    growing: Growing,
    columns: Columns,
    /// Of the row group.
    rows: usize,
}

columns! {
    COLUMNS:
    recorder: Recorders,
    seq: Numbers<u64>,
    item: Numbers<u32>,
    output: Texts,
    outcome: Texts,
    error: Texts,
    datatype: Texts,
    shape: Shapes,
    elements: Numbers<u64>,
    bits_equal: Numbers<bool>,
    production_equal: Numbers<bool>,
    max_abs: Numbers<f64>,
    mean_abs: Numbers<f64>,
    p50_abs: Numbers<f64>,
    p99_abs: Numbers<f64>,
    p999_abs: Numbers<f64>,
    max_rel: Numbers<f64>,
    rel_l2: Numbers<f64>,
    cosine: Numbers<f64>,
    log_norm_ratio: Numbers<f64>,
    max_ulp: Numbers<u64>,
    violations: Numbers<u64>,
    rtol: Numbers<f64>,
    atol: Numbers<f64>,
    nonfinite_mismatches: Numbers<u64>,
    nonfinite_matched: Numbers<u64>,
    worst_index: Numbers<u64>,
    reference_top1: Numbers<u32>,
    stage_top1: Numbers<u32>,
    reference_margin: Numbers<f64>,
    reference_tie: Numbers<bool>,
    stage_tie: Numbers<bool>,
}

impl ComparisonWriter {
    /// Begins a file; it is not there before [`Self::commit`].
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn create(path: &Path, buffers: ComparisonBuffers) -> Result<Self, RunFileError> {
        Ok(Self {
            growing: Growing::create(path, &SCHEMA, &COLUMNS, buffers.file)?,
            columns: buffers.columns,
            rows: 0,
        })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn push(&mut self, row: &ComparisonRow<'_>) -> Result<(), RunFileError> {
        let (c, n) = (&mut self.columns, &row.numbers);
        c.recorder.append_value(row.recorder);
        c.seq.append_value(row.seq);
        c.item.append_value(row.item);
        c.output.append_value(row.output);
        c.outcome.append_value(row.outcome.name());
        c.error.append_option(row.error);
        c.datatype.append_value(row.datatype);
        c.shape.append_value(row.shape);
        c.elements.append_value(n.elements);
        c.bits_equal.append_value(n.bits_equal);
        c.production_equal.append_option(row.production_equal);
        c.max_abs.append_option(n.max_abs);
        c.mean_abs.append_option(n.mean_abs);
        c.p50_abs.append_option(n.p50_abs);
        c.p99_abs.append_option(n.p99_abs);
        c.p999_abs.append_option(n.p999_abs);
        c.max_rel.append_option(n.max_rel);
        c.rel_l2.append_option(n.rel_l2);
        c.cosine.append_option(n.cosine);
        c.log_norm_ratio.append_option(n.log_norm_ratio);
        c.max_ulp.append_option(n.max_ulp);
        c.violations.append_value(n.violations);
        c.rtol.append_value(row.rtol);
        c.atol.append_value(row.atol);
        c.nonfinite_mismatches.append_value(n.nonfinite_mismatches);
        c.nonfinite_matched.append_value(n.nonfinite_matched);
        c.worst_index.append_option(n.worst_index);
        c.reference_top1.append_option(n.reference_top1);
        c.stage_top1.append_option(n.stage_top1);
        c.reference_margin.append_option(n.reference_margin);
        c.reference_tie.append_value(n.reference_tie);
        c.stage_tie.append_value(n.stage_tie);
        self.rows += 1;
        let encoded = match self.rows {
            FULL => self.end_group(),
            _ if self.columns.error.bytes() >= LONG_TEXTS => self.end_group(),
            _ => Ok(()),
        };
        encoded.map_err(|e| self.growing.error(e))
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn commit(mut self) -> Result<ComparisonBuffers, RunFileError> {
        if self.rows > 0 {
            let ended = self.end_group();
            ended.map_err(|e| self.growing.error(e))?;
        }
        Ok(ComparisonBuffers {
            file: self.growing.commit()?,
            columns: self.columns,
        })
    }

    fn end_group(&mut self) -> Result<(), ParquetError> {
        let rows = std::mem::take(&mut self.rows);
        let columns = &mut self.columns;
        self.growing
            .row_group(rows, |out, scratch| columns.encode(out, scratch))
    }
}

/// What of the rows is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComparisonColumns {
    /// Everything.
    All,
    /// What verdicts rest on. Of the rest texts are empty, counts and tolerances 0, numbers `None`.
    Judged,
}

/// What no verdict rests on: a third of the columns.
const NOT_JUDGED: [&str; 11] = [
    "datatype",
    "elements",
    "mean_abs",
    "p50_abs",
    "p99_abs",
    "p999_abs",
    "max_rel",
    "log_norm_ratio",
    "rtol",
    "atol",
    "nonfinite_matched",
];

static JUDGED: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let names = SCHEMA.fields().iter().map(|f| f.name().as_str());
    names.filter(|name| !NOT_JUDGED.contains(name)).collect()
});

/// Reads one file of comparisons in the order they were written, a few rows at a time.
pub struct ComparisonReader {
    rows: RowReader<Comparison>,
    last: Last,
}

/// What mostly repeats, shared between rows.
#[derive(Default)]
struct Last {
    ulids: Ulids,
    output: Option<Arc<str>>,
    datatype: Option<Arc<str>>,
    shape: Option<Arc<[i64]>>,
}

impl ComparisonReader {
    /// Opens a file of comparisons.
    ///
    /// # Errors
    /// [`RunFileError`].
    pub fn open(path: &Path, columns: ComparisonColumns) -> Result<Self, RunFileError> {
        let columns = match columns {
            ComparisonColumns::All => None,
            ComparisonColumns::Judged => Some(JUDGED.as_slice()),
        };
        let table = TableReader::open(path, &SCHEMA, columns)?;
        Ok(Self {
            rows: RowReader::new(table),
            last: Last::default(),
        })
    }

    /// The next rows: for who looks at very many, of which each is long, and moves none.
    pub fn few(&mut self) -> Option<Result<Vec<Comparison>, RunFileError>> {
        self.rows.few(|batch| decode(batch, &mut self.last))
    }
}

impl Iterator for ComparisonReader {
    type Item = Result<Comparison, RunFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next(|batch| decode(batch, &mut self.last))
    }
}

/// The value, one with that of the row before where they are equal, as they mostly are.
fn shared<T: ?Sized + PartialEq>(last: &mut Option<Arc<T>>, value: &T) -> Arc<T>
where
    for<'a> Arc<T>: From<&'a T>,
{
    let known = last.take().filter(|known| **known == *value);
    let value = known.unwrap_or_else(|| Arc::from(value));
    *last = Some(Arc::clone(&value));
    value
}

fn decode(batch: &RecordBatch, last: &mut Last) -> Result<Vec<Comparison>, String> {
    // The batch was read as SCHEMA, so every column that was asked for is there with its type.
    let column = |name: &str| batch.column_by_name(name).expect("read with SCHEMA");
    let text = |name: &str| column(name).as_string::<i32>();
    let u64s = |name: &str| column(name).as_primitive::<UInt64Type>();
    let u32s = |name: &str| column(name).as_primitive::<UInt32Type>();
    let f64s = |name: &str| column(name).as_primitive::<Float64Type>();
    let bools = |name: &str| column(name).as_boolean();
    let found = |name: &str| batch.column_by_name(name);
    let texts_if = |name: &str| found(name).map(|c| c.as_string::<i32>());
    let u64s_if = |name: &str| found(name).map(|c| c.as_primitive::<UInt64Type>());
    let f64s_if = |name: &str| found(name).map(|c| c.as_primitive::<Float64Type>());
    let number = |array: Option<&Float64Array>, i: usize| {
        let array = array.filter(|a| a.is_valid(i))?;
        Some(array.value(i))
    };
    macro_rules! maybe {
        ($array:expr, $i:expr) => {{
            let array = $array;
            array.is_valid($i).then(|| array.value($i))
        }};
    }
    let outcomes = text("outcome");
    let recorder = text("recorder");
    let seq = u64s("seq");
    let item = u32s("item");
    let output = text("output");
    let error = text("error");
    let datatype = texts_if("datatype");
    let elements = u64s_if("elements");
    let bits_equal = bools("bits_equal");
    let production_equal = bools("production_equal");
    let max_abs = f64s("max_abs");
    let mean_abs = f64s_if("mean_abs");
    let p50_abs = f64s_if("p50_abs");
    let p99_abs = f64s_if("p99_abs");
    let p999_abs = f64s_if("p999_abs");
    let max_rel = f64s_if("max_rel");
    let rel_l2 = f64s("rel_l2");
    let cosine = f64s("cosine");
    let log_norm_ratio = f64s_if("log_norm_ratio");
    let max_ulp = u64s("max_ulp");
    let violations = u64s("violations");
    let rtol = f64s_if("rtol");
    let atol = f64s_if("atol");
    let nonfinite_mismatches = u64s("nonfinite_mismatches");
    let nonfinite_matched = u64s_if("nonfinite_matched");
    let worst_index = u64s("worst_index");
    let reference_top1 = u32s("reference_top1");
    let stage_top1 = u32s("stage_top1");
    let reference_margin = f64s("reference_margin");
    let reference_tie = bools("reference_tie");
    let stage_tie = bools("stage_tie");
    let shape = column("shape").as_list::<i32>();
    let dimensions = shape.values().as_primitive::<Int64Type>().values();
    let offsets = shape.value_offsets();
    let start = |i: usize| usize::try_from(offsets[i]).expect("Arrow offsets are never negative");
    let mut rows = Vec::with_capacity(batch.num_rows());
    for i in 0..batch.num_rows() {
        let outcome = outcomes.value(i);
        rows.push(Comparison {
            recorder: last
                .ulids
                .parse(recorder.value(i))
                .map_err(|e| e.to_string())?,
            seq: seq.value(i),
            item: item.value(i),
            output: shared(&mut last.output, output.value(i)),
            outcome: Outcome::from_name(outcome)
                .ok_or_else(|| format!("unknown outcome `{outcome}`"))?,
            error: maybe!(error, i).map(str::to_owned),
            datatype: shared(&mut last.datatype, datatype.map_or("", |a| a.value(i))),
            shape: shared(&mut last.shape, &dimensions[start(i)..start(i + 1)]),
            elements: elements.map_or(0, |a| a.value(i)),
            bits_equal: bits_equal.value(i),
            production_equal: maybe!(production_equal, i),
            max_abs: maybe!(max_abs, i),
            mean_abs: number(mean_abs, i),
            p50_abs: number(p50_abs, i),
            p99_abs: number(p99_abs, i),
            p999_abs: number(p999_abs, i),
            max_rel: number(max_rel, i),
            rel_l2: maybe!(rel_l2, i),
            cosine: maybe!(cosine, i),
            log_norm_ratio: number(log_norm_ratio, i),
            max_ulp: maybe!(max_ulp, i),
            violations: violations.value(i),
            rtol: rtol.map_or(0.0, |a| a.value(i)),
            atol: atol.map_or(0.0, |a| a.value(i)),
            nonfinite_mismatches: nonfinite_mismatches.value(i),
            nonfinite_matched: nonfinite_matched.map_or(0, |a| a.value(i)),
            worst_index: maybe!(worst_index, i),
            reference_top1: maybe!(reference_top1, i),
            stage_top1: maybe!(stage_top1, i),
            reference_margin: maybe!(reference_margin, i),
            reference_tie: reference_tie.value(i),
            stage_tie: stage_tie.value(i),
        });
    }
    Ok(rows)
}
