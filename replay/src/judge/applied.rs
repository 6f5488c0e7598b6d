//! Whether a stage did anything that the reference did not, by its evidence.

use inferdiff_schemas::run::evidence::{Acted, Evidence, OptionEvidence};
use inferdiff_schemas::run::ladder::Stage;

/// Where every option in which the stage differs from the reference is shown not to have acted:
/// what shows it. `None` where one acted, cannot be observed, or has no evidence.
pub(super) fn did_not_act(
    (stage, evidence): (&Stage, Option<&Evidence>),
    (reference, reference_evidence): (&Stage, Option<&Evidence>),
) -> Option<String> {
    let same = stage.runtime == reference.runtime && stage.model == reference.model;
    if !same {
        return None;
    }
    let (evidence, baseline) = (evidence?, reference_evidence?);
    let keys = stage.options.keys().chain(reference.options.keys());
    let mut differing: Vec<&String> = keys
        .filter(|key| stage.options.get(*key) != reference.options.get(*key))
        .collect();
    differing.sort();
    differing.dedup();
    let mut shown = Vec::new();
    for key in differing {
        let own: Vec<&OptionEvidence> = of(evidence, key)
            .filter(|o| !baseline.options.iter().any(|b| same_request(o, b)))
            .collect();
        // Nothing is asked for that the reference does not ask for: something was taken away, and
        // what is not asked for has no evidence.
        let taken = of(baseline, key).any(|b| !of(evidence, key).any(|o| o.option == b.option));
        if own.is_empty() || taken {
            return None;
        }
        for option in own {
            if option.acted != Acted::DidNotAct {
                return None;
            }
            shown.push(format!("{}: {}", option.option, option.shown_by));
        }
    }
    (!shown.is_empty()).then(|| shown.join("; "))
}

/// Evidence of a key: `key` itself, or its entries `key.…`.
fn of<'e>(evidence: &'e Evidence, key: &'e str) -> impl Iterator<Item = &'e OptionEvidence> {
    evidence.options.iter().filter(move |o| {
        let rest = o.option.strip_prefix(key);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

fn same_request(a: &OptionEvidence, b: &OptionEvidence) -> bool {
    a.option == b.option && a.requested == b.requested
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn stage(options: Value) -> Stage {
        let Value::Object(options) = options else {
            unreachable!("options are an object")
        };
        Stage {
            options,
            ..Stage::bare("s", "onnxruntime")
        }
    }

    fn evidence(options: &[(&str, &str, Acted)]) -> Evidence {
        let option = |(option, requested, acted): &(&str, &str, Acted)| OptionEvidence {
            option: (*option).into(),
            requested: (*requested).into(),
            acted: *acted,
            shown_by: "the log".into(),
        };
        Evidence {
            options: options.iter().map(option).collect(),
            ..Evidence::default()
        }
    }

    #[test]
    fn one_option_that_acted_or_hides_speaks_for_the_stage() {
        let off = stage(json!({"level": "off", "pack": false}));
        let basis = evidence(&[
            ("level", "off", Acted::Acted),
            ("pack", "false", Acted::Unobservable),
        ]);
        let all = stage(json!({"level": "all", "pack": false}));
        let idle = |level, pack, stage: &Stage| {
            let own = evidence(&[("level", "all", level), ("pack", "true", pack)]);
            did_not_act((stage, Some(&own)), (&off, Some(&basis)))
        };
        use Acted::DidNotAct;
        assert!(
            idle(DidNotAct, Acted::Unobservable, &all)
                .unwrap()
                .contains("level: the log")
        );
        assert_eq!(idle(Acted::Acted, Acted::Unobservable, &all), None);
        let both = stage(json!({"level": "all", "pack": true}));
        assert_eq!(idle(DidNotAct, Acted::Unobservable, &both), None);
        assert!(idle(DidNotAct, DidNotAct, &both).is_some());
        // The reference against itself, another model, no evidence: nothing is claimed.
        assert_eq!(
            did_not_act((&off, Some(&basis)), (&off, Some(&basis))),
            None
        );
        let other = Stage {
            model: Some("m".into()),
            ..all.clone()
        };
        assert_eq!(idle(DidNotAct, DidNotAct, &other), None);
        assert_eq!(did_not_act((&all, None), (&off, Some(&basis))), None);
    }

    #[test]
    fn only_the_entries_that_the_reference_lacks_must_be_idle() {
        let reference = stage(json!({"config": {"a": "1"}}));
        let basis = evidence(&[("config.a", "1", Acted::Acted)]);
        let more = stage(json!({"config": {"a": "1", "b": "1"}}));
        let own = evidence(&[
            ("config.a", "1", Acted::Acted),
            ("config.b", "1", Acted::DidNotAct),
        ]);
        let told = did_not_act((&more, Some(&own)), (&reference, Some(&basis)));
        assert!(told.unwrap().contains("config.b"));
        // What was taken away has no evidence of its own.
        let fewer = stage(json!({"config": {"b": "1"}}));
        let own = evidence(&[("config.b", "1", Acted::DidNotAct)]);
        assert_eq!(
            did_not_act((&fewer, Some(&own)), (&reference, Some(&basis))),
            None
        );
    }
}
