//! Answers that a stage of another run gave to the same exchanges: of an earlier version, or of another
//! machine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::{Manifest, RUN_FORMAT, StageState, StageStatus};
use inferdiff_schemas::run::outputs::OutputReader;
use inferdiff_schemas::run::read_json;
use inferdiff_schemas::{Exchange, Tensor};
use ulid::Ulid;

use crate::runtime::InferError;

type Key = (Ulid, u64);
type Answer = Result<Vec<Tensor>, String>;

/// `RUN#stage`, as a ladder says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct From {
    /// Folder of the run.
    pub run: PathBuf,
    pub stage: String,
}

impl From {
    /// # Errors
    /// It is not of this form.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.rsplit_once('#') {
            Some((run, stage)) if !run.is_empty() && !stage.is_empty() => Ok(Self {
                run: run.into(),
                stage: stage.to_owned(),
            }),
            _ => Err(format!(
                "`from` is \"{text}\": it must be \"RUN#STAGE\", the folder of a run and one of its stages"
            )),
        }
    }

    /// Files whose bytes say what the stage answered.
    pub fn files(&self) -> [PathBuf; 2] {
        let layout = RunLayout::new(&self.run);
        [layout.manifest(), layout.status(&self.stage)]
    }

    /// # Errors
    /// The run cannot be read, has no such stage, or does not hold all of the stage's answers.
    pub fn check(&self) -> Result<Manifest, String> {
        let (run, layout) = (self.run.display(), RunLayout::new(&self.run));
        let read = |e: inferdiff_schemas::run::RunFileError| format!("`from`: {e}");
        let manifest: Manifest = read_json(&layout.manifest()).map_err(read)?;
        if manifest.format > RUN_FORMAT {
            return Err(format!(
                "`from`: {run} has run format {}, written by a newer inferdiff ({}): upgrade to that",
                manifest.format, manifest.version
            ));
        }
        let names = || manifest.ladder.stages.iter().map(|s| s.name.as_str());
        if !names().any(|n| n == self.stage) {
            return Err(format!(
                "`from`: {run} has no stage `{}`; it has {}",
                self.stage,
                names().collect::<Vec<_>>().join(", ")
            ));
        }
        for stage in self.layers(&manifest) {
            let status: StageStatus = read_json(&layout.status(&stage)).map_err(read)?;
            if status.state != StageState::Completed {
                let why = status.reason.unwrap_or_default();
                return Err(format!(
                    "`from`: stage `{stage}` of {run} did not complete: {why}"
                ));
            }
        }
        if manifest.keep_outputs == "none" {
            return Err(format!(
                "`from`: {run} was made with --keep-outputs none, so its answers are gone: make it \
                 again without that"
            ));
        }
        Ok(manifest)
    }

    /// The stages whose files hold its answers, the first that has one: a run keeps what differs from
    /// the reference, and the reference.
    fn layers(&self, manifest: &Manifest) -> Vec<String> {
        let reference = &manifest.ladder.stages[0].name;
        let mut layers = vec![self.stage.clone()];
        layers.extend((self.stage != *reference).then(|| reference.clone()));
        layers
    }
}

/// The answers of one stage. One chunk of them is in memory at a time.
pub(super) struct Answers {
    from: From,
    /// In the order of `from.layers`, per chunk.
    files: Vec<Vec<PathBuf>>,
    chunk_of: HashMap<Key, usize>,
    loaded: Option<(usize, HashMap<Key, Answer>)>,
}

impl Answers {
    /// # Errors
    /// As [`From::check`], and where a file of answers cannot be read.
    pub fn open(from: From) -> Result<(Self, Manifest), String> {
        let manifest = from.check()?;
        let layout = RunLayout::new(&from.run);
        let layers = from.layers(&manifest);
        let files = manifest.chunks.iter().map(|chunk| {
            let file = |stage: &String| layout.outputs(stage, &chunk.name);
            layers.iter().map(file).collect()
        });
        let files: Vec<Vec<PathBuf>> = files.collect();
        let mut chunk_of = HashMap::new();
        for (i, layers) in files.iter().enumerate() {
            for key in read(layers)?.into_keys() {
                chunk_of.insert(key, i);
            }
        }
        let answers = Self {
            from,
            files,
            chunk_of,
            loaded: None,
        };
        Ok((answers, manifest))
    }

    /// What the stage answered to an exchange.
    pub fn of(&mut self, exchange: &Exchange) -> Result<Vec<Tensor>, InferError> {
        let key = (exchange.recorder, exchange.seq);
        let Some(&chunk) = self.chunk_of.get(&key) else {
            return Err(InferError::NoAnswer(format!(
                "{} did not replay it (it was made of another capture, or of a part of this one)",
                self.from.run.display()
            )));
        };
        if self.loaded.as_ref().is_none_or(|(i, _)| *i != chunk) {
            let read = read(&self.files[chunk]).map_err(InferError::Engine)?;
            self.loaded = Some((chunk, read));
        }
        let (_, answers) = self.loaded.as_ref().expect("it was loaded just above");
        match answers.get(&key) {
            Some(Ok(outputs)) => Ok(outputs.clone()),
            Some(Err(why)) => Err(InferError::Engine(why.clone())),
            None => Err(InferError::Engine(
                "the run's files have changed".to_owned(),
            )),
        }
    }
}

fn read(layers: &[impl AsRef<Path>]) -> Result<HashMap<Key, Answer>, String> {
    let mut answers = HashMap::new();
    // The stage's own answers are put in last, over the reference's.
    for file in layers.iter().rev() {
        for row in OutputReader::open(file.as_ref()).map_err(|e| e.to_string())? {
            let row = row.map_err(|e| e.to_string())?;
            answers.insert((row.recorder, row.seq), row.answer);
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_and_a_stage_are_told_apart_at_the_last_hash() {
        let from = From::parse("runs/a#1#off").unwrap();
        assert_eq!(
            (from.run, from.stage),
            ("runs/a#1".into(), "off".to_owned())
        );
        for wrong in ["runs/a", "#off", "runs/a#", ""] {
            assert!(From::parse(wrong).unwrap_err().contains("RUN#STAGE"));
        }
        let nowhere = From::parse("/no/such/run#off").unwrap().check();
        assert!(nowhere.unwrap_err().contains("/no/such/run"));
    }
}
