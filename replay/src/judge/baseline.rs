//! A run against an earlier one: only what became worse fails.

use inferdiff_schemas::run::verdicts::{MetricVerdict, StageVerdict, Verdicts};

use super::exit::Gravity;

/// What became of one stage since the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Stage.
    pub stage: String,
    /// How grave the change is; [`Gravity::Fine`] = not worse than the baseline.
    pub gravity: Gravity,
    /// One sentence.
    pub says: String,
}

/// Compares verdicts that were reached by the same criteria, stage by stage, by name.
///
/// A stage is worse than its baseline where its verdict is graver, or where both are harmful and a
/// metric's interval lies wholly below the baseline's. A stage that the baseline lacks counts as it
/// stands; one that only the baseline has was not judged, and nobody can tell.
pub fn against(baseline: &Verdicts, now: &Verdicts) -> Vec<Change> {
    let find = |of: &'_ Verdicts, name: &str| {
        let mut stages = of.stages.iter();
        stages.find(|s| s.name == name).cloned()
    };
    let mut changes: Vec<Change> = now
        .stages
        .iter()
        .map(|stage| match find(baseline, &stage.name) {
            Some(before) => change(&before, stage),
            None => Change {
                stage: stage.name.clone(),
                gravity: Gravity::of(stage),
                says: format!("not in the baseline; it is {}", word(stage)),
            },
        })
        .collect();
    for before in &baseline.stages {
        if find(now, &before.name).is_none() {
            changes.push(Change {
                stage: before.name.clone(),
                gravity: Gravity::Open,
                says: format!("{} in the baseline, not in this run", word(before)),
            });
        }
    }
    changes
}

/// The exit code of a comparison: that of the gravest change.
pub fn exit_code(changes: &[Change]) -> u8 {
    let gravest = changes.iter().map(|c| c.gravity).max();
    gravest.unwrap_or(Gravity::Open).exit_code()
}

fn change(before: &StageVerdict, now: &StageVerdict) -> Change {
    let (was, is) = (Gravity::of(before), Gravity::of(now));
    let further = now.metrics.iter().find_map(|m| {
        let same = |b: &&MetricVerdict| b.name == m.name;
        let b = before.metrics.iter().find(same)?;
        let ([b_low, _], [low, high]) = (b.interval?, m.interval?);
        (high < b_low).then(|| {
            format!(
                "{} is down to [{:+.2}, {:+.2}] points from [{:+.2}, …]",
                m.name,
                100.0 * low,
                100.0 * high,
                100.0 * b_low
            )
        })
    });
    let (gravity, says) = if is > was {
        (is, format!("{}, was {}", word(now), word(before)))
    } else if let (Gravity::Harmful, Some(further)) = (is, further) {
        (is, format!("{} further: {further}", word(now)))
    } else if is < was {
        (
            Gravity::Fine,
            format!("{}, was {}", word(now), word(before)),
        )
    } else {
        (Gravity::Fine, format!("{} as before", word(now)))
    };
    Change {
        stage: now.name.clone(),
        gravity,
        says,
    }
}

fn word(stage: &StageVerdict) -> String {
    let word = match serde_json::to_value(stage.verdict) {
        Ok(serde_json::Value::String(word)) => word,
        _ => format!("{:?}", stage.verdict),
    };
    word.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use inferdiff_schemas::run::verdicts::{Direction, Verdict};

    use super::*;

    fn verdicts(stages: &[(&str, Verdict, Option<[f64; 2]>)]) -> Verdicts {
        let stage = |(name, verdict, interval): &(&str, Verdict, Option<[f64; 2]>)| {
            let metric = interval.map(|[low, high]| {
                serde_json::from_value(serde_json::json!({
                    "name": "top1", "reference": null, "stage": null, "delta": (low + high) / 2.0,
                    "interval": [low, high], "confidence": 0.95, "margin": 0.005,
                    "direction": if high < 0.0 { Some(Direction::Worse) } else { None },
                    "beyond_margin": false, "flips": 0, "n": 100, "only_reference_right": null,
                    "only_stage_right": null, "ties": 0, "n_to_decide": null, "method": "",
                }))
                .unwrap()
            });
            let mut stage: StageVerdict = serde_json::from_value(serde_json::json!({
                "name": name, "verdict": verdict, "basis": null, "reason": "", "optional": false,
                "outcomes": {}, "outputs": [], "metrics": [],
            }))
            .unwrap();
            stage.metrics = metric.into_iter().collect();
            stage
        };
        Verdicts {
            stages: stages.iter().map(stage).collect(),
            ..serde_json::from_value(serde_json::json!({
                "format": 1, "requests": 1, "items": 1, "reference": "off",
                "production_matches": [], "production_agreement": [], "labels": null, "stages": [],
            }))
            .unwrap()
        }
    }

    fn code(
        before: &[(&str, Verdict, Option<[f64; 2]>)],
        now: &[(&str, Verdict, Option<[f64; 2]>)],
    ) -> u8 {
        exit_code(&against(&verdicts(before), &verdicts(now)))
    }

    #[test]
    fn only_what_became_worse_fails() {
        use Verdict::{
            Affects, Equivalent, Failed, Identical, Inconclusive, MayAffect, Reference, Unavailable,
        };
        let off = ("off", Reference, None);
        let bad = |low, high| ("int8", Affects, Some([low, high]));
        assert_eq!(
            code(&[off, bad(-0.06, -0.04)], &[off, bad(-0.06, -0.04)]),
            0
        );
        assert_eq!(
            code(&[off, bad(-0.06, -0.04)], &[off, bad(-0.05, -0.03)]),
            0
        );
        assert_eq!(
            code(&[off, bad(-0.06, -0.04)], &[off, bad(-0.09, -0.07)]),
            1
        );
        assert_eq!(
            code(&[off, bad(-0.06, -0.04)], &[off, ("int8", Identical, None)]),
            0
        );
        assert_eq!(
            code(
                &[off, ("int8", Equivalent, None)],
                &[off, bad(-0.06, -0.04)]
            ),
            1
        );
        assert_eq!(
            code(
                &[off, ("int8", Identical, None)],
                &[off, ("int8", Inconclusive, None)]
            ),
            3
        );
        assert_eq!(
            code(
                &[off, ("int8", Unavailable, None)],
                &[off, ("int8", Unavailable, None)]
            ),
            0
        );
        assert_eq!(
            code(
                &[off, ("int8", Unavailable, None)],
                &[off, ("int8", Failed, None)]
            ),
            4
        );
        assert_eq!(code(&[off], &[off, ("new", MayAffect, None)]), 1);
        assert_eq!(code(&[off], &[off, ("new", Equivalent, None)]), 0);
        assert_eq!(code(&[off, ("gone", Equivalent, None)], &[off]), 3);
    }
}
