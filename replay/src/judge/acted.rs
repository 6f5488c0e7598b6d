//! Whether a stage did what its name says.

use inferdiff_schemas::run::evidence::{Acted, Evidence};
use inferdiff_schemas::run::ladder::Stage;

/// Where every option in which the stage differs from the reference is shown not to have acted:
/// what shows it.
pub(super) fn did_not_act(stage: &Stage, reference: &Stage, evidence: Option<&Evidence>) -> Option<String> {
    let same_model = stage.model == reference.model
        && stage.library == reference.library
        && stage.runtime == reference.runtime
        && stage.providers == reference.providers
        && stage.config == reference.config
        && stage.disabled_passes == reference.disabled_passes;
    if !same_model {
        return None;
    }
    let differs = [
        (
            "graph_optimization",
            stage.graph_optimization != reference.graph_optimization,
        ),
        ("prepacking", stage.prepacking != reference.prepacking),
        (
            "memory_optimization",
            stage.memory_optimization != reference.memory_optimization,
        ),
        ("threads", stage.threads != reference.threads),
        (
            "deterministic",
            stage.deterministic != reference.deterministic,
        ),
    ];
    let options: Vec<&str> = differs
        .into_iter()
        .filter(|(_, d)| *d)
        .map(|(name, _)| name)
        .collect();
    if options.is_empty() {
        return None;
    }
    let mut shown = Vec::new();
    for name in options {
        let found = evidence?.options.iter().find(|o| o.option == name)?;
        if found.acted != Acted::DidNotAct {
            return None;
        }
        shown.push(format!("{name}: {}", found.shown_by));
    }
    Some(shown.join("; "))
}
