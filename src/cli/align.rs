//! `inferdiff align`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use inferdiff_schemas::capture::Capture;
use inferdiff_schemas::storage::Disk;

use super::{Ended, Failure, print, print_json};
use crate::align::{AlignOptions, Alignment, By, Difference, align};

/// Are the inputs of two captures the same, bit for bit? Says what happened to those that are not.
///
/// Exit code: 0 every request has its partner and all inputs are equal, 1 something differs,
/// 2 usage, 3 nothing differs but some inputs are not in the captures.
#[derive(Args)]
pub struct AlignArgs {
    /// The first capture: the side that is right, or the training side.
    a: PathBuf,
    /// The second capture.
    b: PathBuf,
    /// How requests find their partners.
    #[arg(long, value_enum, default_value_t = Match::Auto)]
    by: Match,
    /// Explain at most this many differing pairs; the rest are counted.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    explain: usize,
    /// Show at most this many differing pairs.
    #[arg(long, value_name = "N", default_value_t = 5)]
    show: usize,
    /// JSON for machines.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Match {
    /// By the client's ids where both captures share one, else by order.
    Auto,
    /// By the client's ids.
    Id,
    /// By the order of arrival.
    Order,
}

/// Runs `align`.
pub fn run(args: &AlignArgs) -> Ended {
    let open = |path| Capture::open(Arc::new(Disk), path).map_err(Failure::usage);
    let (a, b) = (open(&args.a)?, open(&args.b)?);
    let options = AlignOptions {
        by: match args.by {
            Match::Auto => By::Auto,
            Match::Id => By::ClientId,
            Match::Order => By::Order,
        },
        explain: args.explain,
    };
    let found = align(&a, &b, &options).map_err(Failure::usage)?;
    if found.matched.pairs == 0 {
        return Err(Failure::usage(format!(
            "no request of {} has a partner in {} (matched by {}): try another --by",
            args.a.display(),
            args.b.display(),
            by(found.matched.by)
        )));
    }
    if args.json {
        print_json(&found)?;
    } else {
        print(&text(&found, args.show))?;
    }
    Ok(match &found {
        f if f.is_equal() => 0,
        f if f.differing > 0 || f.matched.only_a + f.matched.only_b > 0 => 1,
        _ => 3,
    })
}

fn by(by: By) -> &'static str {
    match by {
        By::ClientId => "client id",
        By::Auto | By::Order => "order of arrival",
    }
}

/// The answer in the first line, then what is not aligned beside the inputs, then the differences.
fn text(found: &Alignment, show: usize) -> String {
    let m = &found.matched;
    let mut text = if found.is_equal() {
        format!(
            "All inputs of {} requests are equal, bit for bit.\n",
            m.pairs
        )
    } else if found.differing > 0 {
        let first = found.differences.first();
        let what = first.and_then(|d| d.findings.first());
        let what = what.map_or_else(String::new, |f| {
            let all: Vec<_> = f.looks.0.iter().map(ToString::to_string).collect();
            format!(": `{}`: {}", f.tensor, all.join("; then "))
        });
        format!(
            "The inputs of {} of {} requests differ{what}.\n",
            found.differing, m.pairs
        )
    } else {
        format!(
            "No input of {} requests is shown to differ, but not everything could be compared.\n",
            m.pairs
        )
    };
    if found.environment.is_empty() {
        text += "environment: no difference is known\n";
    }
    for fact in &found.environment {
        let say = |side: &Option<String>| side.clone().unwrap_or_else(|| "not said".to_owned());
        let (a, b) = (say(&fact.a), say(&fact.b));
        text += &format!("environment: {}: {a} in A, {b} in B\n", fact.fact);
    }
    text += &format!(
        "{} pairs by {}: {} equal, {} differ\n",
        m.pairs,
        by(m.by),
        found.equal,
        found.differing
    );
    for (why, n) in &found.not_comparable {
        text += &format!("{n} pairs cannot be compared: {why}\n");
    }
    if m.only_a + m.only_b > 0 {
        text += &format!(
            "without a partner: {} in A, {} in B ({}, …)\n",
            m.only_a,
            m.only_b,
            m.first_only.join(", ")
        );
    }
    if m.repeated_ids > 0 {
        text += &format!(
            "{} client ids are repeated: their requests were paired in order of arrival\n",
            m.repeated_ids
        );
    }
    for (side, left) in [("A", &m.left_out_a), ("B", &m.left_out_b)] {
        for (why, n) in left {
            text += &format!("{n} exchanges of {side} have no tensors to compare: {why}\n");
        }
    }
    for (kind, n) in &found.kinds {
        text += &format!("  {n} x {kind}\n");
    }
    for difference in found.differences.iter().take(show) {
        text += &one(difference);
    }
    text
}

fn one(d: &Difference) -> String {
    let id = d.client_request_id.as_deref().unwrap_or("-");
    let mut text = format!("\n{} ~ {} (client id {id})\n", d.a, d.b);
    for f in &d.findings {
        let side = |s: &Option<String>| s.clone().unwrap_or_else(|| "not there".to_owned());
        text += &format!(
            "  `{}` {} in A, {} in B\n",
            f.tensor,
            side(&f.a),
            side(&f.b)
        );
        for looks in &f.looks.0 {
            text += &format!("    {looks}\n");
        }
        if let Some(first) = &f.first {
            text += &format!(
                "    first difference at {:?}: {} in A, {} in B\n",
                first.index, first.a, first.b
            );
        }
        if let Some(n) = f.differing {
            let most = f
                .max_abs
                .map_or_else(String::new, |m| format!(", by {m:.6e} at most"));
            text += &format!("    {n} elements differ{most}\n");
        }
    }
    text
}
