//! `inferdiff ladder ls|show`.

use clap::Subcommand;
use inferdiff_replay::ladder::{BUILTIN, builtin_text};

use super::{Ended, Failure, print};

/// The built-in ladders.
#[derive(Subcommand)]
pub enum LadderCommand {
    /// Their names.
    Ls,
    /// The text of one: exactly what runs.
    Show {
        /// Name.
        name: String,
    },
}

/// Runs `ladder …`.
pub fn run(command: LadderCommand) -> Ended {
    match command {
        LadderCommand::Ls => {
            let lines: Vec<_> = BUILTIN
                .iter()
                .map(|(n, what)| format!("{n}  {what}\n"))
                .collect();
            print(&lines.concat())?;
        }
        LadderCommand::Show { name } => {
            let text = builtin_text(&name).ok_or_else(|| {
                let known = BUILTIN.map(|(n, _)| n).join(", ");
                Failure::usage(format!(
                    "there is no built-in ladder `{name}`; there are {known}"
                ))
            })?;
            print(text)?;
        }
    }
    Ok(0)
}
