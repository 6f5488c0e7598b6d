//! The hidden command that a stage process runs.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::Args;
use inferdiff_replay::runner::{StageMessage, Task, run_stage};
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::Manifest;
use inferdiff_schemas::run::read_json;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::interpreter::Interpreters;
use super::library::Libraries;
use super::{Ended, Failure, runtimes};

/// Replays one stage of a run.
#[derive(Args)]
pub struct StageArgs {
    /// The run's directory.
    #[arg(long)]
    run: PathBuf,
    /// The stage.
    #[arg(long)]
    stage: String,
    /// Name each exchange before it is replayed.
    #[arg(long)]
    careful: bool,
    /// Replay this exchange alone.
    #[arg(long, value_name = "ID", requires = "chunk")]
    alone: Option<String>,
    /// The chunk that holds it.
    #[arg(long, value_name = "NAME", requires = "alone")]
    chunk: Option<String>,
}

/// Runs `__stage`.
pub fn run(args: &StageArgs) -> Ended {
    // A stage must not outlive the run that asked for it.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(Failure::usage)?;
    first_to_go();
    let messages = protect_stdout().map_err(Failure::usage)?;
    let tell = |message: &StageMessage| {
        let mut line = serde_json::to_vec(message).expect("messages are plain data");
        line.push(b'\n');
        // One short line is one write, so that two threads may tell.
        if (&messages).write_all(&line).is_err() {
            // The orchestrator is gone, and the death signal may have come too early to be heard.
            std::process::exit(1);
        }
    };
    // Stages of a run name their library and their interpreter.
    let runtimes = runtimes::all(Libraries::default(), Interpreters::default());
    let task = match (&args.chunk, &args.alone) {
        (Some(chunk), Some(id)) => Task::Alone {
            chunk: chunk.clone(),
            id: id.clone(),
        },
        _ => Task::Chunks {
            careful: args.careful,
        },
    };
    limit_memory(&args.run)?;
    run_stage(&args.run, &args.stage, &runtimes, &task, &tell).map_err(Failure::usage)?;
    Ok(0)
}

/// Where the machine runs out of memory a stage must go, not the run that can name the exchange.
fn first_to_go() {
    // Without it the run is only less robust.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// The run's memory limit, before anything is allocated for the stage.
fn limit_memory(run: &Path) -> Result<(), Failure> {
    let manifest: Manifest = read_json(&RunLayout::new(run).manifest()).map_err(Failure::usage)?;
    let Some(bytes) = manifest.limits.memory_bytes else {
        return Ok(());
    };
    let limit = Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    setrlimit(Resource::As, limit).map_err(|e| {
        Failure::usage(format!(
            "cannot limit the address space to {bytes} bytes: {e}"
        ))
    })
}

/// Moves our messages away from descriptor 1: libraries print there.
fn protect_stdout() -> std::io::Result<File> {
    let messages = std::io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    Ok(File::from(messages))
}
