//! What two captures say of where they were made: compared before any input.

use std::collections::BTreeMap;

use inferdiff_schemas::capture::Capture;
use serde::Serialize;
use serde_json::Value;

/// One fact that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unaligned {
    /// The fact.
    pub fact: String,
    /// In the first capture; `None` = it does not say.
    pub a: Option<String>,
    /// In the second capture; `None` = it does not say.
    pub b: Option<String>,
}

/// Facts that differ, in order: model files, what the servers say of themselves and of their
/// models, notes, hosts, versions of inferdiff. Addresses are not facts about an environment.
pub fn environment(a: &Capture, b: &Capture) -> Vec<Unaligned> {
    let (a, b) = (facts(a), facts(b));
    let mut names: Vec<_> = a.keys().chain(b.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name))
        .map(|name| Unaligned {
            fact: name.1.clone(),
            a: a.get(name).cloned(),
            b: b.get(name).cloned(),
        })
        .collect()
}

/// Facts by (rank, name).
fn facts(capture: &Capture) -> BTreeMap<(u8, String), String> {
    let mut facts = BTreeMap::new();
    let meta = capture.meta();
    for (route, answer) in &meta.upstream_metadata {
        flatten(route, answer, &mut |name, value| {
            facts.insert((1, name), value);
        });
    }
    let mut add = |rank: u8, name: String, value: String| {
        // Several recorders may say several things: all of them are the fact.
        let all: &mut String = facts.entry((rank, name)).or_default();
        if !all.split(", ").any(|known| known == value) {
            if !all.is_empty() {
                all.push_str(", ");
            }
            all.push_str(&value);
        }
    };
    for r in capture.recorders() {
        if let Some(model) = &r.model_file {
            let value = format!("{} ({} bytes)", model.digest, model.bytes);
            add(0, "model file".to_owned(), value);
        }
        for (key, value) in &r.notes {
            add(2, format!("note {key}"), value.clone());
        }
        if !r.host.is_empty() {
            add(3, "host".to_owned(), r.host.clone());
        }
        add(4, "inferdiff".to_owned(), r.version.clone());
    }
    facts
}

/// Leaves of a JSON value with their paths.
fn flatten(path: &str, value: &Value, add: &mut impl FnMut(String, String)) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&format!("{path} {key}"), value, add);
            }
        }
        Value::String(text) => add(path.to_owned(), text.clone()),
        other => add(path.to_owned(), other.to_string()),
    }
}
