//! What the session's own log shows of each option.

use inferdiff_schemas::run::evidence::{
    Acted, Evidence, ModelIdentity, OptionEvidence, Pass, Signature,
};
use inferdiff_schemas::run::ladder::{GraphOptimization, Stage};

use super::library::Library;
use super::log::SessionLog;
use crate::ladder::nearest;
use crate::runtime::OpenError;

/// Transformers that run even at level "off": without them some models could not run at all.
const MANDATORY: [&str; 4] = [
    "EnsureUniqueDQForNodeUnit",
    "RemoveDuplicateCastTransformer",
    "CastFloat16Transformer",
    "MemcpyTransformer",
];

pub(super) fn collect(
    library: &Library,
    stage: &Stage,
    model: ModelIdentity,
    signature: &Signature,
    log: &SessionLog,
) -> Evidence {
    let passes = log.passes();
    let mut options = vec![graph_optimization(stage.graph_optimization, &passes)];
    let unobservable = |option: &str, requested: String| OptionEvidence {
        option: option.to_owned(),
        requested,
        acted: Acted::Unobservable,
        shown_by: "ONNX Runtime reports nothing of it; the outputs are compared".to_owned(),
    };
    options.push(unobservable("prepacking", stage.prepacking.to_string()));
    options.push(unobservable(
        "memory_optimization",
        stage.memory_optimization.to_string(),
    ));
    options.push(unobservable("threads", stage.threads.to_string()));
    options.push(unobservable(
        "deterministic",
        stage.deterministic.to_string(),
    ));
    for name in &stage.disabled_passes {
        options.push(OptionEvidence {
            option: format!("disabled_passes.{name}"),
            requested: "disabled".to_owned(),
            acted: Acted::Acted,
            shown_by: "it is in the log of a session without it and not in this one".to_owned(),
        });
    }
    for (key, value) in &stage.config {
        options.push(unobservable(&format!("config.{key}"), value.clone()));
    }
    for provider in &stage.providers {
        options.push(unobservable(
            &format!("providers.{}", provider.name),
            "on".to_owned(),
        ));
    }
    Evidence {
        runtime: "onnxruntime".to_owned(),
        library: Some(library.path.display().to_string()),
        version: Some(library.version()),
        model: Some(model),
        signature: Some(signature.clone()),
        options,
        passes,
        placement: Vec::new(),
        cpu: cpu(),
        warnings: log.warnings(),
    }
}

fn graph_optimization(level: GraphOptimization, passes: &[Pass]) -> OptionEvidence {
    let hits: Vec<&str> = passes
        .iter()
        .filter(|p| p.hit)
        .map(|p| p.name.as_str())
        .collect();
    let optional: Vec<&str> = passes
        .iter()
        .map(|p| p.name.as_str())
        .filter(|n| !MANDATORY.contains(n))
        .collect();
    let (acted, shown_by) = if level == GraphOptimization::Off {
        if optional.is_empty() {
            (Acted::Acted, "only mandatory transformers ran".to_owned())
        } else {
            (
                Acted::DidNotAct,
                format!("it is not off: {} ran", optional.join(", ")),
            )
        }
    } else if passes.is_empty() {
        (Acted::Unobservable, "the log names no pass".to_owned())
    } else if hits.iter().all(|h| MANDATORY.contains(h)) {
        (
            Acted::DidNotAct,
            format!("{} passes ran and none changed the graph", passes.len()),
        )
    } else {
        (
            Acted::Acted,
            format!("of {} passes these hit: {}", passes.len(), hits.join(", ")),
        )
    };
    let requested = format!("{level:?}").to_lowercase();
    OptionEvidence {
        option: "graph_optimization".to_owned(),
        requested,
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
        Some(o) if o.acted == Acted::Acted => Ok(()),
        Some(o) => Err(format!("the reference is not off: {}", o.shown_by)),
        None => Err("nothing shows that the reference is off".to_owned()),
    }
}

/// ONNX Runtime ignores unknown pass names in silence: each must be in the log of a session
/// without `disabled_passes` and must have left the log of this one.
pub(super) fn check_disabled(
    stage: &Stage,
    without: &[Pass],
    with: &[Pass],
) -> Result<(), OpenError> {
    for name in &stage.disabled_passes {
        if !without.iter().any(|p| p.name == *name) {
            let known = without.iter().map(|p| p.name.as_str());
            let hint = nearest(name, known)
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            return Err(OpenError::Failed(format!(
                "stage `{}`: no pass `{name}` runs at level {:?}{hint}",
                stage.name, stage.graph_optimization
            )));
        }
        if with.iter().any(|p| p.name == *name) {
            return Err(OpenError::Failed(format!(
                "stage `{}`: ONNX Runtime ran `{name}` although it was disabled: it is mandatory",
                stage.name
            )));
        }
    }
    Ok(())
}

/// CPU features that choose kernels.
fn cpu() -> Vec<String> {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! detected {
            ($($feature:tt),*) => {
                vec![$(($feature, std::arch::is_x86_feature_detected!($feature))),*]
            };
        }
        let all = detected!(
            "sse4.2",
            "avx",
            "avx2",
            "fma",
            "avx512f",
            "avx512vnni",
            "avx512bf16"
        );
        all.into_iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| name.to_owned())
            .collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        vec![std::env::consts::ARCH.to_owned()]
    }
}
