//! `verdicts.json`, described by `schemas/json/verdicts.schema.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::probes::ProbeResult;

/// The judgement of a stage, by the rules of `docs/verdicts.md`, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Judged against nothing: the stage all others are compared with.
    Reference,
    /// Every compared bit is equal.
    Identical,
    /// The 90 % interval of Δ lies inside ±δ.
    Equivalent,
    /// The interval of Δ excludes 0.
    Affects,
    /// Without labels: the excess of flips over the noise floor exceeds δ.
    MayAffect,
    /// None of the above, with the n that would decide.
    Inconclusive,
    /// The stage judged nothing.
    Failed,
    /// The runtime refused the stage, in its own words.
    Unavailable,
    /// The stage did not act and its bits are equal.
    NotApplied,
}

/// On what a verdict rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Labels.
    Labels,
    /// Agreement with the reference.
    Agreement,
    /// Elementwise tolerance.
    Tolerance,
    /// Error against an oracle in double precision, over that of the same model with everything off.
    ErrorRatio,
    /// A user's own numbers.
    Command,
}

/// The whole file. Fields are added, never renamed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Always 1.
    pub format: u32,
    /// Exchanges judged.
    pub requests: u64,
    /// Exchanges of the capture that were not replayed, by reason.
    #[serde(default)]
    pub left_out: BTreeMap<String, u64>,
    /// Items judged.
    pub items: u64,
    /// Name of the reference stage.
    pub reference: String,
    /// Stages whose bits equal production's recorded answers in every exchange.
    pub production_matches: Vec<String>,
    /// Stage by stage, how many of the exchanges with recorded answers it reproduces bit for bit.
    pub production_agreement: Vec<ProductionAgreement>,
    /// How labels met exchanges, if there were labels.
    pub labels: Option<LabelCoverage>,
    /// By what was judged and why: metrics as asked for, a default and its evidence, or the
    /// tolerance and the metrics that could be chosen.
    #[serde(default)]
    pub criterion: String,
    /// Where to look, by the guide's order, where runtimes say what their stages are.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// One per stage in ladder order, production (`recorded`) last.
    pub stages: Vec<StageVerdict>,
}

/// Where the guide says to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// The native operator is wrong: training forward pass and engine agree, and both differ from
    /// what is right.
    OperatorImplementation,
    /// The engine and an independent evaluator are both wrong: the model itself, or what its
    /// operators are held to mean.
    OperatorOrModel,
    /// The engine is wrong with everything off; the training forward pass, or an independent
    /// evaluator, is right.
    InferenceEngine,
    /// Memory optimisation changes answers.
    Framework,
    /// A pass of the graph optimiser changes answers.
    OptimizerPass,
    /// Another engine fails.
    EngineError,
    /// Everything is off and it differs; there is no training forward pass to tell why.
    Undecided,
}

/// One finding over the stages together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Where to look.
    pub class: FaultClass,
    /// The stage that shows it.
    pub stage: String,
    /// What shows it.
    pub why: String,
}

/// How often one stage reproduces production.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProductionAgreement {
    /// Stage.
    pub stage: String,
    /// Exchanges whose every output bit equals the recorded answer.
    pub equal: u64,
    /// Exchanges with a recorded answer.
    pub of: u64,
}

/// Unmatched rows on both sides, counted and printed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelCoverage {
    /// Items with a label.
    pub matched: u64,
    /// Items without a label.
    pub items_without_label: u64,
    /// Label rows without an item.
    pub labels_without_item: u64,
    /// Label rows repeated with the same label.
    pub duplicates: u64,
}

/// One stage's verdict with its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageVerdict {
    /// Stage.
    pub name: String,
    /// Judgement.
    pub verdict: Verdict,
    /// On what it rests; `None` where nothing was judged.
    pub basis: Option<Basis>,
    /// One sentence.
    pub reason: String,
    /// `unavailable` of this stage does not raise the exit code.
    pub optional: bool,
    /// Exchanges by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Numbers by output.
    pub outputs: Vec<OutputSummary>,
    /// The first exchanges that stand out: no answer that could be compared, or other non-finite
    /// values than the reference's.
    #[serde(default)]
    pub named: Vec<NamedExchange>,
    /// How many such exchanges there are in all.
    #[serde(default)]
    pub named_in_all: u64,
    /// Numbers by metric.
    pub metrics: Vec<MetricVerdict>,
    /// Without a metric: the items beyond the tolerance that differ most.
    #[serde(default)]
    pub telling: Vec<Telling>,
    /// What its answers depend on beside the request; `None` where nothing was asked.
    #[serde(default)]
    pub behaviour: Option<Behaviour>,
}

/// An item that shows what a verdict rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Telling {
    /// `<recorder>-<seq>`.
    pub id: String,
    /// The client's id.
    pub client_request_id: Option<String>,
    /// Row of the batch axis.
    pub item: u32,
    /// What it shows.
    pub why: String,
}

/// In what a metric is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A share: changes are told in points, hundredths of it.
    #[default]
    Points,
    /// A number of the metric's own.
    Value,
}

/// On what, beside the request, a stage's answers depend.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Behaviour {
    /// A fresh process, or a fresh predictor, answers the same request with other bits.
    pub nondeterministic: bool,
    /// Its answer depends on what it was asked before.
    pub stateful: bool,
    /// Its answer depends, beyond the tolerance, on what shares its batch.
    pub batch_variant: bool,
    /// Its further processes, against its first.
    pub again: Vec<Again>,
    /// The probes that were run.
    pub probes: Vec<ProbeResult>,
    /// What could not be asked, and why.
    pub problems: Vec<String>,
}

impl Behaviour {
    /// The names of what was found, in words.
    pub fn found(&self) -> Vec<&'static str> {
        let all = [
            (self.nondeterministic, "nondeterministic"),
            (self.stateful, "stateful"),
            (self.batch_variant, "batch-variant"),
        ];
        all.into_iter()
            .filter(|(is, _)| *is)
            .map(|(_, name)| name)
            .collect()
    }
}

/// A further process of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Again {
    /// Items that both processes answered.
    pub items: u64,
    /// Items of which any bit differs.
    pub differing: u64,
    /// Items beyond the tolerance, or answered by one process only.
    pub beyond_tolerance: u64,
}

/// An exchange that stands out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedExchange {
    /// `<recorder>-<seq>`.
    pub id: String,
    /// The client's own id.
    pub client_request_id: Option<String>,
    /// Outcome of a comparison, or `nonfinite`.
    pub outcome: String,
    /// In whose words.
    pub why: String,
}

/// Worst and overall numbers of one output over all items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputSummary {
    /// Output.
    pub name: String,
    /// Items compared.
    pub items: u64,
    /// Items with every bit equal.
    pub bit_equal: u64,
    /// Largest of any item.
    pub max_abs: Option<f64>,
    /// Largest of any item.
    pub rel_l2: Option<f64>,
    /// Smallest of any item.
    pub min_cosine: Option<f64>,
    /// Largest of any item.
    pub max_ulp: Option<u64>,
    /// Items with at least one element beyond the tolerance.
    pub items_beyond_tolerance: u64,
    /// Elements whose non-finite class differs.
    pub nonfinite_mismatches: u64,
    /// Where the reference is an oracle in double precision: this `rel_l2` over that of the same
    /// model with everything off.
    #[serde(default)]
    pub error_ratio: Option<f64>,
}

/// Worse or better, Δ oriented so that negative is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Δ < 0.
    Worse,
    /// Δ > 0.
    Better,
}

/// One metric of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricVerdict {
    /// As written: `top1@logits`.
    pub name: String,
    /// The metric of the reference; `None` without labels.
    pub reference: Option<f64>,
    /// The metric of the stage (without labels: agreement with the reference).
    pub stage: Option<f64>,
    /// stage − reference, negative is worse.
    pub delta: Option<f64>,
    /// The interval that decided.
    pub interval: Option<[f64; 2]>,
    /// Its confidence, e.g. 0.90.
    pub confidence: Option<f64>,
    /// δ.
    pub margin: Option<f64>,
    /// Only where the interval excludes 0.
    pub direction: Option<Direction>,
    /// The whole interval is past δ.
    pub beyond_margin: bool,
    /// Items whose answer differs from the reference's.
    pub flips: u64,
    /// Items judged.
    pub n: u64,
    /// Only the reference is right.
    pub only_reference_right: Option<u64>,
    /// Only the stage is right.
    pub only_stage_right: Option<u64>,
    /// Items whose largest value occurs more than once, on either side.
    pub ties: u64,
    /// Items that would decide, where inconclusive.
    pub n_to_decide: Option<u64>,
    /// Method of the interval.
    pub method: String,
    /// What this metric alone says; `None` where it has no margin and is only reported.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// On what it rests.
    #[serde(default)]
    pub basis: Option<Basis>,
    /// (Σw)²/Σw²: items of equal weight that would be worth as much.
    #[serde(default)]
    pub effective_n: Option<f64>,
    /// Clusters, where items stand together or weigh differently.
    #[serde(default)]
    pub clusters: Option<u64>,
    /// Clusters in which anything changed.
    #[serde(default)]
    pub changed_clusters: Option<u64>,
    /// Items without an answer of the stage, where the metric has no worst value to give them.
    #[serde(default)]
    pub unscored: u64,
    /// Without labels: the interval of the excess of changes over the noise of the reference.
    #[serde(default)]
    pub excess: Option<[f64; 2]>,
    /// What the same metric says of a side against itself.
    #[serde(default)]
    pub noise: Option<Noise>,
    /// In what it is told.
    #[serde(default)]
    pub unit: Unit,
    /// The ten items on which most is lost.
    #[serde(default)]
    pub telling: Vec<Telling>,
    /// Parts of the traffic, the most telling first.
    #[serde(default)]
    pub slices: Vec<SliceVerdict>,
}

/// A stage against itself, by one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Items whose answer of the reference changed from one process to the next.
    pub reference_flips: u64,
    /// The same of the stage.
    pub stage_flips: u64,
    /// Items asked again.
    pub n: u64,
    /// The largest |Δ| of either side against itself.
    pub delta: f64,
}

/// One metric of one stage on one part of the traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceVerdict {
    /// `model_version`, `shape`, `header:NAME`.
    pub by: String,
    /// Its value here.
    pub value: String,
    /// Items.
    pub n: u64,
    /// Items whose answer differs.
    pub flips: u64,
    /// stage − reference, negative is worse.
    pub delta: f64,
    /// At 95 %.
    pub interval: Option<[f64; 2]>,
    /// A discovery by Benjamini and Hochberg's procedure at 5 %, over all slices of this metric.
    pub stands_out: bool,
}
