//! Labels: a Parquet file of the user's, joined to the replayed exchanges.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_schema::DataType;
use inferdiff_schemas::run::ladder::Labels;
use inferdiff_schemas::run::requests::{RequestColumns, RequestRow};
use inferdiff_schemas::run::verdicts::LabelCoverage;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::requests::{Requests, place};

/// What the label column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelKind {
    /// Integers (and BOOL): classes.
    Class,
    /// Fractions: scores.
    Score,
    /// Text.
    Text,
}

impl LabelKind {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Class => "integers",
            Self::Score => "fractions",
            Self::Text => "text",
        }
    }
}

/// The right answer to one item.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelValue {
    /// A class.
    Class(i64),
    /// A score.
    Score(f64),
    /// A text.
    Text(String),
}

impl std::fmt::Display for LabelValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Class(class) => write!(f, "{class}"),
            Self::Score(score) => write!(f, "{score}"),
            Self::Text(text) => write!(f, "`{text}`"),
        }
    }
}

/// One item's label.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The right answer.
    pub label: LabelValue,
    /// Its weight, 1 where the file has none.
    pub weight: f64,
    /// Its cluster, where the file has one.
    pub cluster: Option<String>,
}

/// Labels by (place of the request, item).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Joined {
    /// What the labels are.
    pub kind: LabelKind,
    /// Found.
    by_item: HashMap<(u32, u32), Label>,
    /// Label rows without a request.
    pub unmatched_rows: u64,
    /// Rows repeated with the same label.
    pub duplicates: u64,
    /// The first key without a request.
    pub first_unmatched: Option<String>,
}

impl Joined {
    /// The label of an item.
    pub fn get(&self, request: u32, item: u32) -> Option<&Label> {
        self.by_item.get(&(request, item))
    }

    /// Rows that name an item, or would if there were such exchanges.
    pub fn rows(&self) -> u64 {
        self.unmatched_rows + self.by_item.len() as u64
    }

    /// How labels met `items` judged items.
    pub fn coverage(&self, matched: u64, items: u64) -> LabelCoverage {
        let unused = (self.by_item.len() as u64).saturating_sub(matched);
        LabelCoverage {
            matched,
            items_without_label: items - matched,
            labels_without_item: self.unmatched_rows + unused,
            duplicates: self.duplicates,
        }
    }
}

/// Reads a label file and finds the request of each row.
///
/// # Errors
/// A sentence: no such file, columns missing or of the wrong type, an unknown key kind, two
/// different labels for one item, two exchanges with the same key and differing position; or why the
/// run's requests cannot be read.
pub(crate) fn join(labels: &Labels, requests: &Requests) -> Result<Joined, String> {
    let fail = |why: &dyn std::fmt::Display| format!("labels {}: {why}", labels.file.display());
    known(&labels.key).map_err(|e| fail(&e))?;
    let (kind, rows) = read(&labels.file).map_err(|e| fail(&e))?;
    let mut joined = Joined {
        kind,
        by_item: HashMap::new(),
        unmatched_rows: 0,
        duplicates: 0,
        first_unmatched: None,
    };
    // The rows of each key, with their place in the file.
    let mut by_key: HashMap<String, Vec<(usize, u32, Label)>> = HashMap::new();
    for (at, row) in rows.into_iter().enumerate() {
        let before = by_key.get(&row.key);
        let before = before.and_then(|of| of.iter().find(|(_, item, _)| *item == row.item));
        match before {
            Some((_, item, before)) if before.label != row.label.label => {
                let (key, label) = (&row.key, &row.label.label);
                return Err(fail(&format!(
                    "key `{key}` item {item} is labelled {} and {label}: remove one",
                    before.label
                )));
            }
            Some(_) => joined.duplicates += 1,
            None => {
                let of = by_key.entry(row.key).or_default();
                of.push((at, row.item, row.label));
            }
        }
    }
    let mut met: HashSet<usize> = HashSet::new();
    let stored = requests.read(RequestColumns::All);
    for (request, row) in stored.map_err(|e| e.to_string())?.enumerate() {
        let row = row.map_err(|e| e.to_string())?;
        // A client may send one request twice: the label holds for each.
        let of = key_of(&labels.key, &row).and_then(|key| by_key.get(&key));
        for (at, item, label) in of.into_iter().flatten() {
            met.insert(*at);
            joined
                .by_item
                .insert((place(request), *item), label.clone());
        }
    }
    let unmet = by_key.iter().flat_map(|(key, of)| {
        let unmet = of.iter().filter(|(at, ..)| !met.contains(at));
        unmet.map(move |(at, ..)| (*at, key))
    });
    joined.unmatched_rows = unmet.clone().count() as u64;
    joined.first_unmatched = unmet.min().map(|(_, key)| key.clone());
    Ok(joined)
}

/// The key by which labels of this kind name an exchange; `None` where it has none, or where the
/// kind is unknown.
pub(crate) fn key_of(kind: &str, r: &RequestRow) -> Option<String> {
    match kind.split_once(':') {
        None if kind == "client_request_id" => r.client_request_id.clone(),
        None if kind == "seq" => Some(r.seq.to_string()),
        None if kind == "input_digest" => {
            let digest = r.input_digest?;
            Some(digest.iter().map(|b| format!("{b:02x}")).collect())
        }
        Some(("header", name)) => r.header(name),
        _ => None,
    }
}

fn known(kind: &str) -> Result<(), String> {
    let named = kind.strip_prefix("header:").is_some_and(|n| !n.is_empty());
    if !named && !["client_request_id", "seq", "input_digest"].contains(&kind) {
        return Err(format!(
            "unknown key `{kind}`; known: client_request_id, seq, input_digest, header:NAME"
        ));
    }
    Ok(())
}

struct Row {
    key: String,
    item: u32,
    label: Label,
}

fn read(path: &Path) -> Result<(LabelKind, Vec<Row>), String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|e| format!("it is no Parquet file that can be read: {e}"))?;
    let mut rows = Vec::new();
    let mut kind = LabelKind::Class;
    for batch in reader {
        let batch = batch.map_err(|e| e.to_string())?;
        kind = batch_rows(&batch, &mut rows)?;
    }
    Ok((kind, rows))
}

/// The kind of a label column, and the type that it is read as.
fn label_kind(batch: &RecordBatch) -> (LabelKind, DataType) {
    let found = batch.column_by_name("label").map(|c| c.data_type().clone());
    match found {
        Some(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => {
            (LabelKind::Text, DataType::Utf8)
        }
        Some(t) if t.is_floating() => (LabelKind::Score, DataType::Float64),
        _ => (LabelKind::Class, DataType::Int64),
    }
}

fn batch_rows(batch: &RecordBatch, rows: &mut Vec<Row>) -> Result<LabelKind, String> {
    let column = |name: &str, ty: DataType| -> Result<Option<ArrayRef>, String> {
        let Some(column) = batch.column_by_name(name) else {
            return Ok(None);
        };
        let found = column.data_type().clone();
        let wrong = || format!("column `{name}` is {found}, it must be readable as {ty}");
        // A cast from text would turn "7.5" and "cat" into null: numbers must be numbers.
        let text = matches!(
            found,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        );
        let fraction = found.is_floating() && ty == DataType::Int64;
        if (text && ty != DataType::Utf8) || fraction {
            return Err(wrong());
        }
        let cast = cast(column, &ty).map_err(|_| wrong())?;
        if cast.null_count() > 0 {
            return Err(format!("column `{name}` has {} nulls", cast.null_count()));
        }
        Ok(Some(cast))
    };
    let need = |name: &str, ty: DataType| {
        let names: Vec<_> = batch
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        column(name, ty)?
            .ok_or_else(|| format!("column `{name}` is missing; it has {}", names.join(", ")))
    };
    let key = need("key", DataType::Utf8)?;
    let (kind, as_type) = label_kind(batch);
    let label = need("label", as_type)?;
    let item = column("item", DataType::Int64)?;
    let weight = column("weight", DataType::Float64)?;
    let cluster = column("cluster", DataType::Utf8)?;
    for i in 0..batch.num_rows() {
        let item = item
            .as_ref()
            .map_or(0, |c| c.as_primitive::<Int64Type>().value(i));
        let weight = weight
            .as_ref()
            .map_or(1.0, |c| c.as_primitive::<Float64Type>().value(i));
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(format!("row {i}: weight {weight} must be above 0"));
        }
        rows.push(Row {
            key: key.as_string::<i32>().value(i).to_owned(),
            item: u32::try_from(item).map_err(|_| format!("row {i}: item {item} is no row"))?,
            label: Label {
                label: match kind {
                    LabelKind::Class => {
                        LabelValue::Class(label.as_primitive::<Int64Type>().value(i))
                    }
                    LabelKind::Text => {
                        LabelValue::Text(label.as_string::<i32>().value(i).to_owned())
                    }
                    LabelKind::Score => {
                        let score = label.as_primitive::<Float64Type>().value(i);
                        if !score.is_finite() {
                            return Err(format!("row {i}: label {score} is no finite number"));
                        }
                        LabelValue::Score(score)
                    }
                },
                weight,
                cluster: cluster
                    .as_ref()
                    .map(|c| c.as_string::<i32>().value(i).to_owned()),
            },
        });
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};
    use parquet::arrow::ArrowWriter;
    use ulid::Ulid;

    use super::*;
    use crate::requests::tests::kept;

    fn request(seq: u64, id: &str) -> inferdiff_schemas::Exchange {
        inferdiff_schemas::Exchange {
            client_request_id: Some(id.to_owned()),
            request_headers: vec![("x-key".to_owned(), format!("h{seq}"))],
            ..inferdiff_schemas::Exchange::new(Ulid::nil(), seq)
        }
    }

    fn joined(rows: &[(&str, i64, i64)], kind: &str) -> Result<Joined, String> {
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "key",
                Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0))),
            ),
            (
                "item",
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1))),
            ),
            (
                "label",
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.2))),
            ),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("labels.parquet");
        let mut writer =
            ArrowWriter::try_new(File::create(&file).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        // The same client id twice: a client that sent its request again.
        let (_folder, requests) = kept([request(0, "a"), request(1, "b"), request(2, "a")]);
        join(
            &Labels {
                file,
                key: kind.to_owned(),
            },
            &requests,
        )
    }

    #[test]
    fn labels_find_every_request_of_their_key_and_the_rest_is_counted() {
        let j = joined(
            &[("a", 0, 3), ("b", 0, 5), ("nobody", 0, 1), ("b", 0, 5)],
            "client_request_id",
        )
        .unwrap();
        let of = |request: u32| j.by_item[&(request, 0)].label.clone();
        assert_eq!((of(0), of(2)), (LabelValue::Class(3), LabelValue::Class(3)));
        assert_eq!(
            (of(1), j.unmatched_rows, j.duplicates),
            (LabelValue::Class(5), 1, 1)
        );
        let c = j.coverage(3, 4);
        assert_eq!((c.items_without_label, c.labels_without_item), (1, 1));
        let by_header = joined(&[("h1", 0, 9)], "header:X-Key").unwrap();
        assert_eq!(by_header.by_item[&(1, 0)].label, LabelValue::Class(9));
    }

    #[test]
    fn two_labels_for_one_item_are_an_error_that_names_both() {
        let why = joined(&[("a", 0, 3), ("a", 0, 4)], "client_request_id").unwrap_err();
        assert!(why.contains("key `a` item 0 is labelled 3 and 4"), "{why}");
        assert!(
            joined(&[("a", 0, 3)], "id")
                .unwrap_err()
                .contains("unknown key `id`")
        );
        assert!(
            joined(&[("a", -1, 3)], "seq")
                .unwrap_err()
                .contains("item -1")
        );
    }
}
