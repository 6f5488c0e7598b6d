//! What an interpreter's Paddle has, in its own words.

use std::path::Path;

use serde_json::{Map, Value};

use super::predictor::HOW;
use crate::runtime::worker::{Source, Worker};
use crate::runtime::{Need, python};

const SOURCES: [Source; 3] = [
    python::PROTOCOL,
    python::TENSORS,
    Source {
        name: "paddle_doctor",
        text: include_str!("../../../../scripts/workers/paddle_doctor.py"),
    },
];

/// Starts the interpreter and asks it.
pub(super) fn examine(python: Option<&Path>) -> Vec<Need> {
    let interpreter = |found| Need {
        what: "interpreter".to_owned(),
        found,
    };
    let path = match python::locate(python, None, HOW) {
        Ok(path) => path,
        Err(e) => return vec![interpreter(Err(e.to_string()))],
    };
    let mut worker = Worker::new(path.clone(), &SOURCES, Vec::new());
    let answer = match worker.open(Map::new()) {
        Ok(opened) => opened.answer,
        Err(e) => return vec![interpreter(Err(format!("{e}; {HOW}")))],
    };
    let needs = answer.get("needs").cloned().unwrap_or(Value::Null);
    let needs: Vec<(String, bool, String)> = serde_json::from_value(needs).unwrap_or_default();
    let needs = needs.into_iter().map(|(what, found, words)| Need {
        what,
        found: if found { Ok(words) } else { Err(words) },
    });
    std::iter::once(interpreter(Ok(path.display().to_string())))
        .chain(needs)
        .collect()
}
