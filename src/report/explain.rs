//! The numbers behind one stage's verdict.

use std::fmt::Write;

use inferdiff_schemas::run::verdicts::{
    Behaviour, MetricVerdict, SliceVerdict, StageVerdict, Telling, Unit, Verdicts,
};

/// Explains the verdict of `stage`; `None` where there is no such stage.
pub fn explain(verdicts: &Verdicts, stage: &str) -> Option<String> {
    let s = verdicts.stages.iter().find(|s| s.name == stage)?;
    let verdict = serde_json::to_value(s.verdict).ok();
    let verdict = verdict.as_ref().and_then(|v| v.as_str()).unwrap_or("?");
    let mut lines = vec![
        format!("{}: {verdict}", s.name),
        format!("  {}", s.reason),
        format!("criterion  {}", verdicts.criterion),
    ];
    lines.extend(s.outputs.iter().map(|o| {
        format!(
            "output     {}: {} of {} items bit-equal, {} beyond tolerance, largest difference {}",
            o.name,
            o.bit_equal,
            o.items,
            o.items_beyond_tolerance,
            o.max_abs
                .map_or_else(|| "-".to_owned(), |v| format!("{v:.3e}"))
        )
    }));
    for m in &s.metrics {
        lines.push(String::new());
        metric(m, &mut lines);
    }
    if !s.telling.is_empty() {
        lines.push(String::new());
        telling(&s.telling, &mut lines);
    }
    if let Some(b) = &s.behaviour {
        lines.push(String::new());
        behaviour(s, b, &mut lines);
    }
    let mut text = String::new();
    for line in lines {
        writeln!(text, "{}", line.trim_end()).expect("a String takes every line");
    }
    Some(text)
}

fn metric(m: &MetricVerdict, lines: &mut Vec<String>) {
    let told = |v: f64| match m.unit {
        Unit::Points => format!("{:.3}", 100.0 * v),
        Unit::Value => format!("{v:.6}"),
    };
    let unit = match m.unit {
        Unit::Points => ", in points",
        Unit::Value => "",
    };
    let dash = || "-".to_owned();
    let range = |i: Option<[f64; 2]>| {
        i.map_or_else(dash, |[low, high]| {
            format!("[{}, {}]", told(low), told(high))
        })
    };
    lines.push(format!("metric     {}{unit}", m.name));
    let mut say = |key: &str, value: String| lines.push(format!("  {key:<16} {value}"));
    say("reference", m.reference.map_or_else(dash, told));
    say("stage", m.stage.map_or_else(dash, told));
    say("change", m.delta.map_or_else(dash, told));
    let confidence = 100.0 * m.confidence.unwrap_or(f64::NAN);
    say(
        "interval",
        format!("{} at {confidence:.2} %", range(m.interval)),
    );
    say("method", m.method.clone());
    say(
        "margin",
        m.margin
            .map_or_else(|| "none: reported, not judged".to_owned(), told),
    );
    if let (Some(b), Some(c)) = (m.only_reference_right, m.only_stage_right) {
        let of = format!("b = {b} only the reference right, c = {c} only the stage");
        say("counts", of);
    }
    say(
        "flips",
        format!("{} of {} items, {} with a tie", m.flips, m.n, m.ties),
    );
    if let Some(n) = m.effective_n {
        say("effective n", format!("{n:.1} of {} items", m.n));
    }
    if let (Some(all), Some(changed)) = (m.clusters, m.changed_clusters) {
        say("clusters", format!("{all}, {changed} changed"));
    }
    if m.unscored > 0 {
        say("without a score", format!("{} items", m.unscored));
    }
    say(
        "noise",
        m.noise.as_ref().map_or_else(
            || "not measured".to_owned(),
            |n| {
                format!(
                    "the reference flips {} and the stage {} of {} items by themselves, change {}",
                    n.reference_flips,
                    n.stage_flips,
                    n.n,
                    told(n.delta)
                )
            },
        ),
    );
    if m.excess.is_some() {
        say("beyond noise", range(m.excess));
    }
    if let Some(n) = m.n_to_decide {
        say("n to decide", format!("about {n} items"));
    }
    slices(&m.slices, &told, lines);
    telling(&m.telling, lines);
}

fn slices(slices: &[SliceVerdict], told: &dyn Fn(f64) -> String, lines: &mut Vec<String>) {
    const SHOWN: usize = 10;
    if slices.is_empty() {
        return;
    }
    let found = slices.iter().filter(|s| s.stands_out).count();
    lines.push(format!(
        "  slices           {} judged, {found} stand out",
        slices.len()
    ));
    for s in slices.iter().take(found.clamp(3, SHOWN)) {
        let mark = if s.stands_out { "  <- stands out" } else { "" };
        let interval = s.interval.map_or_else(String::new, |[low, high]| {
            format!(" [{}, {}]", told(low), told(high))
        });
        let (by, value, n, flips) = (&s.by, &s.value, s.n, s.flips);
        let delta = told(s.delta);
        lines.push(format!(
            "    {by} = {value}: change {delta}{interval}, {flips} of {n} items flip{mark}"
        ));
    }
}

fn telling(items: &[Telling], lines: &mut Vec<String>) {
    if items.is_empty() {
        return;
    }
    lines.push("  most telling".to_owned());
    for t in items {
        let client = t.client_request_id.as_ref();
        let client = client.map_or_else(String::new, |id| format!(" ({id})"));
        lines.push(format!("    {} item {}{client}: {}", t.id, t.item, t.why));
    }
}

fn behaviour(s: &StageVerdict, b: &Behaviour, lines: &mut Vec<String>) {
    let found = b.found();
    let found = if found.is_empty() {
        "nothing but the request".to_owned()
    } else {
        found.join(", ")
    };
    lines.push(format!("depends on {found}"));
    for (k, a) in (1..).zip(&b.again) {
        lines.push(format!(
            "  process {}/again-{k}: {} of {} items differ in bits, {} beyond tolerance",
            s.name, a.differing, a.items, a.beyond_tolerance
        ));
    }
    for p in &b.probes {
        let mut line = format!(
            "  {:<10} {} of {} exchanges differ in bits, {} beyond tolerance, {} items flip",
            p.probe.to_string(),
            p.differing,
            p.asked,
            p.beyond_tolerance,
            p.flips
        );
        if let Some(first) = &p.first {
            line += &format!("; the first is {first}");
        }
        for (why, n) in &p.left_out {
            line += &format!("; {n} left out: {why}");
        }
        lines.push(line);
    }
    lines.extend(b.problems.iter().map(|p| format!("  not asked: {p}")));
}
