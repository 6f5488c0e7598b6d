//! Which arrays are what, where the files do not say.

use std::collections::{BTreeMap, BTreeSet};

use inferdiff_schemas::{Datatype, Tensor};

use super::{Sample, dimension};

/// What the user says of the arrays.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    /// Arrays that are answers; all others are inputs.
    pub outputs: BTreeSet<String>,
    /// Arrays that are neither.
    pub ignored: BTreeSet<String>,
    /// New names.
    pub rename: BTreeMap<String, String>,
    /// Datatypes where the files do not say them.
    pub datatypes: BTreeMap<String, Datatype>,
    /// Shapes where the files do not say them.
    pub shapes: BTreeMap<String, Vec<i64>>,
    /// Column with the request's id (Parquet).
    pub id: Option<String>,
    /// Each row of axis 0 is a request of its own, with a batch of one.
    pub split: bool,
    /// The arrays lack the batch axis: one of size 1 is put before the others.
    pub unsqueeze: bool,
}

impl Roles {
    /// The datatype given for an array.
    pub fn datatype(&self, name: &str) -> Option<Datatype> {
        self.datatypes.get(name).copied()
    }

    /// The shape given for an array.
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    /// The requests of one sample with inputs and answers told apart and renamed.
    ///
    /// # Errors
    /// Arrays without rows to split, or with different numbers of them.
    pub(super) fn apply(&self, mut sample: Sample) -> Result<Vec<Sample>, String> {
        let (answers, inputs): (Vec<_>, Vec<_>) = std::mem::take(&mut sample.tensors)
            .into_iter()
            .filter(|t| !self.ignored.contains(&t.name))
            .partition(|t| self.outputs.contains(&t.name));
        sample.tensors = inputs;
        sample.answers.extend(answers);
        let tensors = sample.tensors.iter_mut().chain(&mut sample.answers);
        for t in tensors {
            if self.unsqueeze {
                t.shape.insert(0, 1);
            }
            if let Some(new) = self.rename.get(&t.name) {
                t.name.clone_from(new);
            }
        }
        if self.split {
            split(&sample)
        } else {
            Ok(vec![sample])
        }
    }
}

/// A sample per row of axis 0.
fn split(sample: &Sample) -> Result<Vec<Sample>, String> {
    let all = || sample.tensors.iter().chain(&sample.answers);
    let mut rows = None;
    for t in all() {
        let n = t
            .shape
            .first()
            .ok_or_else(|| format!("`{}` has no axis to split", t.name))?;
        match rows {
            None => rows = Some(*n),
            Some(rows) if rows != *n => {
                return Err(format!(
                    "`{}` has {n} rows where others have {rows}",
                    t.name
                ));
            }
            Some(_) => {}
        }
        if t.datatype == Datatype::Bytes {
            return Err(format!("`{}` is BYTES: split it where it is saved", t.name));
        }
    }
    let rows = usize::try_from(rows.unwrap_or(0)).map_err(|e| e.to_string())?;
    let row = |t: &Tensor, r: usize| {
        let data = t.data.as_ref().expect("imported tensors are inline");
        let each = data.len() / rows.max(1);
        let mut one = t.clone();
        one.shape[0] = 1;
        one.data = Some(data.slice(r * each..(r + 1) * each));
        one
    };
    let width = dimension(rows as u64)?.to_string().len();
    Ok((0..rows)
        .map(|r| Sample {
            id: sample.id.as_ref().map(|id| format!("{id}-{r:0width$}")),
            place: format!("{} row {r}", sample.place),
            tensors: sample.tensors.iter().map(|t| row(t, r)).collect(),
            answers: sample.answers.iter().map(|t| row(t, r)).collect(),
        })
        .collect())
}
