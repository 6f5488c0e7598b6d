//! Min, max and an observed opt per input.

use std::collections::{BTreeMap, BTreeSet};

use inferdiff_schemas::Exchange;
use inferdiff_schemas::capture::{Capture, CaptureError, Projection};

/// The shapes of one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Least of each dimension.
    pub min: Vec<i64>,
    /// The shape that this input has in the most frequent request.
    pub opt: Vec<i64>,
    /// Largest of each dimension.
    pub max: Vec<i64>,
}

/// A min/opt/max box by input name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// By input name.
    pub inputs: BTreeMap<String, Range>,
    /// Requests that it was made of.
    pub requests: u64,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ShapesError {
    /// The capture.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Requests that no profile can hold.
    #[error("{0}")]
    Requests(String),
}

type Shapes = BTreeMap<String, Vec<i64>>;

/// Reads names and shapes of every decoded request (never the data).
///
/// opt is the joint shape of all inputs that occurs most often, ties to the smallest volume: unlike
/// a per-dimension mode it is a request that was really seen.
///
/// # Errors
/// [`ShapesError`]: no decoded request, several models, an input whose rank varies.
pub fn collect(capture: &Capture, model: Option<&str>) -> Result<Profile, ShapesError> {
    let mut counts: BTreeMap<Shapes, u64> = BTreeMap::new();
    let mut models = BTreeSet::new();
    for segment in capture.segments() {
        for row_group in 0..segment.row_groups {
            for e in capture.read(segment, row_group, Projection::Shapes)? {
                let wanted = model.is_none_or(|m| e.model.as_deref() == Some(m));
                if let Some(shapes) = shapes(&e).filter(|_| wanted) {
                    models.insert(e.model.unwrap_or_default());
                    *counts.entry(shapes).or_default() += 1;
                }
            }
        }
    }
    profile(&counts, &models)
}

fn shapes(e: &Exchange) -> Option<Shapes> {
    let inputs = e.inputs.as_ref().filter(|i| !i.is_empty())?;
    Some(
        inputs
            .iter()
            .map(|t| (t.name.clone(), t.shape.clone()))
            .collect(),
    )
}

fn profile(
    counts: &BTreeMap<Shapes, u64>,
    models: &BTreeSet<String>,
) -> Result<Profile, ShapesError> {
    if models.len() > 1 {
        let names = models.iter().cloned().collect::<Vec<_>>().join(", ");
        let why = format!("several models were captured ({names}): choose one with --model-name");
        return Err(ShapesError::Requests(why));
    }
    let volume = |s: &Shapes| -> i128 {
        s.values()
            .map(|d| d.iter().map(|&d| i128::from(d)).product::<i128>())
            .sum()
    };
    let most = counts
        .iter()
        .max_by_key(|(shapes, n)| (**n, -volume(shapes)));
    let Some((opt, _)) = most else {
        let why = "no decoded inference request was captured".to_owned();
        return Err(ShapesError::Requests(why));
    };
    let mut inputs: BTreeMap<String, Range> = BTreeMap::new();
    for (name, shape) in counts.keys().flatten() {
        let range = inputs.entry(name.clone()).or_insert_with(|| Range {
            min: shape.clone(),
            opt: opt.get(name).unwrap_or(shape).clone(),
            max: shape.clone(),
        });
        if range.min.len() != shape.len() {
            let why = format!(
                "input `{name}` has {} dimensions in some requests and {} in others: no profile \
                 holds both",
                range.min.len(),
                shape.len()
            );
            return Err(ShapesError::Requests(why));
        }
        for (i, &d) in shape.iter().enumerate() {
            range.min[i] = range.min[i].min(d);
            range.max[i] = range.max[i].max(d);
        }
    }
    Ok(Profile {
        inputs,
        requests: counts.values().sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(requests: &[(&[i64], u64)]) -> Result<Profile, ShapesError> {
        let counts = requests
            .iter()
            .map(|(s, n)| (Shapes::from([("x".to_owned(), s.to_vec())]), *n))
            .collect();
        profile(&counts, &BTreeSet::from(["m".to_owned()]))
    }

    #[test]
    fn opt_is_a_shape_that_was_seen() {
        // The mode of each dimension alone would be [2, 7], which nobody sent.
        let p = of(&[(&[2, 3], 3), (&[1, 7], 2), (&[4, 7], 2), (&[2, 5], 0)]).unwrap();
        let x = &p.inputs["x"];
        assert_eq!(
            (&x.min, &x.opt, &x.max),
            (&vec![1, 3], &vec![2, 3], &vec![4, 7])
        );
        let tie = of(&[(&[9, 9], 2), (&[1, 1], 2)]).unwrap();
        assert_eq!(tie.inputs["x"].opt, [1, 1]);
    }

    #[test]
    fn ranks_that_vary_are_refused() {
        assert!(
            of(&[(&[1], 1), (&[1, 1], 1)])
                .unwrap_err()
                .to_string()
                .contains("`x`")
        );
        assert!(of(&[]).is_err());
    }
}
