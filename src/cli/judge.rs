//! `inferdiff judge`.

use std::path::PathBuf;

use clap::Args;
use inferdiff_replay::judge::{JudgeOptions, exit_code, judge};
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::write_json;

use super::labels::Criteria;
use super::{Ended, Failure, print, print_json};

/// Judge a run again, by other metrics, margins or labels. Runs nothing.
#[derive(Args)]
pub struct JudgeArgs {
    /// The run's directory.
    run: PathBuf,
    #[command(flatten)]
    criteria: Criteria,
    /// verdicts.json to stdout instead of the table.
    #[arg(long)]
    json: bool,
}

/// Runs `judge`: verdicts.json is written anew.
pub fn run(args: &JudgeArgs) -> Ended {
    let options = JudgeOptions {
        metrics: args.criteria.metrics(),
        margin: args.criteria.margin,
        labels: args.criteria.labels()?,
        cluster_by: args.criteria.cluster_by.clone(),
        slice_by: args.criteria.slice_by.clone(),
    };
    let verdicts = judge(&args.run, &options).map_err(Failure::usage)?;
    write_json(&RunLayout::new(&args.run).verdicts(), &verdicts).map_err(Failure::usage)?;
    if args.json {
        print_json(&verdicts)?;
    } else {
        print(&args.criteria.tell(&verdicts)?)?;
    }
    Ok(exit_code(&verdicts))
}
