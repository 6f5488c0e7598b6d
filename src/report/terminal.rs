//! The terminal table: the answer in its first line, then a line per stage.

use comfy_table::{ContentArrangement, Table, presets};
use inferdiff_schemas::run::verdicts::{
    Basis, Direction, MetricVerdict, StageVerdict, Verdict, Verdicts,
};

/// Columns of the table.
pub(super) const HEADER: [&str; 11] = [
    "stage",
    "verdict",
    "basis",
    "metric",
    "reference",
    "stage",
    "change, points",
    "b/c",
    "flips",
    "bit-equal",
    "max abs",
];

/// The report of a run as text.
pub fn table(verdicts: &Verdicts) -> String {
    let mut text = format!("{}\n\n", headline(verdicts));
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_BORDERS_ONLY_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(HEADER);
    for stage in &verdicts.stages {
        table.add_row(row(stage));
    }
    text += &format!("{table}\n\n");
    for stage in verdicts
        .stages
        .iter()
        .filter(|s| s.verdict != Verdict::Reference)
    {
        text += &format!("{}: {}\n", stage.name, stage.reason);
        let odd: Vec<_> = stage
            .outcomes
            .iter()
            .filter(|(outcome, _)| *outcome != "compared")
            .map(|(outcome, n)| format!("{n} {outcome}"))
            .collect();
        if !odd.is_empty() {
            text += &format!("  exchanges not compared: {}\n", odd.join(", "));
        }
        text += &named(stage);
    }
    text.push('\n');
    text += &production(verdicts);
    if let Some(l) = &verdicts.labels {
        text += &format!(
            "labels: {} of {} items labelled, {} label rows without an item, {} repeated\n",
            l.matched,
            l.matched + l.items_without_label,
            l.labels_without_item,
            l.duplicates
        );
    }
    let ties: Vec<_> = verdicts
        .stages
        .iter()
        .flat_map(|s| s.metrics.iter().map(move |m| (s, m)))
        .filter(|(_, m)| m.ties > 0)
        .map(|(s, m)| format!("{} {}", s.name, m.ties))
        .collect();
    if !ties.is_empty() {
        text += &format!(
            "items with a tie for the largest value: {}\n",
            ties.join(", ")
        );
    }
    text
}

/// Exchanges by name: what somebody looks at first.
fn named(stage: &StageVerdict) -> String {
    const SHOWN: usize = 5;
    let mut text = String::new();
    for e in stage.named.iter().take(SHOWN) {
        let client = e.client_request_id.as_ref();
        let client = client.map_or_else(String::new, |id| format!(" ({id})"));
        text += &format!("  {}{client}: {}: {}\n", e.id, e.outcome, e.why);
    }
    let more = stage.named_in_all - stage.named_in_all.min(SHOWN as u64);
    if more > 0 {
        text += &format!("  and {more} more: verdicts.json, comparisons\n");
    }
    text
}

/// The answer in one line.
pub(super) fn headline(verdicts: &Verdicts) -> String {
    let of = |v: Verdict| verdicts.stages.iter().filter(move |s| s.verdict == v);
    let mut findings: Vec<String> = of(Verdict::Affects)
        .flat_map(|s| {
            s.metrics
                .iter()
                .filter(|m| m.direction.is_some())
                .map(move |m| (s, m))
        })
        .map(|(s, m)| {
            let verb = match m.direction {
                Some(Direction::Worse) => "lowers",
                _ => "raises",
            };
            let (points, low, high) = magnitude(m);
            format!(
                "{} {verb} {} by {points} points [{low}, {high}]",
                s.name, m.name
            )
        })
        .collect();
    findings.extend(of(Verdict::MayAffect).flat_map(|s| {
        s.metrics
            .iter()
            .map(move |m| format!("{} flips {} of {} answers", s.name, m.flips, m.n))
    }));
    let names = |v: Verdict| {
        of(v)
            .map(|s| s.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut open = Vec::new();
    for (v, word) in [
        (Verdict::Failed, "failed"),
        (Verdict::Unavailable, "unavailable"),
        (Verdict::Inconclusive, "inconclusive"),
    ] {
        if of(v).next().is_some() {
            open.push(format!("{word}: {}", names(v)));
        }
    }
    let rest = if open.is_empty() {
        "nothing else matters".to_owned()
    } else {
        open.join("; ")
    };
    match (findings.is_empty(), open.is_empty()) {
        (true, true) => format!(
            "No stage changes the answers in a way that matters ({} exchanges, {} items).",
            verdicts.requests, verdicts.items
        ),
        (true, false) => format!("No stage is shown to affect the metric, but {rest}."),
        (false, _) => format!("{}; {rest}.", findings.join("; ")),
    }
}

/// Size and bounds of a change, both positive where it goes the way that the words say.
fn magnitude(m: &MetricVerdict) -> (String, String, String) {
    let [low, high] = m.interval.unwrap_or([f64::NAN; 2]);
    let points = |v: f64| format!("{:.1}", 100.0 * v);
    match m.direction {
        Some(Direction::Worse) => (
            points(-m.delta.unwrap_or(f64::NAN)),
            points(-high),
            points(-low),
        ),
        _ => (
            points(m.delta.unwrap_or(f64::NAN)),
            points(low),
            points(high),
        ),
    }
}

/// One stage, by column.
pub(super) fn row(s: &StageVerdict) -> Vec<String> {
    let dash = || "-".to_owned();
    let m = s.metrics.first();
    let percent = |v: Option<f64>| v.map_or_else(dash, |v| format!("{:.2} %", 100.0 * v));
    let change = m.and_then(|m| Some((m.delta?, m.interval?, m.confidence?)));
    let items: u64 = s.outputs.iter().map(|o| o.items).sum();
    let equal: u64 = s.outputs.iter().map(|o| o.bit_equal).sum();
    let worst = s.outputs.iter().filter_map(|o| o.max_abs).reduce(f64::max);
    vec![
        s.name.clone(),
        match (s.verdict, m.and_then(|m| m.direction)) {
            (Verdict::Affects, Some(Direction::Worse)) => "AFFECTS (worse)".to_owned(),
            (Verdict::Affects, _) => "affects (better)".to_owned(),
            (v, _) => format!("{v:?}")
                .chars()
                .enumerate()
                .flat_map(|(i, c)| {
                    let space = (i > 0 && c.is_uppercase()).then_some(' ');
                    space.into_iter().chain(c.to_lowercase())
                })
                .collect(),
        },
        s.basis.map_or_else(dash, |b| {
            match b {
                Basis::Labels => "labels",
                Basis::Agreement => "agreement",
                Basis::Tolerance => "tolerance",
                Basis::Command => "command",
            }
            .to_owned()
        }),
        m.map_or_else(dash, |m| m.name.clone()),
        percent(m.and_then(|m| m.reference)),
        percent(m.and_then(|m| m.stage)),
        change.map_or_else(dash, |(d, [low, high], confidence)| {
            format!(
                "{:+.2} [{:+.2}, {:+.2}] {:.1} %",
                100.0 * d,
                100.0 * low,
                100.0 * high,
                100.0 * confidence
            )
        }),
        m.and_then(|m| {
            Some(format!(
                "{}/{}",
                m.only_reference_right?, m.only_stage_right?
            ))
        })
        .unwrap_or_else(dash),
        m.map_or_else(dash, |m| m.flips.to_string()),
        if items > 0 {
            format!("{equal}/{items}")
        } else {
            dash()
        },
        worst.map_or_else(dash, |w| format!("{w:.2e}")),
    ]
}

fn production(verdicts: &Verdicts) -> String {
    if verdicts.production_agreement.is_empty() {
        return String::new();
    }
    let mut text = String::from("production's recorded answers, reproduced bit for bit by:\n");
    for p in &verdicts.production_agreement {
        let all = if p.equal == p.of {
            "  <- every one"
        } else {
            ""
        };
        text += &format!("  {}: {} of {} exchanges{all}\n", p.stage, p.equal, p.of);
    }
    text
}
