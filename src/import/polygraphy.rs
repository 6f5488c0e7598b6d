//! Polygraphy's JSON: `--save-inputs` (a list of name → array) and `--save-outputs` (RunResults).
//!
//! Source: Polygraphy 0.49's `polygraphy/json/serde.py`: an array is base64 of its `.npy` bytes
//! under `array`, its kind under `polygraphy_class`.

use std::path::Path;

use base64::Engine;
use inferdiff_schemas::Tensor;
use serde_json::{Map, Value};

use super::{ImportError, Sample, Samples, files, numpy};

/// A request per iteration. Of saved outputs only the answers are there.
///
/// # Errors
/// A file that is no such JSON.
pub(super) fn samples(path: &Path) -> Result<Samples, ImportError> {
    let mut all = Vec::new();
    for file in files(path)? {
        let fail = |why: String| ImportError::at(&file, why);
        let text = std::fs::read(&file).map_err(|e| fail(e.to_string()))?;
        let value: Value =
            serde_json::from_slice(&text).map_err(|e| fail(format!("no JSON: {e}")))?;
        match &value {
            Value::Array(list) => {
                for (i, feed) in list.iter().enumerate() {
                    let place = format!("{}: iteration {i}", file.display());
                    let tensors = feed
                        .as_object()
                        .ok_or_else(|| "not a name → array object".to_owned())
                        .and_then(tensors);
                    all.push(match tensors {
                        Ok(tensors) => Ok(Sample::new(None, place, tensors)),
                        Err(why) => Err(ImportError::new(place, why)),
                    });
                }
            }
            Value::Object(results) => outputs(&file, results, &mut all).map_err(fail)?,
            _ => return Err(fail("neither saved inputs nor saved outputs".to_owned())),
        }
    }
    Ok(Box::new(all.into_iter()))
}

/// Answers of a `RunResults` with one runner.
fn outputs(
    file: &Path,
    results: &Map<String, Value>,
    all: &mut Vec<Result<Sample, ImportError>>,
) -> Result<(), String> {
    let runners = results.get("lst").and_then(Value::as_array);
    let runners = runners.ok_or("no `lst` of runners: not Polygraphy's RunResults")?;
    let [runner] = runners.as_slice() else {
        return Err(format!(
            "results of {} runners: save each runner's outputs to a file of its own",
            runners.len()
        ));
    };
    let iterations = runner.get(1).and_then(Value::as_array);
    for (i, iteration) in iterations
        .ok_or("a runner without iterations")?
        .iter()
        .enumerate()
    {
        let place = format!("{}: iteration {i}", file.display());
        let outputs = iteration.get("outputs").and_then(Value::as_object);
        let answers = outputs
            .ok_or_else(|| "no `outputs`".to_owned())
            .and_then(tensors);
        all.push(match answers {
            Ok(answers) => Ok(Sample {
                id: None,
                place,
                tensors: Vec::new(),
                answers,
            }),
            Err(why) => Err(ImportError::new(place, why)),
        });
    }
    Ok(())
}

fn tensors(arrays: &Map<String, Value>) -> Result<Vec<Tensor>, String> {
    arrays
        .iter()
        .filter(|(name, _)| *name != "polygraphy_class")
        .map(|(name, value)| {
            // A lazy array wraps the array.
            let value = value.get("values").unwrap_or(value);
            let text = value.get("array").and_then(Value::as_str);
            let text = text.ok_or_else(|| format!("`{name}` holds no `array`"))?;
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|e| format!("`{name}`: no base64: {e}"))?;
            numpy::tensor(name, bytes.as_slice()).map_err(|e| format!("`{name}`: {e}"))
        })
        .collect()
}
