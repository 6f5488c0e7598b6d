//! `inferdiff judge`.

use std::path::{Path, PathBuf};

use clap::Args;
use inferdiff_replay::judge::{Gravity, JudgeOptions, baseline, exit_code, judge};
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::write_json;

use super::labels::Criteria;
use super::{Ended, Failure, print, print_json};
use crate::report::{junit, markdown, terminal};

/// Judge a run again, by other metrics, margins or labels, or against an earlier run. Runs nothing.
///
/// Exit code: as replay's. With --baseline: 0 no stage is worse than there, else by what became
/// worse: 1 affects or may affect, 4 failed, 3 inconclusive, unavailable or not in this run.
#[derive(Args)]
pub struct JudgeArgs {
    /// The run's directory.
    run: PathBuf,
    #[command(flatten)]
    criteria: Criteria,
    /// An earlier run, judged by the same criteria: only what is worse than there fails.
    #[arg(long, value_name = "RUN")]
    baseline: Option<PathBuf>,
    /// Also write the table as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Also write a JUnit report, a test case per stage.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
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
    let changes = match &args.baseline {
        None => None,
        Some(run) => {
            let before = judge(run, &options)
                .map_err(|e| Failure::usage(format!("--baseline {}: {e}", run.display())))?;
            Some(baseline::against(&before, &verdicts))
        }
    };
    let changes = changes.as_deref();
    if let Some(file) = &args.markdown {
        write(file, &markdown::report(&verdicts, changes))?;
    }
    if let Some(file) = &args.junit {
        write(file, &junit::report(&verdicts, changes))?;
    }
    if args.json {
        print_json(&verdicts)?;
    } else {
        print(&terminal::table(&verdicts))?;
    }
    let Some(changes) = changes else {
        return Ok(exit_code(&verdicts));
    };
    if !args.json {
        let mut text = String::from("\nagainst the baseline:\n");
        for c in changes {
            let worse = if c.gravity == Gravity::Fine {
                ""
            } else {
                "WORSE: "
            };
            text += &format!("  {}: {worse}{}\n", c.stage, c.says);
        }
        print(&text)?;
    }
    Ok(baseline::exit_code(changes))
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text)
        .map_err(|e| Failure::usage(format!("cannot write {}: {e}", file.display())))
}
