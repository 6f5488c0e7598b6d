//! Plans a run, starts a process per stage, resumes where an earlier one stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use inferdiff_schemas::capture::{Capture, CaptureKey};
use inferdiff_schemas::run::ladder::{Ladder, Stage};
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::{Limits, Manifest, RUN_FORMAT, StageState, StageStatus};
use inferdiff_schemas::run::probes::Asking;
use inferdiff_schemas::run::requests::RequestWriter;
use inferdiff_schemas::run::{RunFileError, read_json};
use inferdiff_schemas::storage::Disk;
use inferdiff_schemas::xxh3::hash128;

use super::folder::{Held, commit, hold, sweep};
use super::process::Stages;
use super::{again, suspects};
use crate::source::{Plan, Selection, SourceError, plan};

/// The stage that stands for production.
pub(super) const PRODUCTION: &str = "recorded";

/// How to start a stage process: `program args… --run DIR --stage NAME [--careful | --chunk NAME
/// --alone ID]`.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Arguments before ours.
    pub args: Vec<String>,
    /// Environment variables beside those of this process.
    pub environment: Vec<(String, String)>,
}

/// What to replay.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The capture.
    pub capture: PathBuf,
    /// The file that holds its key, where it is encrypted.
    pub encryption_key: Option<PathBuf>,
    /// The run directory; new, or of an interrupted equal run.
    pub run: PathBuf,
    /// The resolved ladder.
    pub ladder: Ladder,
    /// What of the capture.
    pub selection: Selection,
    /// What a stage's process may take.
    pub limits: Limits,
    /// Further processes and probes, that show what a stage's answers depend on.
    pub asking: Asking,
    /// Exchanges that are committed together, at most, unless one row group holds more.
    pub commit_every: u64,
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
    #[error("{path} holds another run; {differs}. Choose another --run directory or remove it")]
    OtherRun {
        /// The directory.
        path: PathBuf,
        /// What differs.
        differs: String,
    },
    /// The directory holds something that is no run.
    #[error("{path} is not empty and holds no run (no run.json): choose another --run directory")]
    NoRun {
        /// The directory.
        path: PathBuf,
    },
    /// Another process works on the run.
    #[error("another inferdiff works on {path} right now: wait for it or choose another --run")]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// A file of the run could not be written or read in the middle.
    #[error(
        "stage `{stage}` stopped: {why}. What is committed stays: put that right and give the same \
         command again, it resumes there"
    )]
    Stopped {
        /// Stage.
        stage: String,
        /// Why.
        why: String,
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

/// Plans a run and takes its directory: `run.json` and `requests.parquet` are there afterwards. The
/// directory is this process's until the second of the two is dropped.
///
/// # Errors
/// [`RunError`].
pub fn prepare(request: &RunRequest) -> Result<(Manifest, Held), RunError> {
    let key = request.encryption_key.as_deref();
    let key = key.map(CaptureKey::read).transpose();
    let key = key.map_err(SourceError::from)?;
    let capture = Capture::open_with_key(Arc::new(Disk), &request.capture, key.as_ref())
        .map_err(SourceError::from)?;
    let layout = RunLayout::new(&request.run);
    let held = hold(&layout)?;
    match planned(request, &capture, &layout) {
        Ok(manifest) => Ok((manifest, held)),
        Err(e) => {
            held.give_up(&layout);
            Err(e)
        }
    }
}

fn planned(
    request: &RunRequest,
    capture: &Capture,
    layout: &RunLayout,
) -> Result<Manifest, RunError> {
    // Beside its name until the run is known to be this one.
    let mut requests = RequestWriter::create(&layout.requests())?;
    let plan = plan(
        capture,
        &request.selection,
        request.commit_every,
        &mut |row| requests.push(&row),
    )?;
    let manifest = commit(layout, manifest(request, &plan)?)?;
    requests.commit()?;
    sweep(layout);
    Ok(manifest)
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
    let (manifest, _held) = prepare(request)?;
    let layout = RunLayout::new(&request.run);
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
            None => suspects::run(&mut Stages {
                launch,
                layout: &layout,
                stage: name,
                limits: request.limits,
                progress: &mut |done| send(Event::Progress { stage: name, done }),
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
    let all = |names: &[String]| beside(request.workers, names, &|name| stage(name).map(|_| ()));
    all(others)?;
    // What they tell of a stage is needed of those only that answered.
    all(&again::wanted(&layout, &manifest)?)?;
    Ok(manifest)
}

/// Runs stages, some beside each other; the first error ends it.
fn beside(
    workers: usize,
    names: &[String],
    stage: &(dyn Fn(&str) -> Result<(), RunError> + Sync),
) -> Result<(), RunError> {
    let queue = Mutex::new(names.iter());
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, names.len().max(1)) {
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
        None => Ok(()),
    }
}

/// The status of a stage that an earlier run completed. Stages that failed are tried again.
fn finished(layout: &RunLayout, stage: &str) -> Option<StageStatus> {
    let status: StageStatus = read_json(&layout.status(stage)).ok()?;
    (status.state == StageState::Completed).then_some(status)
}

fn manifest(request: &RunRequest, plan: &Plan) -> Result<Manifest, RunError> {
    let mut ladder = request.ladder.clone();
    if plan.has_production && !ladder.stages.iter().any(Stage::is_production) {
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
        encryption_key: request.encryption_key.as_deref().map(absolute),
        capture_digest: plan.capture_digest.clone(),
        models,
        ladder,
        chunks: plan.chunks.clone(),
        requests: plan.requests,
        inputs: plan.inputs.clone(),
        left_out: plan.left_out.clone(),
        filter: texts(&request.selection),
        limit: request.selection.limit,
        sample: request.selection.sample,
        seed: request.selection.seed,
        limits: request.limits,
        asking: request.asking.clone(),
        commit_every: request.commit_every,
        keep_outputs: request.keep_outputs.clone(),
        environment: request.environment.clone(),
    })
}

fn texts(selection: &Selection) -> Vec<String> {
    let conditions = selection.filter.iter();
    conditions.map(|c| c.text().to_owned()).collect()
}

fn absolute(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
