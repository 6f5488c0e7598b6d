//! `repro`: one difference as a folder that shows it without inferdiff.
//!
//! `run → the exchange that tells most → models, requests, ladder, a short Python script → check`.
//! The check runs the script: where one request alone shows nothing (a stateful fault), those before
//! it are added, twice as many each time.

mod choose;
mod folder;
mod models;

use std::path::{Path, PathBuf};
use std::process::Command;

use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::Manifest;
use inferdiff_schemas::run::read_json;
use serde::Serialize;

/// What to reproduce.
#[derive(Debug, Clone)]
pub struct ReproOptions {
    /// The run.
    pub run: PathBuf,
    /// Stage; `None` = the first that differs.
    pub stage: Option<String>,
    /// Exchange id or client's id; `None` = the one with the largest difference.
    pub request: Option<String>,
    /// New folder.
    pub into: PathBuf,
    /// Python with onnxruntime and numpy; `None` = the one that the stage's library belongs to.
    pub python: Option<PathBuf>,
    /// Run the script.
    pub check: bool,
}

/// What the script said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    /// It shows the difference.
    Shown,
    /// It ran and shows none.
    NotShown,
    /// It could not run, or was not to.
    NotRun(String),
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Repro {
    /// Folder.
    pub folder: PathBuf,
    /// Reference stage.
    pub reference: String,
    /// Stage that differs.
    pub stage: String,
    /// The exchange.
    pub request: String,
    /// Requests in the folder: that one and what must come before it.
    pub requests: usize,
    /// What the script said.
    pub checked: Checked,
    /// Its last words.
    pub output: String,
}

/// The largest number of requests that are tried before the one that differs.
const MOST_BEFORE: usize = 256;

/// Writes the folder.
///
/// # Errors
/// One sentence: nothing differs, another runtime, a capture that is gone, a folder that is there.
pub fn repro(options: &ReproOptions) -> Result<Repro, String> {
    let layout = RunLayout::new(&options.run);
    let manifest: Manifest = read_json(&layout.manifest()).map_err(|e| e.to_string())?;
    let chosen = choose::choose(&layout, &manifest, options)?;
    let reference = manifest
        .ladder
        .stages
        .first()
        .ok_or("the run has no stages")?;
    for stage in [reference, &chosen.stage] {
        if stage.runtime != "onnxruntime" {
            return Err(format!(
                "stage `{}` runs on `{}`: a script without inferdiff can be written for \
                 onnxruntime only; choose another --stage",
                stage.name, stage.runtime
            ));
        }
    }
    if options.into.exists() {
        return Err(format!(
            "{} is there already: name a new folder",
            options.into.display()
        ));
    }
    let requests = choose::requests(&manifest, &chosen)?;
    let python = python(options, &chosen.stage);
    let mut before = requests.least;
    loop {
        let taken = &requests.all[requests.all.len() - 1 - before..];
        folder::write(&options.into, reference, &chosen, taken, &manifest)?;
        let (checked, output) = match (&python, options.check) {
            (_, false) => (Checked::NotRun("it was not to".to_owned()), String::new()),
            (python, true) => check(python, &options.into),
        };
        let more = (2 * before).max(1).min(requests.all.len() - 1);
        if checked != Checked::NotShown || more == before || before >= MOST_BEFORE {
            return Ok(Repro {
                folder: options.into.clone(),
                reference: reference.name.clone(),
                stage: chosen.stage.name.clone(),
                request: chosen.id,
                requests: taken.len(),
                checked,
                output,
            });
        }
        std::fs::remove_dir_all(&options.into)
            .map_err(|e| format!("{}: {e}", options.into.display()))?;
        before = more;
    }
}

/// The interpreter of the environment in which the stage's library lies.
fn python(options: &ReproOptions, stage: &Stage) -> PathBuf {
    if let Some(python) = &options.python {
        return python.clone();
    }
    let library = stage.options.get("library").and_then(|l| l.as_str());
    library
        .map(Path::new)
        .into_iter()
        .flat_map(Path::ancestors)
        .map(|folder| folder.join("bin/python3"))
        .find(|python| python.is_file())
        .unwrap_or_else(|| PathBuf::from("python3"))
}

fn check(python: &Path, folder: &Path) -> (Checked, String) {
    let run = Command::new(python)
        .arg("repro.py")
        .current_dir(folder)
        .output();
    let run = match run {
        Ok(run) => run,
        Err(e) => {
            let why = format!("{}: {e}", python.display());
            return (Checked::NotRun(why), String::new());
        }
    };
    let said = String::from_utf8_lossy(&run.stdout).trim().to_owned();
    match run.status.code() {
        Some(0) => (Checked::NotShown, said),
        Some(1) if said.lines().any(|l| l.starts_with("DIFFERENT")) => (Checked::Shown, said),
        // The process dies or refuses: that may be the fault itself, but nothing is claimed.
        _ => {
            let errors = String::from_utf8_lossy(&run.stderr);
            let last = errors.trim().lines().last().unwrap_or_default().to_owned();
            let why = format!("{} ended with {}: {last}", python.display(), run.status);
            (Checked::NotRun(why), said)
        }
    }
}
