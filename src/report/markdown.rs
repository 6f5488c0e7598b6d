//! The table for a pull request or a ticket: GitHub-flavoured Markdown.

use inferdiff_replay::judge::Gravity;
use inferdiff_replay::judge::baseline::Change;
use inferdiff_schemas::run::verdicts::Verdicts;

use super::terminal::{HEADER, headline, row};

/// The report of a run, and of its baseline where there is one.
pub fn report(verdicts: &Verdicts, changes: Option<&[Change]>) -> String {
    let mut text = format!("**{}**\n\n", escape(&headline(verdicts)));
    if let Some(changes) = changes {
        text += "Against the baseline:\n\n| stage | worse | what |\n| --- | --- | --- |\n";
        for c in changes {
            let worse = if c.gravity == Gravity::Fine {
                ""
            } else {
                "yes"
            };
            text += &format!("| {} | {worse} | {} |\n", escape(&c.stage), escape(&c.says));
        }
        text.push('\n');
    }
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    text += &line(&HEADER.map(str::to_owned));
    text += &line(&HEADER.map(|_| "---".to_owned()));
    for stage in &verdicts.stages {
        let cells: Vec<_> = row(stage).iter().map(|cell| escape(cell)).collect();
        text += &line(&cells);
    }
    text.push('\n');
    for stage in &verdicts.stages {
        if !stage.reason.is_empty() {
            text += &format!("- `{}`: {}\n", stage.name, escape(&stage.reason));
        }
    }
    text
}

/// Text without what Markdown would take for its own.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(' '),
            '|' | '*' | '_' | '`' | '<' | '[' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
