//! The terminal table: the answer in its first line, then a line per stage.

use comfy_table::{ContentArrangement, Table, presets};
use inferdiff_schemas::run::verdicts::{
    Basis, Direction, FaultClass, StageVerdict, Unit, Verdict, Verdicts,
};

use super::headline::headline;

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
    for fault in &verdicts.faults {
        text += &format!("where to look: {}: {}\n", class(fault.class), fault.why);
    }
    text.push('\n');
    text += &asked(verdicts);
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

fn class(class: FaultClass) -> &'static str {
    match class {
        FaultClass::OperatorImplementation => "operator implementation",
        FaultClass::OperatorOrModel => "operator or model",
        FaultClass::InferenceEngine => "inference engine",
        FaultClass::Framework => "framework",
        FaultClass::OptimizerPass => "optimiser pass",
        FaultClass::EngineError => "engine error",
        FaultClass::Undecided => "operator or engine",
    }
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

/// One stage, by column.
pub(super) fn row(s: &StageVerdict) -> Vec<String> {
    let dash = || "-".to_owned();
    // The metric that decided.
    let decided = s.metrics.iter().find(|m| m.verdict == Some(s.verdict));
    let m = decided.or(s.metrics.first());
    let value = m.is_some_and(|m| m.unit == Unit::Value);
    let share = |v: f64| match value {
        true => format!("{v:.6}"),
        false => format!("{:.2} %", 100.0 * v),
    };
    let percent = |v: Option<f64>| v.map_or_else(dash, share);
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
                Basis::ErrorRatio => "error ratio",
                Basis::Command => "command",
            }
            .to_owned()
        }),
        m.map_or_else(dash, |m| m.name.clone()),
        percent(m.and_then(|m| m.reference)),
        percent(m.and_then(|m| m.stage)),
        change.map_or_else(dash, |(d, [low, high], confidence)| {
            let told = |v: f64| match value {
                true => format!("{v:+.6}"),
                false => format!("{:+.2}", 100.0 * v),
            };
            let (d, low, high) = (told(d), told(low), told(high));
            format!("{d} [{low}, {high}] {:.1} %", 100.0 * confidence)
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

/// What was asked beside the replay; what was found stands in the stages' own lines.
fn asked(verdicts: &Verdicts) -> String {
    let all = verdicts.stages.iter().filter_map(|s| s.behaviour.as_ref());
    let behaviours: Vec<_> = all.collect();
    let probes = behaviours.iter().flat_map(|b| &b.probes);
    let mut kinds: Vec<String> = Vec::new();
    for p in probes.clone() {
        let name = p.probe.to_string();
        if !kinds.contains(&name) {
            kinds.push(name);
        }
    }
    let again: usize = behaviours.iter().map(|b| b.again.len()).sum();
    if kinds.is_empty() && again == 0 {
        return String::new();
    }
    let most = probes.map(|p| p.asked).max().unwrap_or(0);
    let kinds = match kinds.is_empty() {
        true => String::new(),
        false => format!(
            "; probes {} on up to {most} exchanges of each stage",
            kinds.join(", ")
        ),
    };
    let quiet = behaviours
        .iter()
        .all(|b| b.found().is_empty() && b.problems.is_empty());
    let found = if quiet { ": nothing found" } else { "" };
    format!("asked again: {again} further processes{kinds}{found}\n")
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
