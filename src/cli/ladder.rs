//! `inferdiff ladder ls|show`.

use clap::Subcommand;
use inferdiff_replay::ladder::{BUILTIN, builtin_text, nearest};

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
            let width = BUILTIN.iter().map(|(name, _)| name.len()).max();
            let width = width.unwrap_or_default();
            let lines = BUILTIN.map(|(name, what)| format!("{name:width$}  {what}\n"));
            print(&lines.concat())?;
        }
        LadderCommand::Show { name } => print(builtin_text(&name).ok_or_else(|| unknown(&name))?)?,
    }
    Ok(0)
}

fn unknown(name: &str) -> Failure {
    let known = BUILTIN.map(|(n, _)| n);
    let hint = match nearest(name, known.into_iter()) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => "; a ladder file needs no `show`: it is its own text".to_owned(),
    };
    Failure::usage(format!(
        "there is no built-in ladder `{name}` (there are {}){hint}",
        known.join(", ")
    ))
}
