//! From samples to verdicts of metrics: the rules in their order, with Holm over the family
//! (`docs/verdicts.md`).

use std::collections::BTreeMap;

use inferdiff_schemas::run::verdicts::{
    Basis, Direction, MetricVerdict, Noise, SliceVerdict, StageVerdict, Telling, Unit, Verdict,
    Verdicts,
};

use super::behaviour::{Selfsame, both};
use super::collect::StageData;
use super::rows::Source;
use super::sample::{NoiseOf, Sample};
use super::scores::Asked;
use super::weighting::{Parts, Weighting, parts};
use super::{ALPHA, EQUIVALENCE, JudgeError, JudgeOptions, rules, telling};
use crate::metric::{Kind, Scores};
use crate::verdict::{SoFar, benjamini_hochberg, holm, n_to_decide};

/// One stage and metric before Holm has spoken.
struct Judged<'a> {
    stage: usize,
    asked: &'a Asked,
    sample: Sample,
    /// Of "no effect", where there is a margin to judge by.
    p_value: Option<f64>,
    /// Of both sides against themselves, where they were asked again.
    noise: Option<Noise>,
    slices: Vec<SliceVerdict>,
    telling: Vec<Telling>,
}

pub(super) fn decide(
    source: &Source<'_>,
    options: &JudgeOptions,
    stages: &[StageData],
    asked: &[Asked],
    criterion: String,
) -> Result<Verdicts, JudgeError> {
    let reference = &stages[0];
    let weighting = Weighting::new(
        source.requests,
        options.cluster_by.as_deref(),
        source.labels,
    )?;
    let cuts = options.slice_by.iter().map(|by| {
        let cut = parts(source.requests, by, "--slice-by")?;
        Ok((by.as_str(), cut))
    });
    let cuts: Vec<(&str, Parts)> = cuts.collect::<Result<_, JudgeError>>()?;
    let selfsame = stages.iter().map(|data| Selfsame::read(source, data));
    let selfsame: Vec<Selfsame> = selfsame.collect::<Result<_, _>>()?;
    let own = selfsame[0].noise(source, &weighting, asked)?;
    let mut judged = Vec::new();
    for (stage, data) in stages.iter().enumerate().skip(1) {
        // Stages of which nothing was compared have failed: they are no part of the family.
        if data.all_bits_equal || data.compared_rows == 0 {
            continue;
        }
        let was_asked = selfsame[stage].was_asked() || selfsame[0].was_asked();
        let theirs = selfsame[stage].noise(source, &weighting, asked)?;
        let scores = source.scores(data, asked)?;
        for (((scores, asked), own), theirs) in scores.iter().zip(asked).zip(&own).zip(&theirs) {
            let kind = &asked.metric.kind;
            let (of, noise) = both(own, theirs, was_asked);
            let Some(sample) = Sample::new(scores, kind, &weighting, &of) else {
                continue;
            };
            let delta = noise.as_ref().map_or(0.0, |n| n.delta);
            let p_value = asked.metric.margin.map(|m| sample.p_value(m, delta));
            let slices = sliced(&cuts, &weighting, scores, asked);
            let telling = telling::by_metric((source, &weighting), data, (scores, asked), &of)?;
            judged.push(Judged {
                stage,
                asked,
                sample,
                p_value,
                noise,
                slices,
                telling,
            });
        }
    }
    let family: Vec<f64> = judged.iter().filter_map(|j| j.p_value).collect();
    let mut corrected = holm(&family, ALPHA).into_iter();
    let mut decided: BTreeMap<usize, Vec<MetricVerdict>> = BTreeMap::new();
    for judged in judged {
        let corrected = judged.p_value.and_then(|_| corrected.next());
        let stage = decided.entry(judged.stage).or_default();
        stage.push(judged.decide(corrected));
    }
    let mut verdicts = Vec::new();
    for (i, data) in stages.iter().enumerate() {
        let metrics = decided.remove(&i).unwrap_or_default();
        let (verdict, basis, reason) =
            rules::stage(source, (stages, &selfsame), i, &metrics, !asked.is_empty())?;
        verdicts.push(StageVerdict {
            name: data.name.clone(),
            verdict,
            basis,
            reason,
            optional: data.stage.optional,
            outcomes: data.outcomes.clone(),
            outputs: data.outputs.clone(),
            named: data.named.first.clone(),
            named_in_all: data.named.all,
            telling: match metrics.is_empty() && i > 0 {
                true => telling::by_tolerance(source, data)?,
                false => Vec::new(),
            },
            metrics,
            behaviour: selfsame[i].behaviour.clone(),
        });
    }
    let largest = reference.largest();
    let items = reference.items(largest);
    let labelled = reference.labelled.get(largest).copied().unwrap_or(0);
    Ok(Verdicts {
        format: 1,
        requests: source.manifest.requests,
        left_out: source.manifest.left_out.clone(),
        items,
        reference: reference.name.clone(),
        production_matches: Vec::new(),
        production_agreement: Vec::new(),
        labels: source.labels.map(|l| l.coverage(labelled, items)),
        criterion,
        faults: Vec::new(),
        stages: verdicts,
    })
}

/// The metric on every part of the traffic, Benjamini–Hochberg over all of them.
fn sliced(
    cuts: &[(&str, Parts)],
    weighting: &Weighting<'_>,
    scores: &Scores,
    asked: &Asked,
) -> Vec<SliceVerdict> {
    let mut found = Vec::new();
    for (by, cut) in cuts {
        let part = Scores {
            absolute: scores.absolute,
            positive: scores.positive.as_ref().map(|_| Vec::new()),
            ..Scores::default()
        };
        let mut parts = vec![part; cut.values.len()];
        for (i, item) in scores.items.iter().enumerate() {
            let Some(part) = cut.part(item.request).map(|p| &mut parts[p]) else {
                continue;
            };
            part.items.push(*item);
            if let (Some(to), Some(from)) = (&mut part.positive, &scores.positive) {
                to.push(from[i]);
            }
        }
        for (value, part) in cut.values.iter().zip(&parts) {
            let kind = &asked.metric.kind;
            let Some(s) = Sample::new(part, kind, weighting, &NoiseOf::new()) else {
                continue;
            };
            let slice = SliceVerdict {
                by: (*by).to_owned(),
                value: value.clone(),
                n: s.n,
                flips: s.flips,
                delta: s.delta,
                interval: s.estimate.interval(0.95),
                stands_out: false,
            };
            found.push((s.p_value(asked.metric.margin.unwrap_or(0.0), 0.0), slice));
        }
    }
    let discovered = benjamini_hochberg(&found.iter().map(|f| f.0).collect::<Vec<_>>(), ALPHA);
    for ((_, slice), stands_out) in found.iter_mut().zip(discovered) {
        slice.stands_out = stands_out;
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found.into_iter().map(|(_, slice)| slice).collect()
}

impl Judged<'_> {
    fn decide(self, corrected: Option<(f64, bool)>) -> MetricVerdict {
        let s = &self.sample;
        let metric = &self.asked.metric;
        let narrow = s.estimate.interval(EQUIVALENCE);
        let (verdict, interval, confidence) = match (metric.margin, corrected) {
            (Some(margin), Some((confidence, rejected))) => {
                let (verdict, wide) = self.judge(margin, confidence, rejected);
                if wide {
                    (Some(verdict), s.estimate.interval(confidence), confidence)
                } else {
                    (Some(verdict), narrow, EQUIVALENCE)
                }
            }
            _ => (None, narrow, EQUIVALENCE),
        };
        let direction = (verdict == Some(Verdict::Affects)).then_some({
            if s.delta < 0.0 {
                Direction::Worse
            } else {
                Direction::Better
            }
        });
        let beyond = match (interval, metric.margin) {
            (Some([low, high]), Some(margin)) => high < -margin || low > margin,
            _ => false,
        };
        let n_to_decide = (verdict == Some(Verdict::Inconclusive))
            .then(|| self.n_to_decide(corrected.map_or(EQUIVALENCE, |c| c.0)))
            .flatten();
        let clusters = match &s.estimate {
            super::sample::Estimate::Clusters(c) => Some((c.clusters, c.changed)),
            _ => None,
        };
        let basis = match (&metric.kind, s.absolute) {
            (Kind::Command { .. }, _) => Basis::Command,
            (_, true) => Basis::Labels,
            (_, false) => Basis::Agreement,
        };
        MetricVerdict {
            name: self.asked.title(),
            reference: s.reference,
            stage: Some(s.stage),
            delta: Some(s.delta),
            interval,
            confidence: Some(confidence),
            margin: metric.margin,
            direction,
            beyond_margin: direction.is_some() && beyond,
            flips: s.flips,
            n: s.n,
            only_reference_right: s.pairs.map(|p| p.0),
            only_stage_right: s.pairs.map(|p| p.1),
            ties: s.ties,
            n_to_decide,
            method: s.estimate.method().to_owned(),
            verdict,
            basis: Some(basis),
            effective_n: Some(s.effective_n),
            clusters: clusters.map(|c| c.0),
            changed_clusters: clusters.map(|c| c.1),
            unscored: s.unscored,
            excess: s.excess.as_ref().and_then(|e| e.interval(confidence)),
            noise: self.noise,
            slices: self.slices,
            telling: self.telling,
            unit: match metric.kind.range() {
                Some(_) => Unit::Points,
                None => Unit::Value,
            },
        }
    }

    /// The verdict, and whether the interval at Holm's confidence decided it.
    fn judge(&self, margin: f64, confidence: f64, rejected: bool) -> (Verdict, bool) {
        let s = &self.sample;
        let inside = s.estimate.interval(EQUIVALENCE).is_some_and(|[low, high]| {
            // A zero-width interval proves nothing.
            low > -margin && high < margin && high > low
        });
        // What has no score at all cannot be shown to be equal.
        if inside && s.unscored == 0 {
            return (Verdict::Equivalent, false);
        }
        if !rejected {
            return (Verdict::Inconclusive, false);
        }
        let noise = self.noise.as_ref().map_or(0.0, |n| n.delta);
        match (s.shows(margin, noise, confidence), s.absolute) {
            (true, true) => (Verdict::Affects, true),
            (true, false) => (Verdict::MayAffect, true),
            (false, _) => (Verdict::Inconclusive, false),
        }
    }

    fn n_to_decide(&self, confidence: f64) -> Option<u64> {
        let s = &self.sample;
        let margin = self.asked.metric.margin?;
        n_to_decide(&SoFar {
            n: s.n,
            delta: s.delta,
            standard_error: s.estimate.standard_error(),
            null: match s.absolute {
                true => self.noise.as_ref().map_or(0.0, |n| n.delta),
                false => margin,
            },
            margin,
            confidence,
            design: s.design(),
        })
    }
}

#[cfg(test)]
#[path = "simulations.rs"]
mod simulations;
