//! Exit codes of `replay` and `judge`.

use inferdiff_schemas::run::verdicts::{Direction, StageVerdict, Verdict, Verdicts};

/// 1 a stage affects for the worse or may affect; else 4 a stage failed; else 3 a stage is
/// inconclusive, or unavailable and not optional, or nothing was judged; else 0.
/// (2, usage and configuration, never comes from verdicts.)
pub fn exit_code(verdicts: &Verdicts) -> u8 {
    let any = |test: &dyn Fn(&StageVerdict) -> bool| verdicts.stages.iter().any(test);
    let harmful = |s: &StageVerdict| match s.verdict {
        // A stage may be better in one metric and worse in another.
        Verdict::Affects => s
            .metrics
            .iter()
            .any(|m| m.direction == Some(Direction::Worse)),
        Verdict::MayAffect => true,
        _ => false,
    };
    let judged = |s: &StageVerdict| {
        !matches!(
            s.verdict,
            Verdict::Reference | Verdict::Unavailable | Verdict::Failed
        )
    };
    if any(&harmful) {
        1
    } else if any(&|s| s.verdict == Verdict::Failed) {
        4
    } else if any(&|s| s.verdict == Verdict::Inconclusive)
        || any(&|s| s.verdict == Verdict::Unavailable && !s.optional)
        || !any(&judged)
    {
        3
    } else {
        0
    }
}
