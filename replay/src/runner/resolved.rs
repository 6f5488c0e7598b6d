//! Exchanges whose answer is known before the stage asks for it: those that kill it, and those that
//! were suspected and answered when they were alone.

use std::collections::{BTreeMap, HashMap, HashSet};

use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::outputs::{OutputBuffers, OutputReader, OutputWriter, StoredAnswer};
use inferdiff_schemas::run::{RunFileError, read_json, write_json};
use inferdiff_schemas::{Exchange, Tensor};
use ulid::Ulid;

/// `faults.json`: how the stage's process died, by exchange id.
pub(super) type Faults = BTreeMap<String, String>;

pub(super) fn read_faults(layout: &RunLayout, stage: &str) -> Result<Faults, RunFileError> {
    match read_json(&layout.faults(stage)) {
        Err(e) if e.missing => Ok(Faults::new()),
        other => other,
    }
}

pub(super) fn write_faults(
    layout: &RunLayout,
    stage: &str,
    faults: &Faults,
) -> Result<(), RunFileError> {
    write_json(&layout.faults(stage), faults)
}

/// Answers by exchange.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    known: HashMap<(Ulid, u64), Result<Vec<Tensor>, String>>,
    faults: HashSet<(Ulid, u64)>,
}

impl Resolved {
    /// What a stage left so far.
    pub fn read(layout: &RunLayout, stage: &str) -> Result<Self, RunFileError> {
        let (mut known, mut faults) = (HashMap::new(), HashSet::new());
        for path in files(layout, stage)? {
            for row in OutputReader::open(&path)? {
                let row = row?;
                known.insert((row.recorder, row.seq), row.answer);
            }
        }
        for (id, how) in read_faults(layout, stage)? {
            let key = Exchange::key_of(&id).ok_or_else(|| RunFileError {
                action: "read",
                path: layout.faults(stage),
                why: format!("`{id}` is no exchange id"),
                missing: false,
            })?;
            known.insert(key, Err(how));
            faults.insert(key);
        }
        Ok(Self { known, faults })
    }

    /// The answer, where it is known.
    pub fn get(&self, exchange: &Exchange) -> Option<&Result<Vec<Tensor>, String>> {
        if self.known.is_empty() {
            return None;
        }
        self.known.get(&(exchange.recorder, exchange.seq))
    }

    /// The stage's process died of it.
    pub fn is_fault(&self, exchange: &Exchange) -> bool {
        self.faults.contains(&(exchange.recorder, exchange.seq))
    }
}

/// Keeps the answer of an exchange that was replayed alone.
pub(super) fn keep(
    layout: &RunLayout,
    stage: &str,
    exchange: &Exchange,
    answer: Result<Vec<Tensor>, String>,
) -> Result<(), RunFileError> {
    let (recorder, seq) = (exchange.recorder, exchange.seq);
    let name = format!("{}.parquet", Exchange::id_of(recorder, seq));
    let row = StoredAnswer {
        recorder,
        seq,
        answer,
    };
    let mut file = OutputWriter::create(&layout.alone(stage).join(name), OutputBuffers::default())?;
    file.push(row)?;
    file.commit().map(drop)
}

fn files(layout: &RunLayout, stage: &str) -> Result<Vec<std::path::PathBuf>, RunFileError> {
    let folder = layout.alone(stage);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => {
            return Err(RunFileError {
                action: "read",
                path: folder,
                why: e.to_string(),
                missing: false,
            });
        }
    };
    let paths = entries.flatten().map(|e| e.path());
    Ok(paths
        .filter(|p| p.extension().is_some_and(|e| e == "parquet"))
        .collect())
}
