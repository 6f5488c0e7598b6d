//! Verdicts for a CI server: JUnit XML, a test case per stage.
//!
//! Source: the schema that Jenkins' JUnit plugin reads (`testsuites/testsuite/testcase` with
//! `failure`, `error`, `skipped`). Written by hand: it is four elements.

use inferdiff_replay::judge::Gravity;
use inferdiff_replay::judge::baseline::Change;
use inferdiff_schemas::run::verdicts::{Verdict, Verdicts};

/// A failure is a stage that harms (with a baseline: that became worse); an error one that failed;
/// what nobody can tell is skipped, with the reason.
pub fn report(verdicts: &Verdicts, changes: Option<&[Change]>) -> String {
    let (mut cases, mut failures, mut errors, mut skipped) = (Vec::new(), 0, 0, 0);
    let judged = verdicts
        .stages
        .iter()
        .filter(|s| s.verdict != Verdict::Reference);
    let of_run = judged.map(|s| (s.name.clone(), Gravity::of(s), s.reason.clone()));
    let all: Vec<(String, Gravity, String)> = match changes {
        None => of_run.collect(),
        Some(changes) => {
            let named = changes.iter().filter(|c| c.stage != verdicts.reference);
            named
                .map(|c| (c.stage.clone(), c.gravity, c.says.clone()))
                .collect()
        }
    };
    for (name, gravity, says) in &all {
        let (name, says) = (escape(name), escape(says));
        let body = match gravity {
            Gravity::Fine => format!("<system-out>{says}</system-out>"),
            Gravity::Open => {
                skipped += 1;
                format!("<skipped message=\"{says}\"/>")
            }
            Gravity::Failed => {
                errors += 1;
                format!("<error type=\"failed\" message=\"{says}\"/>")
            }
            Gravity::Harmful => {
                failures += 1;
                format!("<failure type=\"affects\" message=\"{says}\"/>")
            }
        };
        cases.push(format!(
            "    <testcase classname=\"inferdiff\" name=\"{name}\" time=\"0\">{body}</testcase>\n"
        ));
    }
    let counts = format!(
        "tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"0\"",
        all.len()
    );
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"inferdiff\" {counts}>\n  \
         <testsuite name=\"stages\" {counts}>\n{}  </testsuite>\n</testsuites>\n",
        cases.concat()
    )
}

/// Text as XML 1.0 allows it, in attributes too.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' => out += "&#10;",
            '\t' => out.push(c),
            // Other controls cannot be written in XML 1.0 at all.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
