//! Where to look, by the order of Paddle's guide "accuracy verification and problem tracing": the
//! training forward pass first, then everything off, memory, passes, other engines. For ONNX an
//! independent evaluator stands where Paddle has the training forward pass.

use inferdiff_schemas::run::evidence::Role;
use inferdiff_schemas::run::verdicts::{
    Basis, Direction, Fault, FaultClass, StageVerdict, Verdict,
};

use super::collect::StageData;

/// Exchanges on which the stage failed where the reference answered.
const STAGE_FAILED: &str = "stage_failed";

struct Rung<'a> {
    data: &'a StageData,
    verdict: &'a StageVerdict,
}

/// What the verdicts together say of the cause. Empty where nothing differs, or where nothing is
/// known of what a stage is.
pub(super) fn faults(stages: &[StageData], verdicts: &[StageVerdict]) -> Vec<Fault> {
    let rungs: Vec<Rung<'_>> = stages
        .iter()
        .filter_map(|data| {
            let verdict = verdicts.iter().find(|v| v.name == data.name)?;
            Some(Rung { data, verdict })
        })
        .collect();
    let Some((truth, others)) = rungs.split_first() else {
        return Vec::new();
    };
    let first = |role| others.iter().find(|r| r.role() == Some(role));
    let witness = first(Role::Training).or_else(|| first(Role::Evaluator));
    if truth.role() == Some(Role::Off) {
        // Nobody says what is right but the witness itself.
        if let Some(witness) = witness.filter(|t| t.wrong() == Some(true)) {
            return vec![Fault {
                class: FaultClass::InferenceEngine,
                stage: truth.data.name.clone(),
                why: format!(
                    "with everything off, `{}` differs from {} `{}` ({})",
                    truth.data.name,
                    witness.what(),
                    witness.data.name,
                    witness.verdict.reason
                ),
            }];
        }
    } else if let Some(off) = first(Role::Off).filter(|o| o.wrong() == Some(true)) {
        return vec![off_is_wrong(truth, off, witness)];
    }
    others.iter().filter_map(Rung::fault).collect()
}

/// Everything is off and it is wrong all the same: no switch is to blame.
fn off_is_wrong(truth: &Rung<'_>, off: &Rung<'_>, witness: Option<&Rung<'_>>) -> Fault {
    let (right, name) = (&truth.data.name, &off.data.name);
    let differs = format!("`{name}` (everything off) differs from `{right}`");
    // The first stage may be the witness itself: what it answers is right.
    let witness = match truth.is_witness() {
        true => Some((truth, Some(false))),
        false => witness.map(|w| (w, w.wrong())),
    };
    let (class, why) = match witness {
        Some((w, Some(true))) => {
            let both = format!(
                "`{name}` (everything off) and `{}` ({}) both differ from `{right}`",
                w.data.name,
                w.what()
            );
            match w.role() {
                Some(Role::Evaluator) => (
                    FaultClass::OperatorOrModel,
                    format!("{both}: the model, or what its operators are held to mean, is wrong"),
                ),
                _ => (
                    FaultClass::OperatorImplementation,
                    format!("{both}: the native operator is wrong"),
                ),
            }
        }
        Some((w, Some(false))) => (
            FaultClass::InferenceEngine,
            match w.data.name == *right {
                true => format!("{differs}, {}", w.what()),
                false => format!("{differs}, `{}` ({}) does not", w.data.name, w.what()),
            },
        ),
        _ => (
            FaultClass::Undecided,
            format!(
                "{differs}; a stage that runs the training forward pass or an independent evaluator \
                 would tell the operator from the engine"
            ),
        ),
    };
    Fault {
        class,
        stage: name.clone(),
        why,
    }
}

impl Rung<'_> {
    fn role(&self) -> Option<Role> {
        self.data.evidence.as_ref()?.role
    }

    /// It computes the model without an inference engine.
    fn is_witness(&self) -> bool {
        matches!(self.role(), Some(Role::Training | Role::Evaluator))
    }

    /// What a witness is, in words.
    fn what(&self) -> &'static str {
        match self.role() {
            Some(Role::Evaluator) => "the independent evaluator",
            _ => "the training forward pass",
        }
    }

    /// Whether it is wrong by what the reference holds right; `None` where nobody can say.
    fn wrong(&self) -> Option<bool> {
        match self.verdict.verdict {
            Verdict::Reference | Verdict::Identical | Verdict::Equivalent | Verdict::NotApplied => {
                Some(false)
            }
            Verdict::MayAffect | Verdict::Failed => Some(true),
            Verdict::Affects => {
                let worse = |d| d == Some(Direction::Worse);
                Some(self.verdict.metrics.iter().any(|m| worse(m.direction)))
            }
            Verdict::Inconclusive => {
                let by_tolerance = self.verdict.basis == Some(Basis::Tolerance);
                (by_tolerance && self.data.beyond_tolerance > 0).then_some(true)
            }
            Verdict::Unavailable => None,
        }
    }

    /// What its own switch is to blame for.
    fn fault(&self) -> Option<Fault> {
        let name = &self.data.name;
        let failed = self.verdict.outcomes.get(STAGE_FAILED).copied();
        let failed = failed.filter(|&n| n > 0);
        let words = || {
            let error = self.data.first_error.as_deref();
            error.map_or_else(String::new, |e| format!(": {e}"))
        };
        let (class, why) = match self.role()? {
            Role::Memory if !self.data.all_bits_equal && self.data.judged_items > 0 => (
                FaultClass::Framework,
                format!(
                    "`{name}` must only change memory use, and changes answers ({})",
                    self.verdict.reason
                ),
            ),
            Role::Engine if failed.is_some() => (
                FaultClass::EngineError,
                format!(
                    "`{name}` fails on {} exchanges{}",
                    failed.unwrap_or_default(),
                    words()
                ),
            ),
            Role::Graph if self.wrong() == Some(true) => {
                let passes = &self.data.evidence.as_ref()?.passes;
                let mut hit: Vec<&str> = Vec::new();
                for pass in passes.iter().filter(|p| p.hit) {
                    if !hit.contains(&pass.name.as_str()) {
                        hit.push(&pass.name);
                    }
                }
                let why = format!(
                    "`{name}` differs; of its {} passes these hit: {}",
                    passes.len(),
                    hit.join(", ")
                );
                (FaultClass::OptimizerPass, why)
            }
            _ => return None,
        };
        let stage = name.clone();
        Some(Fault { class, stage, why })
    }
}
