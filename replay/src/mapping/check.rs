//! What can be said of a stage's tensors before anything runs.

use std::collections::BTreeSet;

use inferdiff_schemas::run::evidence::{Signature, TensorSpec};
use inferdiff_schemas::run::manifest::InputSeen;

use super::{Mappings, find};
use crate::ladder::hint;

/// Every input of the model must be in the captured requests with its datatype and rank, and no
/// captured input may be one that the model does not have; `mappings` are applied first. Each input
/// that does not fit is said.
///
/// # Errors
/// One sentence over all inputs.
pub(crate) fn check_inputs(
    signature: &Signature,
    seen: &[InputSeen],
    mappings: &Mappings,
) -> Result<(), String> {
    let mut problems = Vec::new();
    let seen = mapped(seen, mappings, &mut problems);
    for spec in &signature.inputs {
        let named: Vec<_> = seen.iter().filter(|s| s.name == spec.name).collect();
        let rank = |n| spec.unknown_rank || n == spec.shape.len();
        let fits = |s: &&InputSeen| s.datatype == spec.datatype && rank(s.rank);
        if named.is_empty() {
            let near = hint(&spec.name, seen.iter().map(|s| s.name.as_str()));
            problems.push(format!(
                "input `{}` is in no captured request{near}",
                spec.name
            ));
        } else if !named.iter().any(fits) {
            let found: Vec<_> = named
                .iter()
                .map(|s| format!("{} of rank {}", s.datatype, s.rank))
                .collect();
            problems.push(format!(
                "input `{}` must be {}, captured was {}",
                spec.name,
                wanted(spec),
                found.join(", ")
            ));
        }
    }
    let known: BTreeSet<&str> = signature.inputs.iter().map(|i| i.name.as_str()).collect();
    let unknown: BTreeSet<&str> = seen
        .iter()
        .map(|s| s.name.as_str())
        .filter(|name| !known.contains(name))
        .collect();
    problems.extend(unknown.into_iter().map(|name| {
        let list: Vec<&str> = signature.inputs.iter().map(|i| i.name.as_str()).collect();
        format!(
            "the model has no input `{name}`, it has {}",
            list.join(", ")
        )
    }));
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the model does not fit the captured requests: {}. [stage.inputs] can rename, cast and \
         transpose",
        problems.join("; ")
    ))
}

fn wanted(spec: &TensorSpec) -> String {
    if spec.unknown_rank {
        spec.datatype.clone()
    } else {
        format!("{} of rank {}", spec.datatype, spec.shape.len())
    }
}

/// The inputs as they reach the model.
fn mapped(seen: &[InputSeen], mappings: &Mappings, problems: &mut Vec<String>) -> Vec<InputSeen> {
    if mappings.is_empty() {
        return seen.to_vec();
    }
    // An index counts the inputs of one request, whose order only that request knows: what an
    // indexed mapping takes is seen when it runs.
    let names: Vec<&str> = seen.iter().map(|s| s.name.as_str()).collect();
    let mut taken = BTreeSet::new();
    let mut out = Vec::new();
    for (name, mapping) in mappings {
        let at = match find("input", name, mapping, &names) {
            Ok(at) => at,
            Err(why) => {
                problems.push(why);
                continue;
            }
        };
        taken.insert(names[at]);
        for source in seen.iter().filter(|s| s.name == names[at]) {
            if let Some(axes) = mapping
                .transpose
                .as_ref()
                .filter(|a| a.len() != source.rank)
            {
                problems.push(format!(
                    "input `{name}`: transpose = {axes:?} orders {} axes, captured was rank {}",
                    axes.len(),
                    source.rank
                ));
            }
            out.push(InputSeen {
                name: name.clone(),
                datatype: mapping
                    .cast
                    .map_or_else(|| source.datatype.clone(), |d| d.name().to_owned()),
                rank: source.rank,
            });
        }
    }
    let untouched =
        |s: &&InputSeen| !taken.contains(s.name.as_str()) && !mappings.contains_key(&s.name);
    out.extend(seen.iter().filter(untouched).cloned());
    out
}

/// Every mapping of an output must find its source in the stage's model and its name in the
/// reference's, where they tell.
///
/// # Errors
/// One sentence over all outputs.
pub(crate) fn check_outputs(
    signature: Option<&Signature>,
    reference: Option<&Signature>,
    mappings: &Mappings,
) -> Result<(), String> {
    let mut problems = Vec::new();
    for (name, mapping) in mappings {
        if let Some(signature) = signature {
            let outputs = &signature.outputs;
            let names: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
            match find("output", name, mapping, &names) {
                Err(why) => problems.push(why),
                Ok(at) => {
                    let spec = &outputs[at];
                    let axes = mapping.transpose.as_ref();
                    let wrong = axes.filter(|a| !spec.unknown_rank && a.len() != spec.shape.len());
                    problems.extend(wrong.map(|axes| {
                        format!(
                            "output `{name}`: transpose = {axes:?} orders {} axes, `{}` has {}",
                            axes.len(),
                            spec.name,
                            spec.shape.len()
                        )
                    }));
                }
            }
        }
        if let Some(reference) = reference {
            let names: Vec<&str> = reference.outputs.iter().map(|o| o.name.as_str()).collect();
            if !names.contains(&name.as_str()) {
                problems.push(format!(
                    "the reference has no output `{name}`, it has {}{}",
                    names.join(", "),
                    hint(name, names.iter().copied())
                ));
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!(
        "[stage.outputs] does not fit: {}",
        problems.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use inferdiff_schemas::Datatype;
    use inferdiff_schemas::run::ladder::{TensorMapping, TensorSource};

    use super::*;

    fn spec(name: &str, datatype: &str, shape: &[i64]) -> TensorSpec {
        TensorSpec {
            name: name.into(),
            datatype: datatype.into(),
            shape: shape.to_vec(),
            unknown_rank: false,
        }
    }

    fn seen(name: &str, datatype: &str, rank: usize) -> InputSeen {
        InputSeen {
            name: name.into(),
            datatype: datatype.into(),
            rank,
        }
    }

    fn from(name: &str) -> TensorMapping {
        TensorMapping {
            from: TensorSource::Name(name.into()),
            cast: None,
            transpose: None,
        }
    }

    #[test]
    fn every_input_that_does_not_fit_is_said() {
        let signature = Signature {
            inputs: vec![
                spec("image", "FP32", &[-1, 3, 8, 8]),
                spec("mask", "BOOL", &[-1]),
                spec("ids", "INT64", &[-1, 4]),
            ],
            outputs: Vec::new(),
        };
        let none = Mappings::new();
        let good = [
            seen("image", "FP32", 4),
            seen("mask", "BOOL", 1),
            seen("ids", "INT64", 2),
        ];
        assert_eq!(check_inputs(&signature, &good, &none), Ok(()));
        let bad = [
            seen("image", "FP64", 4),
            seen("ids", "INT64", 3),
            seen("id", "INT64", 2),
            seen("masks", "BOOL", 1),
        ];
        let why = check_inputs(&signature, &bad, &none).unwrap_err();
        for part in [
            "input `image` must be FP32 of rank 4, captured was FP64 of rank 4",
            "input `ids` must be INT64 of rank 2, captured was INT64 of rank 3",
            "input `mask` is in no captured request; did you mean `masks`?",
            "the model has no input `id`, it has image, mask, ids",
        ] {
            assert!(why.contains(part), "{part}: {why}");
        }
    }

    #[test]
    fn mappings_are_applied_before_the_inputs_are_compared() {
        let signature = Signature {
            inputs: vec![spec("pixels", "FP16", &[-1, 8, 8, 3])],
            outputs: Vec::new(),
        };
        let captured = [seen("image", "FP32", 4)];
        let mut mapping = TensorMapping {
            cast: Some(Datatype::Fp16),
            transpose: Some(vec![0, 2, 3, 1]),
            ..from("image")
        };
        let check = |mapping: &TensorMapping| {
            let mappings = [("pixels".to_owned(), mapping.clone())].into();
            check_inputs(&signature, &captured, &mappings)
        };
        assert_eq!(check(&mapping), Ok(()));
        mapping.transpose = Some(vec![1, 0]);
        assert!(check(&mapping).unwrap_err().contains("orders 2 axes"));
        mapping = from("imag");
        assert!(
            check(&mapping)
                .unwrap_err()
                .contains("did you mean `image`?")
        );
    }

    #[test]
    fn outputs_must_be_found_on_both_sides() {
        let outputs = |names: &[&str]| Signature {
            inputs: Vec::new(),
            outputs: names.iter().map(|n| spec(n, "FP32", &[-1, 10])).collect(),
        };
        let (own, reference) = (outputs(&["softmax_1"]), outputs(&["prob"]));
        let check = |name: &str, mapping: TensorMapping| {
            let mappings = [(name.to_owned(), mapping)].into();
            check_outputs(Some(&own), Some(&reference), &mappings)
        };
        assert_eq!(check("prob", from("softmax_1")), Ok(()));
        let why = check("probs", from("softmax")).unwrap_err();
        assert!(why.contains("did you mean `softmax_1`?"), "{why}");
        assert!(why.contains("did you mean `prob`?"), "{why}");
        let turned = TensorMapping {
            transpose: Some(vec![0, 2, 1]),
            ..from("softmax_1")
        };
        assert!(check("prob", turned).unwrap_err().contains("orders 3 axes"));
    }
}
