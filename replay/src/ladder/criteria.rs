//! Metrics, tolerances and labels of a ladder file, checked before anything runs.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use inferdiff_schemas::Datatype;
use inferdiff_schemas::run::ladder::{Labels, MetricSpec, OutputTolerance, Tolerance};

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
    written: BTreeMap<String, toml::Table>,
) -> Result<BTreeMap<String, OutputTolerance>, String> {
    let each = written.into_iter();
    each.map(|(output, table)| {
        let tolerance = of_output(&format!("tolerance.{output}"), table)?;
        Ok((output, tolerance))
    })
    .collect()
}

/// `{ rtol, atol }`, tables of these by datatype, or both.
fn of_output(at: &str, table: toml::Table) -> Result<OutputTolerance, String> {
    let (datatypes, bounds): (toml::Table, toml::Table) =
        table.into_iter().partition(|(_, value)| value.is_table());
    let mut tolerance = OutputTolerance::default();
    for (name, value) in datatypes {
        if Datatype::from_name(&name).is_none() {
            let near = hint(&name, Datatype::ALL.iter().map(|d| d.name()));
            return Err(format!("{at}: unknown datatype `{name}`{near}"));
        }
        let at = format!("{at}.{name}");
        let table = value.as_table().cloned().unwrap_or_default();
        tolerance.datatypes.insert(name, of_bounds(&at, &table)?);
    }
    if !bounds.is_empty() || tolerance.datatypes.is_empty() {
        tolerance.any = Some(of_bounds(at, &bounds)?);
    }
    Ok(tolerance)
}

fn of_bounds(at: &str, table: &toml::Table) -> Result<Tolerance, String> {
    const KNOWN: [&str; 2] = ["rtol", "atol"];
    if table.is_empty() {
        return Err(format!("{at} says neither rtol nor atol"));
    }
    let mut tolerance = Tolerance {
        rtol: 0.0,
        atol: 0.0,
    };
    for (key, value) in table {
        let bound = match key.as_str() {
            "rtol" => &mut tolerance.rtol,
            "atol" => &mut tolerance.atol,
            _ => {
                let near = hint(key, KNOWN.into_iter());
                return Err(format!(
                    "{at}: unknown key `{key}` (known: rtol, atol){near}"
                ));
            }
        };
        let number: Option<f64> = value.clone().try_into().ok();
        let number = number.ok_or_else(|| format!("{at}: rtol and atol must be numbers"))?;
        if !number.is_finite() || number < 0.0 {
            return Err(format!(
                "{at}: {key} = {number} must be a number, 0 or greater"
            ));
        }
        *bound = number;
    }
    Ok(tolerance)
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

    fn tolerances(text: &str) -> Result<BTreeMap<String, OutputTolerance>, String> {
        tolerance(file::File::parse(text)?.tolerance)
    }

    #[test]
    fn tolerances_are_numbers_that_can_bound() {
        let read = tolerances("[tolerance]\ny = { rtol = 1e-3 }\nz = { rtol = 0, atol = 1 }\n");
        let read = read.unwrap();
        let bounds = |t: Option<Tolerance>| t.map(|t| (t.rtol, t.atol));
        assert_eq!(bounds(read["y"].any), Some((1e-3, 0.0)));
        assert_eq!(bounds(read["z"].any), Some((0.0, 1.0)));
        let text = "[tolerance]\n\"*\" = { BF16 = { rtol = 0.1 } }\n[tolerance.y]\natol = 1\nFP16.rtol = 0.5\n";
        let read = tolerances(text).unwrap();
        assert_eq!(bounds(read["*"].any), None);
        assert_eq!(read["*"].datatypes["BF16"].rtol, 0.1);
        assert_eq!(bounds(read["y"].any), Some((0.0, 1.0)));
        assert_eq!(read["y"].datatypes["FP16"].rtol, 0.5);
        let why = |entry: &str| tolerances(&format!("[tolerance]\ny = {entry}\n")).unwrap_err();
        assert!(why("{ rtol = -1.0 }").contains("0 or greater"));
        assert!(why("{ rtol = nan }").contains("0 or greater"));
        assert!(why("{}").contains("neither rtol nor atol"));
        let told = why("{ rtoll = 1e-3, atol = 0 }");
        assert!(told.contains("did you mean `rtol`?"), "{told}");
        let told = why("{ FP61 = { rtol = 1e-2 } }");
        assert!(told.contains("unknown datatype `FP61`"), "{told}");
        assert!(why("{ FP16 = {} }").contains("tolerance.y.FP16 says neither"));
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
