//! Values under names: rows (a list of objects, axis 0 = the rows) and columns (one object).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{MAX_TENSORS, WireError};

/// JSON values by tensor, in the order in which names first came.
pub(super) enum Columns<'a> {
    /// One value without a name.
    Bare(&'a RawValue),
    /// A value per name.
    Named(Vec<(Cow<'a, str>, &'a RawValue)>),
    /// A value per name and row.
    Stacked(Vec<(Cow<'a, str>, Vec<&'a RawValue>)>),
}

/// TensorFlow Serving's `instances`, `predictions` and `examples`.
///
/// # Errors
/// No list; rows that do not all have the same names.
pub(super) fn rows(value: &RawValue) -> Result<Columns<'_>, WireError> {
    let text = value.get().trim_ascii_start();
    let Some(first) = text.strip_prefix('[').map(str::trim_ascii_start) else {
        return Err(WireError::new("rows must be a list"));
    };
    if !is_object(first) {
        return Ok(Columns::Bare(value));
    }
    let mut json = serde_json::Deserializer::from_str(value.get());
    let rows = json.deserialize_seq(Rows).map_err(WireError::new)?;
    Ok(Columns::Stacked(rows))
}

/// TensorFlow Serving's `inputs` and `outputs`.
///
/// # Errors
/// A name that comes twice.
pub(super) fn columns(value: &RawValue) -> Result<Columns<'_>, WireError> {
    if !is_object(value.get().trim_ascii_start()) {
        return Ok(Columns::Bare(value));
    }
    let mut json = serde_json::Deserializer::from_str(value.get());
    let mut named = Table::default();
    Row { into: &mut named }
        .deserialize(&mut json)
        .map_err(WireError::new)?;
    let single = named
        .columns
        .into_iter()
        .map(|(name, rows)| (name, rows[0]));
    Ok(Columns::Named(single.collect()))
}

/// An object that is not itself a value (`{"b64":…}`, a marked NaN).
fn is_object(text: &str) -> bool {
    text.strip_prefix('{')
        .map(str::trim_ascii_start)
        .is_some_and(|rest| !rest.starts_with("\"b64\"") && !rest.starts_with("\"~\""))
}

#[derive(Default)]
struct Table<'a> {
    rows: usize,
    columns: Vec<(Cow<'a, str>, Vec<&'a RawValue>)>,
    places: HashMap<String, usize>,
}

struct Rows;

impl<'de> Visitor<'de> for Rows {
    type Value = Vec<(Cow<'de, str>, Vec<&'de RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut table = Table::default();
        while seq.next_element_seed(Row { into: &mut table })?.is_some() {}
        Ok(table.columns)
    }
}

struct Row<'t, 'a> {
    into: &'t mut Table<'a>,
}

impl<'de> DeserializeSeed<'de> for Row<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Row<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of name and value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let table = self.into;
        let mut here = 0;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let value: &'de RawValue = map.next_value()?;
            let place = match table.places.get(&*name) {
                Some(&place) => place,
                None if table.rows > 0 => {
                    return Err(A::Error::custom(format!(
                        "row {} has `{name}`, the rows before it have not",
                        table.rows
                    )));
                }
                None if table.columns.len() == MAX_TENSORS => {
                    return Err(A::Error::custom(format!("more than {MAX_TENSORS} names")));
                }
                None => {
                    table
                        .places
                        .insert(name.clone().into_owned(), table.columns.len());
                    table.columns.push((name.clone(), Vec::new()));
                    table.columns.len() - 1
                }
            };
            let column = &mut table.columns[place].1;
            if column.len() != table.rows {
                return Err(A::Error::custom(format!("`{name}` comes twice")));
            }
            column.push(value);
            here += 1;
        }
        if here != table.columns.len() {
            return Err(A::Error::custom(format!(
                "row {} lacks a name that the rows before it have",
                table.rows
            )));
        }
        table.rows += 1;
        Ok(())
    }
}
