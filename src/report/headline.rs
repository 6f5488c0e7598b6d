//! The answer in one sentence.

use std::collections::BTreeSet;

use inferdiff_schemas::run::verdicts::{
    Basis, Direction, MetricVerdict, StageVerdict, Unit, Verdict, Verdicts,
};

/// What was found, then what stays open; or that nothing matters.
pub fn headline(verdicts: &Verdicts) -> String {
    let of = |v: Verdict| verdicts.stages.iter().filter(move |s| s.verdict == v);
    let names: BTreeSet<&str> = verdicts
        .stages
        .iter()
        .flat_map(|s| s.metrics.iter().map(|m| m.name.as_str()))
        .collect();
    let alone = names.len() == 1;
    let mut findings: Vec<String> = of(Verdict::Affects)
        .flat_map(|s| s.metrics.iter().map(move |m| (s, m)))
        .filter(|(_, m)| m.direction.is_some())
        .map(|(s, m)| changed(s, m, alone))
        .collect();
    findings.extend(of(Verdict::MayAffect).flat_map(|s| {
        let may = |m: &&MetricVerdict| m.verdict == Some(Verdict::MayAffect);
        let words = |m: &MetricVerdict| match m.unit {
            Unit::Points => format!(
                "{} flips {} of {} answers ({})",
                s.name, m.flips, m.n, m.name
            ),
            Unit::Value => {
                let delta = m.delta.unwrap_or(f64::NAN);
                format!("{} moves {} by {delta:+.6}", s.name, m.name)
            }
        };
        s.metrics.iter().filter(may).map(words).collect::<Vec<_>>()
    }));
    let open = open(verdicts);
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

/// What was not judged, could not be decided, or depends on more than the request: `failed: a, b`.
fn open(verdicts: &Verdicts) -> Vec<String> {
    let say = |word: &str, is: &dyn Fn(&StageVerdict) -> bool| {
        let stages = verdicts.stages.iter().filter(|s| is(s));
        let names: Vec<_> = stages.map(|s| s.name.as_str()).collect();
        (!names.is_empty()).then(|| format!("{word}: {}", names.join(", ")))
    };
    let mut open: Vec<String> = Vec::new();
    for (v, word) in [
        (Verdict::Failed, "failed"),
        (Verdict::Unavailable, "unavailable"),
        (Verdict::Inconclusive, "inconclusive"),
    ] {
        open.extend(say(word, &|s| s.verdict == v));
    }
    for word in ["nondeterministic", "stateful", "batch-variant"] {
        let is = |s: &StageVerdict| {
            let behaviour = s.behaviour.as_ref();
            behaviour.is_some_and(|b| b.found().contains(&word))
        };
        open.extend(say(word, &is));
    }
    open
}

/// `int8 lowers accuracy by 5.2 points [3.8, 6.7]`, or that a metric is better or worse, where less of
/// it may be either.
fn changed(s: &StageVerdict, m: &MetricVerdict, alone: bool) -> String {
    let sign = if m.direction == Some(Direction::Worse) {
        -1.0
    } else {
        1.0
    };
    let [a, b] = m.interval.unwrap_or([f64::NAN; 2]).map(|v| sign * v);
    let (low, high) = (a.min(b), a.max(b));
    let size = sign * m.delta.unwrap_or(f64::NAN);
    let name = match m.basis {
        Some(Basis::Labels) if alone && m.name.starts_with("top1@") => "accuracy",
        _ => &m.name,
    };
    let worse = m.direction == Some(Direction::Worse);
    match m.unit {
        Unit::Points => {
            let verb = if worse { "lowers" } else { "raises" };
            let points = |v: f64| format!("{:.1}", 100.0 * v);
            let (size, low, high) = (points(size), points(low), points(high));
            format!("{} {verb} {name} by {size} points [{low}, {high}]", s.name)
        }
        Unit::Value => {
            let word = if worse { "worse" } else { "better" };
            format!(
                "{} makes {name} {word} by {size:.6} [{low:.6}, {high:.6}]",
                s.name
            )
        }
    }
}
