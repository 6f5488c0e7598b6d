//! Metrics, tolerances and labels of a ladder file, checked before anything runs.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use inferdiff_schemas::run::ladder::{Labels, MetricSpec, Tolerance};

use super::{file, hint};
use crate::metric::Metric;

/// Metrics as the run keeps them.
pub(super) fn metrics(written: Vec<file::Metric>) -> Result<Vec<MetricSpec>, String> {
    let metrics: Vec<MetricSpec> = written
        .into_iter()
        .map(|m| MetricSpec {
            spec: m.spec,
            margin: m.margin,
        })
        .collect();
    let mut seen = HashSet::new();
    for metric in &metrics {
        Metric::parse(metric)?;
        if !seen.insert(metric.spec.as_str()) {
            return Err(format!("metric `{}` is there twice", metric.spec));
        }
    }
    Ok(metrics)
}

/// Tolerances by output name. A bound that is not said is 0.
pub(super) fn tolerance(
    written: BTreeMap<String, file::Tolerance>,
) -> Result<BTreeMap<String, Tolerance>, String> {
    let each = written.into_iter();
    each.map(|(output, tolerance)| {
        let bounds = bounds(&output, tolerance)?;
        Ok((output, bounds))
    })
    .collect()
}

fn bounds(output: &str, written: file::Tolerance) -> Result<Tolerance, String> {
    let bounds = match written {
        file::Tolerance::Bounds(bounds) => bounds,
        file::Tolerance::Other(table) => return Err(not_bounds(output, &table)),
    };
    if bounds.rtol.is_none() && bounds.atol.is_none() {
        return Err(format!("tolerance.{output} says neither rtol nor atol"));
    }
    let tolerance = Tolerance {
        rtol: bounds.rtol.unwrap_or(0.0),
        atol: bounds.atol.unwrap_or(0.0),
    };
    for (name, value) in [("rtol", tolerance.rtol), ("atol", tolerance.atol)] {
        if !value.is_finite() || value < 0.0 {
            return Err(format!(
                "tolerance.{output}: {name} = {value} must be a number, 0 or greater"
            ));
        }
    }
    Ok(tolerance)
}

fn not_bounds(output: &str, table: &toml::Table) -> String {
    const KNOWN: [&str; 2] = ["rtol", "atol"];
    for (key, value) in table {
        if value.is_table() {
            return format!(
                "tolerance.{output}.{key}: a tolerance per datatype is not supported yet"
            );
        }
        if !KNOWN.contains(&key.as_str()) {
            let near = hint(key, KNOWN.into_iter());
            return format!("tolerance.{output}: unknown key `{key}` (known: rtol, atol){near}");
        }
    }
    format!("tolerance.{output}: rtol and atol must be numbers")
}

/// Where labels are. Absolute: a run is judged again from other folders.
pub(super) fn labels(labels: Labels) -> Result<Labels, String> {
    const KEYS: [&str; 3] = ["client_request_id", "seq", "input_digest"];
    let header = labels.key.strip_prefix("header:");
    if !KEYS.contains(&labels.key.as_str()) && header.is_none_or(str::is_empty) {
        return Err(format!(
            "labels: unknown key `{}` (known: {}, header:NAME){}",
            labels.key,
            KEYS.join(", "),
            hint(&labels.key, KEYS.into_iter())
        ));
    }
    Ok(Labels {
        file: existing("labels", &labels.file)?,
        key: labels.key,
    })
}

/// The absolute path of a file that must be there.
pub(crate) fn existing(what: &str, path: &Path) -> Result<std::path::PathBuf, String> {
    let absolute = std::fs::canonicalize(path)
        .map_err(|e| format!("{what} {}: {e}; is the path right?", path.display()))?;
    if absolute.is_file() {
        Ok(absolute)
    } else {
        Err(format!("{what} {} is no file", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tolerances(text: &str) -> Result<BTreeMap<String, Tolerance>, String> {
        tolerance(file::File::parse(text)?.tolerance)
    }

    #[test]
    fn tolerances_are_numbers_that_can_bound() {
        let read = tolerances("[tolerance]\ny = { rtol = 1e-3 }\nz = { rtol = 0, atol = 1 }\n");
        let read = read.unwrap();
        assert_eq!((read["y"].rtol, read["y"].atol), (1e-3, 0.0));
        assert_eq!((read["z"].rtol, read["z"].atol), (0.0, 1.0));
        let why = |entry: &str| tolerances(&format!("[tolerance]\ny = {entry}\n")).unwrap_err();
        assert!(why("{ rtol = -1.0 }").contains("0 or greater"));
        assert!(why("{ rtol = nan }").contains("0 or greater"));
        assert!(why("{}").contains("neither rtol nor atol"));
        let told = why("{ rtoll = 1e-3, atol = 0 }");
        assert!(told.contains("did you mean `rtol`?"), "{told}");
        let told = why("{ FP16 = { rtol = 1e-2 } }");
        assert!(told.contains("per datatype is not supported yet"), "{told}");
    }

    #[test]
    fn metrics_and_labels_are_read_before_anything_runs() {
        let metrics = |text: &str| metrics(file::File::parse(text).unwrap().metric);
        assert!(metrics("[[metric]]\nspec = \"top1@y\"\nmargin = 0.01\n").is_ok());
        let told = metrics("[[metric]]\nspec = \"topp1\"\n").unwrap_err();
        assert!(told.contains("top1"), "{told}");
        let twice = "[[metric]]\nspec = \"top1\"\n[[metric]]\nspec = \"top1\"\nmargin = 0.1\n";
        assert!(metrics(twice).unwrap_err().contains("twice"));
        let key = |key: &str| {
            labels(Labels {
                file: "/none".into(),
                key: key.into(),
            })
        };
        assert!(key("client_request").unwrap_err().contains("did you mean"));
        assert!(key("header:").unwrap_err().contains("header:NAME"));
        assert!(key("header:x-id").unwrap_err().contains("/none"));
    }
}
