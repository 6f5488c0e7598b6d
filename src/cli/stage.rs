//! The hidden command that a stage process runs.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::Args;
use inferdiff_replay::runner::{StageMessage, run_stage};

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
}

/// Runs `__stage`.
pub fn run(args: &StageArgs) -> Ended {
    // A stage must not outlive the run that asked for it.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(Failure::usage)?;
    let mut messages = protect_stdout().map_err(Failure::usage)?;
    let mut tell = |message: &StageMessage| {
        let mut line = serde_json::to_vec(message).expect("messages are plain data");
        line.push(b'\n');
        // Where the orchestrator is gone the death signal is on its way.
        let _ = messages.write_all(&line);
    };
    // Stages of a run name their library.
    let runtimes = runtimes::all(None);
    run_stage(&args.run, &args.stage, &runtimes, args.careful, &mut tell)
        .map_err(Failure::usage)?;
    Ok(0)
}

/// Moves our messages away from descriptor 1: libraries print there.
fn protect_stdout() -> std::io::Result<File> {
    let messages = std::io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    Ok(File::from(messages))
}
