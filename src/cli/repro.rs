//! `inferdiff repro`.

use std::path::PathBuf;

use clap::Args;

use super::{Ended, Failure, print, print_json};
use crate::repro::{Checked, ReproOptions, repro};

/// One difference of a run as a folder that shows it without inferdiff: the fewest requests, the
/// models, the ladder and a short Python script.
///
/// Exit code: 0 the script shows the difference (or was not to be run), 1 it ran and shows none,
/// 2 usage, 3 it could not be run.
#[derive(Args)]
pub struct ReproArgs {
    /// The run's directory.
    run: PathBuf,
    /// Stage. Default: the first one that differs.
    #[arg(long)]
    stage: Option<String>,
    /// Exchange (its id or the client's). Default: the one with the largest difference.
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// New folder.
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Python with numpy and onnxruntime, to check that the script shows the difference. Default:
    /// that of the environment in which the stage's library lies.
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Do not run the script.
    #[arg(long)]
    no_check: bool,
    /// JSON for machines.
    #[arg(long)]
    json: bool,
}

/// Runs `repro`.
pub fn run(args: &ReproArgs) -> Ended {
    let done = repro(&ReproOptions {
        run: args.run.clone(),
        stage: args.stage.clone(),
        request: args.request.clone(),
        into: args.output.clone(),
        python: args.python.clone(),
        check: !args.no_check,
    })
    .map_err(Failure::usage)?;
    if args.json {
        print_json(&done)?;
    } else {
        let said = match &done.checked {
            Checked::Shown => "checked: the script shows the difference".to_owned(),
            Checked::NotShown => "checked: the script runs but shows NO difference".to_owned(),
            Checked::NotRun(why) => format!("not checked: {why}"),
        };
        print(&format!(
            "{}: `{}` against `{}`, exchange {}, {} request(s)\n{said}\n{}\n",
            done.folder.display(),
            done.stage,
            done.reference,
            done.request,
            done.requests,
            done.output
        ))?;
    }
    Ok(match done.checked {
        Checked::Shown => 0,
        Checked::NotShown => 1,
        Checked::NotRun(_) if args.no_check => 0,
        Checked::NotRun(_) => 3,
    })
}
