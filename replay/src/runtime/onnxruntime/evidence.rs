//! What the session's own log shows of each option. An echo of the option is no evidence.

use std::collections::BTreeSet;

use inferdiff_schemas::run::evidence::{Acted, Evidence, OptionEvidence, Pass, Placement};

use super::log::SessionLog;
use super::options::{GraphOptimization, OnnxOptions};
use super::providers;

/// Transformers that run even at level "off": without them some models could not run at all.
const MANDATORY: [&str; 4] = [
    "EnsureUniqueDQForNodeUnit",
    "RemoveDuplicateCastTransformer",
    "CastFloat16Transformer",
    "MemcpyTransformer",
];

/// Evidence of the options that need no second session.
pub(super) fn options(
    asked: &OnnxOptions,
    log: &SessionLog,
    placement: &[Placement],
) -> Vec<OptionEvidence> {
    let mut options = vec![
        graph_optimization(asked.graph_optimization, &log.passes()),
        unobservable("prepacking", asked.prepacking),
        memory(asked.memory_optimization, log.memory_plan()),
        unobservable("threads", asked.threads),
        unobservable("deterministic", asked.deterministic),
    ];
    for (i, provider) in asked.providers.iter().enumerate() {
        let requested = if provider.options.is_empty() {
            format!("{}.", i + 1)
        } else {
            let pairs = provider.options.iter().map(|(k, v)| format!("{k}={v}"));
            format!("{}. {}", i + 1, pairs.collect::<Vec<_>>().join(", "))
        };
        let (acted, shown_by) = taken(&provider.name, placement);
        options.push(OptionEvidence {
            option: format!("providers.{}", provider.name),
            requested,
            acted,
            shown_by,
        });
    }
    options
}

fn unobservable(option: &str, requested: impl std::fmt::Display) -> OptionEvidence {
    OptionEvidence {
        option: option.to_owned(),
        requested: requested.to_string(),
        acted: Acted::Unobservable,
        shown_by: "ONNX Runtime reports no effect of it; only the outputs can tell".to_owned(),
    }
}

/// The memory pattern shows itself where constants are left for it to plan. Nothing shows the
/// arena, and a missing plan does not show that either is off; a plan shows that it is not.
fn memory(on: bool, plan: Option<String>) -> OptionEvidence {
    let Some(plan) = plan else {
        return unobservable("memory_optimization", on);
    };
    OptionEvidence {
        option: "memory_optimization".to_owned(),
        requested: on.to_string(),
        acted: if on { Acted::Acted } else { Acted::DidNotAct },
        shown_by: plan,
    }
}

fn taken(provider: &str, placement: &[Placement]) -> (Acted, String) {
    let all: usize = placement.iter().map(|p| p.nodes.len()).sum();
    if all == 0 {
        let why = "the library does not tell where nodes were placed";
        return (Acted::Unobservable, why.to_owned());
    }
    let name = providers::engine_name(provider).unwrap_or(provider);
    match placement.iter().find(|p| p.provider == name) {
        Some(p) => (
            Acted::Acted,
            format!("{name} took {} of {all} nodes", p.nodes.len()),
        ),
        None => {
            let others: Vec<_> = placement.iter().map(|p| p.provider.as_str()).collect();
            (
                Acted::DidNotAct,
                format!("{name} took none of {all} nodes; {} did", others.join(", ")),
            )
        }
    }
}

fn graph_optimization(level: GraphOptimization, passes: &[Pass]) -> OptionEvidence {
    let names = |of: &mut dyn Iterator<Item = &Pass>| -> Vec<String> {
        let mut seen = BTreeSet::new();
        of.filter(|p| seen.insert(p.name.as_str()))
            .map(|p| p.name.clone())
            .collect()
    };
    let optional = |p: &&Pass| !MANDATORY.contains(&p.name.as_str());
    let all = names(&mut passes.iter());
    let ran = names(&mut passes.iter().filter(optional));
    let hits = names(&mut passes.iter().filter(|p| p.hit).filter(optional));
    let (acted, shown_by) = if all.is_empty() {
        // Mandatory transformers are told at every level: without them the log itself is missing.
        (Acted::Unobservable, "the log names no pass".to_owned())
    } else if level == GraphOptimization::Off {
        if ran.is_empty() {
            (
                Acted::Acted,
                format!("only mandatory transformers ran: {}", all.join(", ")),
            )
        } else {
            (
                Acted::DidNotAct,
                format!("it is not off, these ran: {}", ran.join(", ")),
            )
        }
    } else if hits.is_empty() {
        (
            Acted::DidNotAct,
            format!("{} passes ran, none modified the graph", ran.len()),
        )
    } else {
        (
            Acted::Acted,
            format!(
                "of {} passes these modified the graph: {}",
                ran.len(),
                hits.join(", ")
            ),
        )
    };
    OptionEvidence {
        option: "graph_optimization".to_owned(),
        requested: level.name().to_owned(),
        acted,
        shown_by,
    }
}

/// An error unless the log shows that graph optimisation was off.
///
/// # Errors
/// The sentence that says what ran nevertheless.
pub fn prove_off(evidence: &Evidence) -> Result<(), String> {
    let shown = evidence
        .options
        .iter()
        .find(|o| o.option == "graph_optimization");
    match shown {
        Some(o) if o.requested != "off" => Err(format!(
            "the reference is not off: its graph_optimization is `{}`",
            o.requested
        )),
        Some(o) if o.acted == Acted::Acted => Ok(()),
        Some(o) => Err(format!(
            "the reference is not shown to be off: {}",
            o.shown_by
        )),
        None => Err("nothing shows that the reference is off".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(name: &str, hit: bool) -> Pass {
        Pass {
            name: name.into(),
            hit,
            count: None,
        }
    }

    fn evidence(level: GraphOptimization, passes: &[Pass]) -> Evidence {
        Evidence {
            options: vec![graph_optimization(level, passes)],
            ..Evidence::default()
        }
    }

    #[test]
    fn off_is_proved_by_what_ran_and_not_by_the_option() {
        use GraphOptimization::{Basic, Off};
        let mandatory = [
            pass("MemcpyTransformer", false),
            pass("CastFloat16Transformer", true),
        ];
        assert_eq!(prove_off(&evidence(Off, &mandatory)), Ok(()));
        let more = [
            pass("MemcpyTransformer", false),
            pass("ConstantFolding", false),
        ];
        let why = prove_off(&evidence(Off, &more)).unwrap_err();
        assert!(why.contains("ConstantFolding"), "{why}");
        assert!(prove_off(&evidence(Basic, &more)).is_err());
        // No log at all proves nothing.
        assert!(prove_off(&evidence(Off, &[])).is_err());
        assert!(prove_off(&Evidence::default()).is_err());
    }

    #[test]
    fn a_level_acted_only_where_a_pass_that_it_brought_modified_the_graph() {
        let acted = |passes: &[Pass]| graph_optimization(GraphOptimization::All, passes).acted;
        let idle = [pass("GeluFusionL2", false), pass("GeluFusionL2", false)];
        assert_eq!(acted(&idle), Acted::DidNotAct);
        let mandatory = [
            pass("CastFloat16Transformer", true),
            pass("GeluFusionL2", false),
        ];
        assert_eq!(acted(&mandatory), Acted::DidNotAct);
        assert_eq!(acted(&[pass("GeluFusionL2", true)]), Acted::Acted);
        let told = graph_optimization(GraphOptimization::All, &idle).shown_by;
        assert!(told.starts_with("1 passes ran"), "{told}");
    }

    #[test]
    fn a_provider_that_took_no_node_did_not_act() {
        let placement = [Placement {
            provider: "CPUExecutionProvider".into(),
            nodes: vec!["a".into(), "b".into()],
        }];
        assert_eq!(taken("cuda", &placement).0, Acted::DidNotAct);
        assert_eq!(taken("cpu", &placement).0, Acted::Acted);
        assert_eq!(taken("cpu", &[]).0, Acted::Unobservable);
    }
}
