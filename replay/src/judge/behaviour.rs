//! Noise and probes: a stage against itself.

use std::collections::{HashMap, HashSet};

use inferdiff_schemas::run::manifest::{StageState, StageStatus};
use inferdiff_schemas::run::probes::{Probe, ProbeResult};
use inferdiff_schemas::run::read_json;
use inferdiff_schemas::run::verdicts::{Again, Behaviour, Noise};

use super::JudgeError;
use super::collect::{StageData, again};
use super::rows::{Source, optional};
use super::sample::{NoiseOf, Sample};
use super::scores::Asked;
use super::weighting::Weighting;

/// A stage against itself.
pub(super) struct Selfsame {
    /// Its further processes, against its first answers.
    again: Vec<StageData>,
    pub behaviour: Option<Behaviour>,
}

impl Selfsame {
    pub fn read(source: &Source<'_>, stage: &StageData) -> Result<Self, JudgeError> {
        let mut problems = Vec::new();
        let mut known = again(source, &stage.stage)?;
        known.retain(|pass| ended(&pass.name, pass.status.as_ref(), &mut problems));
        let layout = source.layout;
        let name = inferdiff_schemas::run::layout::RunLayout::probing(&stage.name);
        let status: Option<StageStatus> = optional(read_json(&layout.status(&name)))?;
        let probes: Option<Vec<ProbeResult>> = optional(read_json(&layout.probes(&stage.name)))?;
        if status.is_some() {
            ended(&name, status.as_ref(), &mut problems);
        }
        let asked = !known.is_empty() || probes.is_some() || !problems.is_empty();
        let behaviour = asked.then(|| judge(&known, probes.unwrap_or_default(), problems));
        Ok(Self {
            again: known,
            behaviour,
        })
    }

    /// A further process of it ended.
    pub fn was_asked(&self) -> bool {
        !self.again.is_empty()
    }

    /// What a metric says of the stage against itself: per item, and in sum.
    pub fn noise(
        &self,
        source: &Source<'_>,
        weighting: &Weighting<'_>,
        asked: &[Asked],
    ) -> Result<Vec<Own>, JudgeError> {
        let mut out: Vec<Own> = asked.iter().map(|_| Own::default()).collect();
        for pass in &self.again {
            for (own, asked) in out.iter_mut().zip(asked) {
                own.n = own.n.max(pass.items(&asked.output));
            }
            // Equal bits are scored equally.
            if pass.all_bits_equal {
                continue;
            }
            let all = source.scores(pass, asked)?;
            for ((own, scores), asked) in out.iter_mut().zip(&all).zip(asked) {
                let kind = &asked.metric.kind;
                let Some(sample) = Sample::new(scores, kind, weighting, &NoiseOf::new()) else {
                    continue;
                };
                own.delta = own.delta.max(sample.delta.abs());
                own.flips = own.flips.max(sample.flips);
                let noisy = scores.items.iter().filter(|s| s.stage < s.reference);
                for s in noisy.filter(|_| !scores.absolute) {
                    let least = own.of.entry((s.request, s.item)).or_insert(s.stage);
                    *least = least.min(s.stage);
                }
            }
        }
        Ok(out)
    }

    /// Adds the items, by output, that the stage itself answers beyond the tolerance from one process
    /// to the next.
    pub fn beyond(&self, source: &Source<'_>, found: &mut Beyond) -> Result<(), JudgeError> {
        let noisy = self.again.iter().filter(|pass| pass.beyond_tolerance > 0);
        for pass in noisy {
            source.items(&pass.name, &mut |output, item| {
                if !item.beyond {
                    return;
                }
                let place = (item.request, item.item);
                match found.get_mut(output) {
                    Some(known) => drop(known.insert(place)),
                    None => drop(found.insert(output.to_owned(), HashSet::from([place]))),
                }
            })?;
        }
        Ok(())
    }
}

/// Places of requests and items, by output.
pub(super) type Beyond = HashMap<String, HashSet<(u32, u32)>>;

/// The noise of one side by one metric.
#[derive(Default)]
pub(super) struct Own {
    of: NoiseOf,
    delta: f64,
    flips: u64,
    n: u64,
}

/// Both sides' noise: of each item the worse, and in sum. `None` where nothing was asked again.
pub(super) fn both(reference: &Own, stage: &Own, asked: bool) -> (NoiseOf, Option<Noise>) {
    let mut of = reference.of.clone();
    for (item, score) in &stage.of {
        let least = of.entry(*item).or_insert(*score);
        *least = least.min(*score);
    }
    let noise = asked.then(|| Noise {
        reference_flips: reference.flips,
        stage_flips: stage.flips,
        n: reference.n.max(stage.n),
        delta: reference.delta.max(stage.delta),
    });
    (of, noise)
}

fn ended(name: &str, status: Option<&StageStatus>, problems: &mut Vec<String>) -> bool {
    match status {
        Some(s) if s.state == StageState::Completed => true,
        other => {
            let why = other.and_then(|s| s.reason.clone());
            let why = why.unwrap_or_else(|| "it did not end".to_owned());
            problems.push(format!("{name}: {why}"));
            false
        }
    }
}

fn judge(again: &[StageData], probes: Vec<ProbeResult>, problems: Vec<String>) -> Behaviour {
    let again: Vec<Again> = again
        .iter()
        .map(|pass| Again {
            items: pass.judged_items,
            differing: pass.outputs.iter().map(|o| o.items - o.bit_equal).sum(),
            beyond_tolerance: pass.beyond_tolerance,
        })
        .collect();
    let of = |wanted: fn(Probe) -> bool, count: fn(&ProbeResult) -> u64| -> u64 {
        probes.iter().filter(|p| wanted(p.probe)).map(count).sum()
    };
    let (is_fresh, is_batch) = (|p| p == Probe::Fresh, |p| matches!(p, Probe::Batch(_)));
    let nondeterministic = again.iter().any(|a| a.differing > 0) || of(is_fresh, |p| p.noisy) > 0;
    // Bits that change by themselves say nothing of what came before.
    let stateful = !nondeterministic && of(|p| !matches!(p, Probe::Batch(_)), |p| p.differing) > 0;
    // Another batch size may well take another kernel: only what is beyond the tolerance counts, and
    // only where the same requests alone stay within it.
    let alone = of(|p| !matches!(p, Probe::Batch(_)), |p| p.beyond_tolerance);
    let batch_variant = alone == 0 && of(is_batch, |p| p.beyond_tolerance) > 0;
    Behaviour {
        nondeterministic,
        stateful,
        batch_variant,
        again,
        probes,
        problems,
    }
}

/// What was found, in a sentence that begins with `; `, or nothing.
pub(super) fn sentence(behaviour: Option<&Behaviour>) -> String {
    let Some(b) = behaviour else {
        return String::new();
    };
    let mut words = Vec::new();
    let probe = |wanted: fn(Probe) -> bool| b.probes.iter().filter(move |p| wanted(p.probe));
    if b.nondeterministic {
        let most = b.again.iter().max_by_key(|a| a.differing);
        words.push(match most.filter(|a| a.differing > 0) {
            Some(a) => format!(
                "nondeterministic: a fresh process answers {} of {} items with other bits, {} beyond \
                 tolerance",
                a.differing, a.items, a.beyond_tolerance
            ),
            None => "nondeterministic: fresh predictors answer one request with different bits".to_owned(),
        });
    }
    if b.stateful {
        let seen = probe(|p| !matches!(p, Probe::Batch(_))).filter(|p| p.differing > 0);
        let seen: Vec<_> = seen
            .map(|p| format!("{} {} of {}", p.probe, p.differing, p.asked))
            .collect();
        words.push(format!(
            "stateful: the answer depends on earlier requests ({} differ)",
            seen.join(", ")
        ));
    }
    if b.batch_variant {
        let seen = probe(|p| matches!(p, Probe::Batch(_))).filter(|p| p.beyond_tolerance > 0);
        let seen: Vec<_> = seen
            .map(|p| format!("{} {} of {}", p.probe, p.beyond_tolerance, p.asked))
            .collect();
        words.push(format!(
            "batch-variant: the answer depends on what shares its batch ({} beyond tolerance)",
            seen.join(", ")
        ));
    }
    words.extend(b.problems.iter().map(|p| format!("not asked again: {p}")));
    words.iter().map(|w| format!("; {w}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(probe: Probe, differing: u64, beyond: u64, noisy: u64) -> ProbeResult {
        ProbeResult {
            asked: 64,
            differing,
            beyond_tolerance: beyond,
            noisy,
            ..ProbeResult::new(probe)
        }
    }

    fn found(probes: &[ProbeResult]) -> Vec<&'static str> {
        judge(&[], probes.to_vec(), Vec::new()).found()
    }

    #[test]
    fn each_fault_has_its_own_mark() {
        use Probe::{Batch, Fresh, Order, Repeat};
        assert!(found(&[result(Fresh, 0, 0, 0), result(Batch(8), 60, 0, 0)]).is_empty());
        assert_eq!(found(&[result(Fresh, 63, 0, 0)]), ["stateful"]);
        assert_eq!(found(&[result(Order, 5, 5, 0)]), ["stateful"]);
        assert_eq!(found(&[result(Fresh, 63, 63, 60)]), ["nondeterministic"]);
        assert_eq!(found(&[result(Batch(8), 64, 64, 0)]), ["batch-variant"]);
        // What a request alone does not hold says nothing of its batch.
        let noisy = [result(Repeat, 64, 64, 0), result(Batch(8), 64, 64, 0)];
        assert_eq!(found(&noisy), ["stateful"]);
    }
}
