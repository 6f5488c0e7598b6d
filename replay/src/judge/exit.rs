//! How grave a stage's verdict is, and the exit codes of `replay` and `judge`.

use inferdiff_schemas::run::verdicts::{Direction, StageVerdict, Verdict, Verdicts};

/// How grave a verdict is, from harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// Judged, and nothing was found that is worse.
    Fine,
    /// Nobody can tell yet: inconclusive, or unavailable and not optional.
    Open,
    /// The stage judged nothing.
    Failed,
    /// It affects a metric for the worse, or may.
    Harmful,
}

impl Gravity {
    /// The gravity of a stage's verdict.
    pub fn of(stage: &StageVerdict) -> Self {
        match stage.verdict {
            // A stage may be better in one metric and worse in another.
            Verdict::Affects
                if stage
                    .metrics
                    .iter()
                    .any(|m| m.direction == Some(Direction::Worse)) =>
            {
                Self::Harmful
            }
            Verdict::MayAffect => Self::Harmful,
            Verdict::Failed => Self::Failed,
            Verdict::Unavailable if stage.optional => Self::Fine,
            Verdict::Unavailable | Verdict::Inconclusive => Self::Open,
            Verdict::Reference
            | Verdict::Identical
            | Verdict::Equivalent
            | Verdict::NotApplied
            | Verdict::Affects => Self::Fine,
        }
    }

    /// Its exit code. (2, usage and configuration, never comes from verdicts.)
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Open => 3,
            Self::Failed => 4,
            Self::Harmful => 1,
        }
    }
}

/// The code of several runs, the gravest of theirs, in the order of [`exit_code`].
pub fn gravest(codes: impl IntoIterator<Item = u8>) -> u8 {
    let order = [0, 3, 4, 1];
    let place = |code: &u8| order.iter().position(|c| c == code).unwrap_or(order.len());
    codes.into_iter().max_by_key(place).unwrap_or(0)
}

/// 1 a stage affects for the worse or may affect; else 4 a stage failed; else 3 a stage is
/// inconclusive, or unavailable and not optional, or nothing was judged; else 0.
pub fn exit_code(verdicts: &Verdicts) -> u8 {
    let judged = |s: &StageVerdict| {
        !matches!(
            s.verdict,
            Verdict::Reference | Verdict::Unavailable | Verdict::Failed
        )
    };
    let nothing = if verdicts.stages.iter().any(judged) {
        Gravity::Fine
    } else {
        Gravity::Open
    };
    let gravest = verdicts.stages.iter().map(Gravity::of).max();
    gravest.unwrap_or(Gravity::Open).max(nothing).exit_code()
}
