//! Error ratios: how much farther a stage is from an oracle in double precision than the same model
//! with everything off. A tolerance blames low precision for being low; this blames it only for what
//! it adds (PyTorch judges its compiled models so: at most 2 to 3 times the error of the eager one).

use inferdiff_schemas::run::evidence::{OptionEvidence, Role};
use inferdiff_schemas::run::verdicts::{Basis, OutputSummary, StageVerdict, Verdict};

use super::collect::StageData;

/// A stage may be so many times as far from the oracle as the same model with everything off.
const MOST: f64 = 3.0;

/// Where the first stage is an independent evaluator in double precision: tells every other stage's
/// error ratio by output, and judges by it where only the tolerance speaks.
pub(super) fn ratios(stages: &[StageData], verdicts: &mut [StageVerdict]) {
    let Some((oracle, others)) = stages.split_first().filter(|(o, _)| is_oracle(o)) else {
        return;
    };
    for data in others {
        let Some(off) = baseline(others, data).filter(|off| off.name != data.name) else {
            continue;
        };
        let Some(verdict) = verdicts.iter_mut().find(|v| v.name == data.name) else {
            continue;
        };
        let mut worst: Option<f64> = None;
        for output in &mut verdict.outputs {
            output.error_ratio = ratio(output, &off.outputs);
            worst = worst.into_iter().chain(output.error_ratio).reduce(f64::max);
        }
        if let Some(worst) = worst {
            judge(verdict, data, worst, (&oracle.name, &off.name));
        }
    }
}

fn is_oracle(data: &StageData) -> bool {
    data.evidence.as_ref().is_some_and(|e| {
        let double = |o: &OptionEvidence| o.option == "precision" && o.requested == "fp64";
        e.role == Some(Role::Evaluator) && e.options.iter().any(double)
    })
}

/// Everything off on the stage's own model, else the first stage with everything off.
fn baseline<'a>(others: &'a [StageData], data: &StageData) -> Option<&'a StageData> {
    let off = |s: &&StageData| {
        let role = s.evidence.as_ref().and_then(|e| e.role);
        role == Some(Role::Off) && s.compared_rows > 0
    };
    let own = |s: &&StageData| s.stage.model == data.stage.model;
    let mut all = others.iter().filter(off);
    all.clone().find(own).or_else(|| all.next())
}

/// Relative L2 error of an output over that of the same output with everything off, both the largest
/// of any item.
fn ratio(output: &OutputSummary, off: &[OutputSummary]) -> Option<f64> {
    let off = off.iter().find(|o| o.name == output.name)?;
    let (error, base) = (output.rel_l2?, off.rel_l2?);
    (base > 0.0).then(|| error / base)
}

/// Whether it computes in less than the model says, or its tensors are of less than FP32.
fn is_low(data: &StageData) -> bool {
    data.evidence.as_ref().is_some_and(|e| {
        let low = |datatype: &str| matches!(datatype, "FP16" | "BF16");
        let outputs = e.signature.iter().flat_map(|s| &s.outputs);
        e.role == Some(Role::Precision) || outputs.into_iter().any(|o| low(&o.datatype))
    })
}

/// Metrics and labels speak first: only what the tolerance decided is decided anew.
fn judge(verdict: &mut StageVerdict, data: &StageData, worst: f64, names: (&str, &str)) {
    let told = format!(
        "its error against `{}` is {worst:.3} times that of `{}` (at most {MOST})",
        names.0, names.1
    );
    let by_tolerance = verdict.basis == Some(Basis::Tolerance);
    let numbers_only = verdict.outputs.iter().all(|o| o.nonfinite_mismatches == 0)
        && verdict.outcomes.keys().all(|o| o == "compared");
    let undecided = verdict.verdict == Verdict::Inconclusive && numbers_only;
    if by_tolerance && undecided && worst <= MOST {
        verdict.verdict = Verdict::Equivalent;
        verdict.basis = Some(Basis::ErrorRatio);
        verdict.reason = format!(
            "{told}; {} of {} items are beyond the tolerance",
            data.beyond_tolerance, data.judged_items
        );
        return;
    }
    if by_tolerance && verdict.verdict == Verdict::Equivalent && is_low(data) && worst > MOST {
        verdict.verdict = Verdict::Inconclusive;
        verdict.basis = Some(Basis::ErrorRatio);
    }
    verdict.reason = format!("{}; {told}", verdict.reason);
}
