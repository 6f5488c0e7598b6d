//! From verdicts of metrics to the verdict of a stage, in words.

use inferdiff_schemas::run::manifest::StageState;
use inferdiff_schemas::run::verdicts::{Basis, Direction, MetricVerdict, Unit, Verdict};

use super::JudgeError;
use super::applied::did_not_act;
use super::behaviour::{Beyond, Selfsame, sentence as sentence_of};
use super::collect::StageData;
use super::rows::Source;

/// The verdict of a stage: what ran at all comes first, then bits, then metrics, then tolerance.
pub(super) fn stage(
    source: &Source<'_>,
    (stages, selfsame): (&[StageData], &[Selfsame]),
    at: usize,
    metrics: &[MetricVerdict],
    asked: bool,
) -> Result<Judgement, JudgeError> {
    let (verdict, basis, why) = plain(source, (stages, selfsame), at, metrics, asked)?;
    let behaviour = sentence_of(selfsame[at].behaviour.as_ref());
    Ok((verdict, basis, format!("{why}{behaviour}")))
}

/// A verdict, what it rests on, and why.
pub(super) type Judgement = (Verdict, Option<Basis>, String);

fn plain(
    source: &Source<'_>,
    (stages, selfsame): (&[StageData], &[Selfsame]),
    at: usize,
    metrics: &[MetricVerdict],
    asked: bool,
) -> Result<Judgement, JudgeError> {
    let (data, reference) = (&stages[at], &stages[0]);
    if at == 0 {
        let why = "all stages are compared with it".to_owned();
        return Ok((Verdict::Reference, None, why));
    }
    if let Some((verdict, why)) = not_run(data) {
        return Ok((verdict, None, why));
    }
    let idle = did_not_act(
        (&data.stage, data.evidence.as_ref()),
        (&reference.stage, reference.evidence.as_ref()),
    );
    if data.all_bits_equal {
        if let Some(shown) = idle {
            return Ok((Verdict::NotApplied, None, shown));
        }
        let why = "every compared bit is equal".to_owned();
        return Ok((Verdict::Identical, Some(Basis::Tolerance), why));
    }
    let fault = idle.map_or_else(String::new, |shown| {
        format!(
            " (its evidence says that it did not act, {shown}, yet bits differ: a fault of our \
             evidence)"
        )
    });
    // The gravest metric speaks for the stage.
    let gravity = |m: &&MetricVerdict| match (m.verdict, m.direction) {
        (Some(Verdict::Affects), Some(Direction::Worse)) => 4,
        (Some(Verdict::MayAffect), _) => 3,
        (Some(Verdict::Affects), _) => 2,
        (Some(Verdict::Inconclusive), _) => 1,
        _ => 0,
    };
    let judged = metrics.iter().filter(|m| m.verdict.is_some());
    if let Some(metric) = judged.max_by_key(gravity) {
        let verdict = metric.verdict.unwrap_or(Verdict::Inconclusive);
        let why = format!("{}{fault}", sentence(verdict, metric));
        return Ok((verdict, metric.basis, why));
    }
    if asked && metrics.is_empty() {
        let why = "no item of it could be judged by the metric".to_owned();
        return Ok((Verdict::Inconclusive, None, why));
    }
    let of = data.judged_items;
    let (n, noisy) = blamed(source, data, [&selfsame[0], &selfsame[at]])?;
    let noisy = match noisy {
        0 => String::new(),
        k => format!(
            ", beside {k} that one side alone answers beyond it from one process to the next"
        ),
    };
    if n == 0 {
        let why = format!("all {of} items are within tolerance{noisy}{fault}");
        return Ok((Verdict::Equivalent, Some(Basis::Tolerance), why));
    }
    let need = if asked {
        "a margin (--margin, or margin=… of a metric)"
    } else {
        "a metric (--metric) or labels"
    };
    let why =
        format!("{n} of {of} items are beyond tolerance; whether that matters needs {need}{fault}");
    Ok((Verdict::Inconclusive, Some(Basis::Tolerance), why))
}

/// Items beyond the tolerance that the stage is blamed for; and those that it is not, because one
/// side answers them beyond the tolerance by itself.
fn blamed(
    source: &Source<'_>,
    data: &StageData,
    sides: [&Selfsame; 2],
) -> Result<(u64, u64), JudgeError> {
    let mut by_itself = Beyond::new();
    for side in sides {
        side.beyond(source, &mut by_itself)?;
    }
    let mut noisy = 0;
    if !by_itself.is_empty() {
        source.items(&data.name, &mut |output, i| {
            let known = by_itself.get(output);
            let known = known.is_some_and(|known| known.contains(&(i.request, i.item)));
            noisy += u64::from(i.beyond && known);
        })?;
    }
    Ok((data.beyond_tolerance - noisy, noisy))
}

/// Why nothing of a stage can be judged.
fn not_run(data: &StageData) -> Option<(Verdict, String)> {
    let words = |why: &Option<String>| {
        why.clone()
            .unwrap_or_else(|| "it gave no reason".to_owned())
    };
    match data.status.as_ref().map(|s| (s.state, &s.reason)) {
        Some((StageState::Unavailable, why)) => return Some((Verdict::Unavailable, words(why))),
        Some((StageState::Failed, why)) => return Some((Verdict::Failed, words(why))),
        None => return Some((Verdict::Failed, "its process did not finish".to_owned())),
        Some((StageState::Completed, _)) => {}
    }
    if data.compared_rows > 0 {
        return None;
    }
    let outcomes = data.outcomes.iter().map(|(o, n)| format!("{n} {o}"));
    let outcomes = outcomes.collect::<Vec<_>>().join(", ");
    let why = data.first_error.as_ref();
    let why = why.map_or_else(String::new, |e| format!(": {e}"));
    let why = format!("no answer of it could be compared ({outcomes}){why}");
    Some((Verdict::Failed, why))
}

/// What a metric says, in its own unit: points of shares, else its own numbers.
fn sentence(verdict: Verdict, m: &MetricVerdict) -> String {
    let told = |v: f64| match m.unit {
        Unit::Points => format!("{:+.2}", 100.0 * v),
        Unit::Value => format!("{v:+.6}"),
    };
    let unit = match m.unit {
        Unit::Points => " points",
        Unit::Value => "",
    };
    let delta = told(m.delta.unwrap_or(f64::NAN));
    let Some([low, high]) = m.interval else {
        return format!(
            "{} changes by {delta}{unit}; fewer than ten exchanges changed, and nothing bounds what \
             one more could do to a metric without bounds",
            m.name
        );
    };
    let shown = format!(
        "{} changes by {delta}{unit} [{}, {}] at {:.1} % confidence",
        m.name,
        told(low),
        told(high),
        100.0 * m.confidence.unwrap_or(f64::NAN)
    );
    let unscored = match m.unscored {
        0 => String::new(),
        n => format!("; {n} items have no score, so it can not be shown to be equivalent"),
    };
    match verdict {
        Verdict::Equivalent => {
            let margin = told(m.margin.unwrap_or(f64::NAN));
            format!("{shown}: inside ±{}", margin.trim_start_matches('+'))
        }
        Verdict::Inconclusive if m.clusters == Some(1) => {
            format!("{shown}: all items stand in one cluster, which shows nothing of others")
        }
        Verdict::Inconclusive => match m.n_to_decide {
            Some(n) => format!(
                "{shown}: about {n} items would decide, {} were judged{unscored}",
                m.n
            ),
            None => format!("{shown}{unscored}"),
        },
        _ => format!("{shown}{unscored}"),
    }
}
