//! The rules, in their order (`docs/verdicts.md`).

use std::collections::HashMap;

use inferdiff_schemas::run::manifest::{Manifest, StageState};
use inferdiff_schemas::run::requests::RequestRow;
use inferdiff_schemas::run::verdicts::{
    Basis, Direction, MetricVerdict, StageVerdict, Verdict, Verdicts,
};

use super::applied::did_not_act;
use super::collect::StageData;
use super::sample::Sample;
use super::{ALPHA, EQUIVALENCE, JudgeError, coverage};
use crate::labels::Joined;
use crate::metric::Metric;
use crate::verdict::{holm, n_to_decide};

/// One stage and metric before Holm has spoken.
struct Judged {
    stage: usize,
    title: String,
    margin: f64,
    sample: Sample,
    p_value: f64,
}

pub(super) fn decide(
    manifest: &Manifest,
    stages: &[StageData],
    metrics: &[Metric],
    requests: &[RequestRow],
    labels: Option<&Joined>,
) -> Result<Verdicts, JudgeError> {
    let reference = &stages[0];
    let mut judged = Vec::new();
    for metric in metrics {
        let output = output_of(metric, reference)?;
        for (stage, data) in stages.iter().enumerate().skip(1) {
            let items = data.items.get(&output).map_or(&[][..], Vec::as_slice);
            // Stages of which nothing was compared have failed: they are no part of the family.
            if items.is_empty() || data.all_bits_equal || data.compared_rows == 0 {
                continue;
            }
            let sample = Sample::new(items, requests, labels);
            if sample.n == 0 {
                continue;
            }
            let p_value = sample.p_value(metric.margin);
            let (title, margin) = (metric.title(&output), metric.margin);
            judged.push(Judged {
                stage,
                title,
                margin,
                sample,
                p_value,
            });
        }
    }
    let corrected = holm(&judged.iter().map(|j| j.p_value).collect::<Vec<_>>(), ALPHA);
    let mut decided: HashMap<usize, Vec<(Verdict, MetricVerdict)>> = HashMap::new();
    for (judged, (confidence, rejected)) in judged.iter().zip(corrected) {
        decided
            .entry(judged.stage)
            .or_default()
            .push(judged.decide(confidence, rejected));
    }
    let verdicts = stages.iter().enumerate().map(|(i, data)| {
        let mut verdict = stage_verdict(data, reference, i == 0, decided.remove(&i), metrics);
        verdict.optional = data.stage.optional;
        verdict
    });
    let items = reference.items.values().map(Vec::len).max().unwrap_or(0) as u64;
    let labelled = reference.items.values().max_by_key(|v| v.len());
    Ok(Verdicts {
        format: 1,
        requests: manifest.requests,
        items,
        reference: reference.name.clone(),
        production_matches: Vec::new(),
        production_agreement: Vec::new(),
        labels: labels.map(|l| coverage(l, labelled.map_or(&[][..], Vec::as_slice))),
        stages: verdicts.collect(),
    })
}

/// The output that a metric is about; it must be one whose items have classes.
fn output_of(metric: &Metric, reference: &StageData) -> Result<String, JudgeError> {
    let fail = |why: String| {
        Err(JudgeError::Criterion(format!(
            "metric `{}`: {why}",
            metric.name
        )))
    };
    let names: Vec<&String> = reference.items.keys().collect();
    let list = || {
        names
            .iter()
            .map(|n| n.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let output = match (&metric.output, names.as_slice()) {
        (Some(wanted), _) if names.contains(&wanted) => wanted.clone(),
        (Some(wanted), _) => {
            return fail(format!(
                "there is no output `{wanted}`; there are {}",
                list()
            ));
        }
        (None, [only]) => (*only).clone(),
        (None, []) => return fail("the reference answered nothing".to_owned()),
        (None, _) => return fail(format!("name one of the outputs with @: {}", list())),
    };
    let items = &reference.items[&output];
    if items.iter().all(|i| i.classes < 2 || i.reference.is_none()) {
        return fail(format!(
            "output `{output}` has no items of two or more numbers to choose from"
        ));
    }
    Ok(output)
}

impl Judged {
    fn decide(&self, holm_confidence: f64, rejected: bool) -> (Verdict, MetricVerdict) {
        let s = &self.sample;
        let narrow = s.interval(EQUIVALENCE);
        let inside = narrow[0] > -self.margin && narrow[1] < self.margin;
        // A zero-width interval proves nothing.
        let equivalent = inside && narrow[1] - narrow[0] > 0.0;
        let wide = s.interval(holm_confidence);
        let excludes_zero = wide[1] < 0.0 || wide[0] > 0.0;
        let (verdict, interval, confidence) = if equivalent {
            (Verdict::Equivalent, narrow, EQUIVALENCE)
        } else if s.labelled && rejected && excludes_zero {
            (Verdict::Affects, wide, holm_confidence)
        } else if !s.labelled && rejected && -wide[1] > self.margin {
            (Verdict::MayAffect, wide, holm_confidence)
        } else {
            (Verdict::Inconclusive, narrow, EQUIVALENCE)
        };
        let direction = (verdict == Verdict::Affects).then(|| {
            if interval[1] < 0.0 {
                Direction::Worse
            } else {
                Direction::Better
            }
        });
        let beyond = interval[1] < -self.margin || interval[0] > self.margin;
        let n_to_decide = (verdict == Verdict::Inconclusive)
            .then(|| self.n_to_decide())
            .flatten();
        let metric = MetricVerdict {
            name: self.title.clone(),
            reference: s.reference,
            stage: Some(s.stage),
            delta: Some(s.delta),
            interval: Some(interval),
            confidence: Some(confidence),
            margin: Some(self.margin),
            direction,
            beyond_margin: direction.is_some() && beyond,
            flips: s.flips,
            n: s.n,
            only_reference_right: s.labelled.then_some(s.b),
            only_stage_right: s.labelled.then_some(s.c),
            ties: s.ties,
            n_to_decide,
            method: s.method().to_owned(),
        };
        (verdict, metric)
    }

    /// The n at which the 90 % interval has shrunk to what is left between |Δ| and δ.
    fn n_to_decide(&self) -> Option<u64> {
        let s = &self.sample;
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let f = ((s.b + s.c) as f64 / s.n as f64).max(1.0 / s.n as f64);
        // To be equivalent the distance to δ must be resolved, to affect the distance to 0.
        let h = (self.margin - s.delta.abs()).abs().max(s.delta.abs());
        n_to_decide(f, h, EQUIVALENCE).map(|n| n.max(s.n + 1))
    }
}

fn stage_verdict(
    data: &StageData,
    reference: &StageData,
    is_reference: bool,
    decided: Option<Vec<(Verdict, MetricVerdict)>>,
    metrics: &[Metric],
) -> StageVerdict {
    let decided = decided.unwrap_or_default();
    let (verdict, basis, reason) = verdict_of(data, reference, is_reference, &decided, metrics);
    StageVerdict {
        name: data.name.clone(),
        verdict,
        basis,
        reason,
        optional: false,
        outcomes: data.outcomes.clone(),
        outputs: data.outputs.clone(),
        metrics: decided.into_iter().map(|(_, m)| m).collect(),
    }
}

fn verdict_of(
    data: &StageData,
    reference: &StageData,
    is_reference: bool,
    decided: &[(Verdict, MetricVerdict)],
    metrics: &[Metric],
) -> (Verdict, Option<Basis>, String) {
    let words = |why: &Option<String>| {
        why.clone()
            .unwrap_or_else(|| "it gave no reason".to_owned())
    };
    if is_reference {
        return (
            Verdict::Reference,
            None,
            "all stages are compared with it".to_owned(),
        );
    }
    match data.status.as_ref().map(|s| (s.state, &s.reason)) {
        Some((StageState::Unavailable, why)) => return (Verdict::Unavailable, None, words(why)),
        Some((StageState::Failed, why)) => return (Verdict::Failed, None, words(why)),
        None => {
            return (
                Verdict::Failed,
                None,
                "its process did not finish".to_owned(),
            );
        }
        Some((StageState::Completed, _)) => {}
    }
    if data.compared_rows == 0 {
        let outcomes: Vec<_> = data
            .outcomes
            .iter()
            .map(|(o, n)| format!("{n} {o}"))
            .collect();
        let why = data
            .first_error
            .as_ref()
            .map_or_else(String::new, |e| format!(": {e}"));
        let why = format!(
            "no answer of it could be compared ({}){why}",
            outcomes.join(", ")
        );
        return (Verdict::Failed, None, why);
    }
    let idle = did_not_act(
        (&data.stage, data.evidence.as_ref()),
        (&reference.stage, reference.evidence.as_ref()),
    );
    if data.all_bits_equal {
        if let Some(shown) = idle {
            return (Verdict::NotApplied, None, shown);
        }
        let why = "every compared bit is equal".to_owned();
        return (Verdict::Identical, Some(Basis::Tolerance), why);
    }
    let fault = idle.map_or_else(String::new, |shown| {
        format!(" (its evidence says that it did not act, {shown}, yet bits differ: a fault of our evidence)")
    });
    if metrics.is_empty() {
        let (n, of) = (data.beyond_tolerance, data.judged_items);
        return if n == 0 {
            let why = format!("all {of} items are within tolerance{fault}");
            (Verdict::Equivalent, Some(Basis::Tolerance), why)
        } else {
            let why = format!(
                "{n} of {of} items are beyond tolerance; whether that matters needs a metric \
                 (--metric top1) or labels{fault}"
            );
            (Verdict::Inconclusive, Some(Basis::Tolerance), why)
        };
    }
    // The gravest metric speaks for the stage.
    let gravity = |(v, m): &&(Verdict, MetricVerdict)| match (v, m.direction) {
        (Verdict::Affects, Some(Direction::Worse)) => 4,
        (Verdict::MayAffect, _) => 3,
        (Verdict::Affects, _) => 2,
        (Verdict::Inconclusive, _) => 1,
        _ => 0,
    };
    let Some((verdict, metric)) = decided.iter().max_by_key(gravity) else {
        let why = "no item of it could be judged by the metric".to_owned();
        return (Verdict::Inconclusive, None, why);
    };
    let basis = if metric.reference.is_some() {
        Basis::Labels
    } else {
        Basis::Agreement
    };
    (
        *verdict,
        Some(basis),
        format!("{}{fault}", sentence(*verdict, metric)),
    )
}

fn sentence(verdict: Verdict, m: &MetricVerdict) -> String {
    let points = |v: f64| format!("{:+.2}", 100.0 * v);
    let [low, high] = m.interval.unwrap_or([f64::NAN; 2]);
    let shown = format!(
        "{} changes by {} points [{}, {}] at {:.1} % confidence",
        m.name,
        points(m.delta.unwrap_or(f64::NAN)),
        points(low),
        points(high),
        100.0 * m.confidence.unwrap_or(f64::NAN)
    );
    let margin = 100.0 * m.margin.unwrap_or(f64::NAN);
    match verdict {
        Verdict::Equivalent => format!("{shown}: inside ±{margin:.2}"),
        Verdict::Inconclusive => match m.n_to_decide {
            Some(n) => format!("{shown}: about {n} items would decide, {} were judged", m.n),
            None => shown,
        },
        _ => shown,
    }
}
