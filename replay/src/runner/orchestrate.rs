//! Plans a run, starts a process per stage, resumes where an earlier one stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use inferdiff_schemas::capture::Capture;
use inferdiff_schemas::run::ladder::{Ladder, Stage};
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::{Manifest, RUN_FORMAT, StageState, StageStatus};
use inferdiff_schemas::run::requests::write_requests;
use inferdiff_schemas::run::{RunFileError, read_json, write_json};
use inferdiff_schemas::storage::Disk;
use inferdiff_schemas::xxh3::hash128;

use super::process;
use crate::source::{Plan, Selection, SourceError, plan};

/// The stage that stands for production.
const PRODUCTION: &str = "recorded";

/// How to start a stage process: `program args… --run DIR --stage NAME [--careful]`.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Arguments before ours.
    pub args: Vec<String>,
}

/// What to replay.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The capture.
    pub capture: PathBuf,
    /// The run directory; new, or of an interrupted equal run.
    pub run: PathBuf,
    /// The resolved ladder.
    pub ladder: Ladder,
    /// What of the capture.
    pub selection: Selection,
    /// `differing`, `all` or `none`.
    pub keep_outputs: String,
    /// Stages beside each other after the reference.
    pub workers: usize,
    /// RFC 3339, UTC.
    pub created: String,
    /// OS, CPU and the like.
    pub environment: BTreeMap<String, String>,
}

/// Progress of a run.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// The run was planned.
    Planned {
        /// Exchanges to replay.
        requests: u64,
        /// Exchanges left out, by reason.
        left_out: &'a BTreeMap<String, u64>,
        /// Stages in order.
        stages: Vec<String>,
    },
    /// A stage replayed this many exchanges so far.
    Progress {
        /// Stage.
        stage: &'a str,
        /// Exchanges.
        done: u64,
    },
    /// A stage ended.
    Ended {
        /// Stage.
        stage: &'a str,
        /// How.
        status: &'a StageStatus,
    },
}

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The capture.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file of the run.
    #[error(transparent)]
    File(#[from] RunFileError),
    /// The directory holds another run.
    #[error("{path} holds another run ({differs}): choose another --run directory or remove it")]
    OtherRun {
        /// The directory.
        path: PathBuf,
        /// What differs.
        differs: String,
    },
    /// The reference did not complete: nothing can be compared.
    #[error("the reference stage `{stage}` did not complete: {reason}")]
    Reference {
        /// Stage.
        stage: String,
        /// Its own words.
        reason: String,
    },
    /// A stage process could not be started.
    #[error("cannot start the process of stage `{stage}`: {why}")]
    Start {
        /// Stage.
        stage: String,
        /// Why.
        why: String,
    },
}

/// Replays a capture down a ladder; the run directory then holds everything but the verdicts.
///
/// # Errors
/// [`RunError`]. Stages other than the reference may fail: that is in their status.
pub fn replay(
    request: &RunRequest,
    launch: &Launch,
    tell: &mut (dyn FnMut(Event<'_>) + Send),
) -> Result<Manifest, RunError> {
    let capture = Capture::open(Arc::new(Disk), &request.capture).map_err(SourceError::from)?;
    let plan = plan(&capture, &request.selection)?;
    let layout = RunLayout::new(&request.run);
    let manifest = manifest(request, &plan)?;
    let manifest = commit(&layout, manifest)?;
    write_requests(&layout.requests(), &plan.requests)?;
    let names: Vec<String> = manifest
        .ladder
        .stages
        .iter()
        .map(|s| s.name.clone())
        .collect();
    tell(Event::Planned {
        requests: manifest.requests,
        left_out: &manifest.left_out,
        stages: names.clone(),
    });
    let tell = Mutex::new(tell);
    let stage = |name: &str| -> Result<StageStatus, RunError> {
        let send = |event: Event<'_>| (tell.lock().unwrap_or_else(PoisonError::into_inner))(event);
        let status = match finished(&layout, name) {
            Some(status) => status,
            None => process::run(launch, &layout, name, &mut |done| {
                send(Event::Progress { stage: name, done });
            })?,
        };
        send(Event::Ended {
            stage: name,
            status: &status,
        });
        Ok(status)
    };
    let (reference, others) = names.split_first().expect("a resolved ladder has a stage");
    let status = stage(reference)?;
    if status.state != StageState::Completed {
        // Nothing was judged: the next attempt must try again.
        let _ = std::fs::remove_file(layout.status(reference));
        let reason = status.reason.unwrap_or_default();
        return Err(RunError::Reference {
            stage: reference.clone(),
            reason,
        });
    }
    let queue = Mutex::new(others.iter());
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..request.workers.clamp(1, others.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(name) = next else { return };
                    if let Err(e) = stage(name) {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                        return;
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(e) => Err(e),
        None => Ok(manifest),
    }
}

/// The status of a stage that an earlier run completed. Stages that failed are tried again.
fn finished(layout: &RunLayout, stage: &str) -> Option<StageStatus> {
    let status: StageStatus = read_json(&layout.status(stage)).ok()?;
    (status.state == StageState::Completed).then_some(status)
}

fn manifest(request: &RunRequest, plan: &Plan) -> Result<Manifest, RunError> {
    let mut ladder = request.ladder.clone();
    if plan.has_production && !ladder.stages.iter().any(|s| s.runtime == PRODUCTION) {
        ladder.stages.push(Stage::bare(PRODUCTION, PRODUCTION));
    }
    let mut models = BTreeMap::new();
    for model in ladder.stages.iter().flat_map(|s| &s.files) {
        let bytes = std::fs::read(model).map_err(|e| RunFileError {
            action: "read",
            path: model.clone(),
            why: e.to_string(),
            missing: false,
        })?;
        models.insert(model.clone(), format!("{:032x}", hash128(&bytes)));
    }
    Ok(Manifest {
        format: RUN_FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created: request.created.clone(),
        capture: absolute(&request.capture),
        capture_digest: plan.capture_digest.clone(),
        models,
        ladder,
        chunks: plan.chunks.clone(),
        requests: plan.requests.len() as u64,
        inputs: plan.inputs.clone(),
        left_out: plan.left_out.clone(),
        filter: request.selection.filter.clone(),
        limit: request.selection.limit,
        keep_outputs: request.keep_outputs.clone(),
        environment: request.environment.clone(),
    })
}

/// Writes the manifest, or takes the one of an interrupted run that replays the same.
fn commit(layout: &RunLayout, new: Manifest) -> Result<Manifest, RunError> {
    let old: Manifest = match read_json(&layout.manifest()) {
        Ok(old) => old,
        Err(e) if e.missing => {
            write_json(&layout.manifest(), &new)?;
            return Ok(new);
        }
        Err(e) => return Err(e.into()),
    };
    let mut differs = Vec::new();
    let mut check = |same: bool, what: &'static str| {
        if !same {
            differs.push(what);
        }
    };
    check(
        old.format == new.format && old.version == new.version,
        "version of inferdiff",
    );
    check(
        old.capture_digest == new.capture_digest && old.chunks == new.chunks,
        "capture",
    );
    check(old.models == new.models, "models");
    check(old.ladder.stages == new.ladder.stages, "stages");
    check(old.ladder.tolerance == new.ladder.tolerance, "tolerance");
    check(old.keep_outputs == new.keep_outputs, "--keep-outputs");
    if !differs.is_empty() {
        let (path, differs) = (layout.root().to_owned(), differs.join(", "));
        return Err(RunError::OtherRun { path, differs });
    }
    // Metrics and labels only judge: they may change between attempts.
    write_json(&layout.manifest(), &new)?;
    Ok(new)
}

fn absolute(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
