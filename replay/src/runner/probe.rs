//! A stage asked in other ways: does its answer depend on what it was asked before, beside what, in
//! which order?

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Instant;

use inferdiff_schemas::run::comparison::{ComparisonRow, Outcome};
use inferdiff_schemas::run::manifest::{StageState, StageStatus};
use inferdiff_schemas::run::probes::{Probe, ProbeResult};
use inferdiff_schemas::run::{RunFileError, write_json};
use inferdiff_schemas::{Exchange, Tensor};

use super::again::{self, Answers};
use super::coalesce;
use super::pulse::Pulse;
use super::resolved::read_faults;
use super::stage::Replay;
use crate::compare::{Compared, Comparer, compare_exchange};
use crate::mapping;
use crate::runtime::{Predictor, Runtimes};
use crate::verdict::SplitMix;

type Answer = Result<Vec<Tensor>, String>;

/// Seed of what is drawn, beside that of the run.
const SEED: u64 = 0x70_726f_6265;

/// Runs every probe of the stage and commits `probes.json`.
pub(super) fn run(
    replay: &mut Replay<'_>,
    runtimes: &Runtimes,
    pulse: &Pulse,
) -> Result<StageStatus, RunFileError> {
    let started = Instant::now();
    let asking = &replay.manifest.asking;
    let mut random = SplitMix(SEED ^ replay.manifest.seed);
    let mut sample = sample(replay, &mut random)?;
    let mut probing = Probing {
        replay,
        runtimes,
        pulse,
        first: Vec::new(),
        once: Vec::new(),
    };
    probing.first = std::mem::take(&mut sample.first);
    let exchanges = &sample.exchanges;
    // One predictor answers all of them in their order: what the other ways are compared with.
    let repeat = probing.repeat(exchanges);
    let mut results = Vec::new();
    for probe in &asking.probes {
        let mut result = match probe {
            Probe::Repeat => repeat.clone(),
            Probe::Fresh => probing.fresh(exchanges, asking.seconds),
            Probe::Batch(n) => probing.batch(exchanges, *n),
            Probe::Order => probing.order(exchanges, &mut random),
        };
        if sample.in_sequences > 0 {
            let reason = "part_of_a_sequence".to_owned();
            result.left_out.insert(reason, sample.in_sequences);
        }
        results.push(result);
    }
    let layout = probing.replay.layout;
    write_json(&layout.probes(&probing.replay.stage.name), &results)?;
    Ok(StageStatus {
        reason: None,
        replay_seconds: started.elapsed().as_secs_f64(),
        ..StageStatus::without(StageState::Completed, String::new())
    })
}

struct Sample {
    exchanges: Vec<Exchange>,
    /// The stage's own first answers, where they are known.
    first: Vec<Option<Answer>>,
    /// A sequence is stateful by intent: its exchanges are not asked out of it.
    in_sequences: u64,
}

/// Exchanges drawn over the whole capture, in its order.
fn sample(replay: &Replay<'_>, random: &mut SplitMix) -> Result<Sample, RunFileError> {
    let manifest = replay.manifest;
    let total = usize::try_from(manifest.requests).unwrap_or(usize::MAX);
    let wanted = usize::try_from(manifest.asking.sample)
        .unwrap_or(usize::MAX)
        .min(total);
    // Floyd's sampling: as many draws as exchanges wanted, whatever the size of the capture.
    let mut chosen = HashSet::with_capacity(wanted);
    for at in total - wanted..total {
        let drawn = random.below(at + 1);
        if !chosen.insert(drawn) {
            chosen.insert(at);
        }
    }
    let faults = read_faults(replay.layout, &replay.stage.name)?;
    let knows = again::knows_its_answers(manifest, replay.stage);
    let mut out = Sample {
        exchanges: Vec::with_capacity(wanted),
        first: Vec::with_capacity(wanted),
        in_sequences: 0,
    };
    let mut before = 0;
    for chunk in &manifest.chunks {
        let count = usize::try_from(chunk.exchanges()).unwrap_or(usize::MAX);
        let range = before..before + count;
        before += count;
        if !range.clone().any(|i| chosen.contains(&i)) {
            continue;
        }
        let mut first = match knows {
            true => again::first_answers(replay.layout, manifest, replay.stage, chunk)?,
            false => Answers::new(),
        };
        for (i, exchange) in range.zip(replay.exchanges(chunk)?) {
            let exchange = exchange?;
            // What killed the stage is not asked again.
            let id = Exchange::id_of(exchange.recorder, exchange.seq);
            if !chosen.contains(&i) || faults.contains_key(&id) {
                continue;
            }
            if exchange.sequence_id.is_some() {
                out.in_sequences += 1;
                continue;
            }
            out.first
                .push(first.remove(&(exchange.recorder, exchange.seq)));
            out.exchanges.push(exchange);
        }
    }
    Ok(out)
}

struct Probing<'a, 'r> {
    replay: &'a mut Replay<'r>,
    runtimes: &'a Runtimes,
    pulse: &'a Pulse,
    /// What the stage answered in its replay.
    first: Vec<Option<Answer>>,
    /// What one predictor answered to each, asked once, in their order.
    once: Vec<Answer>,
}

impl Probing<'_, '_> {
    fn repeat(&mut self, exchanges: &[Exchange]) -> ProbeResult {
        let mut result = ProbeResult::new(Probe::Repeat);
        for exchange in exchanges {
            let once = self.ask_kept(exchange);
            let twice = self.ask_kept(exchange);
            self.tally(&mut result, exchange, &once, &twice);
            self.once.push(once);
        }
        result
    }

    fn fresh(&mut self, exchanges: &[Exchange], seconds: f64) -> ProbeResult {
        let started = Instant::now();
        let mut result = ProbeResult::new(Probe::Fresh);
        let skip = |result: &mut ProbeResult, why: String| {
            *result.left_out.entry(why).or_default() += 1;
        };
        for (i, exchange) in exchanges.iter().enumerate() {
            if started.elapsed().as_secs_f64() > seconds {
                skip(&mut result, "out_of_time".to_owned());
                continue;
            }
            let Some(kept) = self.first[i].clone() else {
                skip(&mut result, "its_answers_are_not_kept".to_owned());
                continue;
            };
            let new = match self.ask_new(exchange) {
                Ok(answer) => answer,
                Err(why) => {
                    skip(&mut result, why);
                    continue;
                }
            };
            let before = result.differing;
            self.tally(&mut result, exchange, &kept, &new);
            if result.differing > before
                && let Ok(other) = self.ask_new(exchange)
            {
                let mut noise = ProbeResult::new(Probe::Fresh);
                self.tally(&mut noise, exchange, &new, &other);
                result.noisy += noise.differing;
            }
        }
        result
    }

    fn order(&mut self, exchanges: &[Exchange], random: &mut SplitMix) -> ProbeResult {
        let mut result = ProbeResult::new(Probe::Order);
        let mut other = match self.runtimes.open(self.replay.stage) {
            Ok(predictor) => predictor,
            Err(e) => {
                result
                    .left_out
                    .insert(e.to_string(), exchanges.len() as u64);
                return result;
            }
        };
        let mut order: Vec<usize> = (0..exchanges.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i + 1));
        }
        for i in order {
            let exchange = &exchanges[i];
            let answer = self.ask(other.as_mut(), exchange, inputs(exchange));
            self.tally(&mut result, exchange, &self.once[i], &answer);
        }
        result
    }

    fn batch(&mut self, exchanges: &[Exchange], most: u32) -> ProbeResult {
        let mut result = ProbeResult::new(Probe::Batch(most));
        let all = exchanges.len() as u64;
        if !self.replay.batch_axis {
            let why = "the model has no batch axis".to_owned();
            result.left_out.insert(why, all);
            return result;
        }
        let mut grouped = 0;
        for group in coalesce::groups(exchanges, most as usize) {
            let members: Vec<&Exchange> = group.iter().map(|&i| &exchanges[i]).collect();
            let rows: Vec<usize> = members.iter().filter_map(|e| coalesce::rows(e)).collect();
            let merged = coalesce::merge(&members);
            let as_one = Exchange {
                outputs: None,
                inputs: Some(merged),
                ..members[0].clone()
            };
            grouped += group.len() as u64;
            let whole = self.ask_kept(&as_one);
            let parts = match whole.and_then(|answer| coalesce::split(&answer, &rows)) {
                Ok(parts) => parts,
                // A model may well take no such batch: nothing is shown by it.
                Err(why) => {
                    *result.left_out.entry(why).or_default() += group.len() as u64;
                    continue;
                }
            };
            for (i, part) in group.into_iter().zip(parts) {
                self.tally(&mut result, &exchanges[i], &self.once[i], &Ok(part));
            }
        }
        if all > grouped {
            let why = "no_other_of_its_shape".to_owned();
            result.left_out.insert(why, all - grouped);
        }
        result
    }

    fn ask_kept(&mut self, exchange: &Exchange) -> Answer {
        self.pulse.begin(exchange);
        let (stage, predictor) = (self.replay.stage, self.replay.predictor.as_mut());
        let answer = mapping::infer(stage, predictor, exchange, inputs(exchange));
        self.pulse.end();
        answer
    }

    fn ask(&self, predictor: &mut dyn Predictor, exchange: &Exchange, inputs: &[Tensor]) -> Answer {
        self.pulse.begin(exchange);
        let answer = mapping::infer(self.replay.stage, predictor, exchange, inputs);
        self.pulse.end();
        answer
    }

    /// Of a predictor that answers nothing else. The outer error is of opening it.
    fn ask_new(&self, exchange: &Exchange) -> Result<Answer, String> {
        let opened = self.runtimes.open(self.replay.stage);
        let mut new = opened.map_err(|e| e.to_string())?;
        Ok(self.ask(new.as_mut(), exchange, inputs(exchange)))
    }

    fn tally(&self, result: &mut ProbeResult, exchange: &Exchange, one: &Answer, other: &Answer) {
        let sides = Compared {
            exchange,
            reference: one.as_deref().map_err(String::as_str),
            stage: other.as_deref().map_err(String::as_str),
            batch_axis: self.replay.batch_axis,
            items: self.replay.items(exchange),
        };
        let tolerances = &self.replay.manifest.ladder.tolerance;
        let (mut equal, mut beyond, mut flips, mut worst) = (true, false, 0, None);
        let mut look = |row: &ComparisonRow<'_>| {
            // Refused both times is the same answer.
            if row.outcome != Outcome::BothFailed {
                let n = &row.numbers;
                equal &= n.bits_equal;
                beyond |= n.violations > 0 || row.outcome != Outcome::Compared;
                flips += u64::from(n.reference_top1 != n.stage_top1);
                worst = worst.into_iter().chain(n.max_abs).reduce(f64::max);
            }
            Ok::<(), Infallible>(())
        };
        let Ok(_) = compare_exchange(&mut Comparer::default(), &sides, tolerances, &mut look);
        result.asked += 1;
        if equal {
            return;
        }
        result.differing += 1;
        result.beyond_tolerance += u64::from(beyond);
        result.flips += flips;
        result.max_abs = result.max_abs.into_iter().chain(worst).reduce(f64::max);
        let id = || Exchange::id_of(exchange.recorder, exchange.seq);
        result.first.get_or_insert_with(id);
    }
}

fn inputs(exchange: &Exchange) -> &[Tensor] {
    exchange.inputs.as_deref().unwrap_or_default()
}
