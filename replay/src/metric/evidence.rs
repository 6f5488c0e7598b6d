//! Which metric an output asks for by itself. A default needs evidence; without it the only
//! criterion is the tolerance, and the metrics that could be chosen are named.

use std::collections::BTreeMap;

use prost::Message;

use super::Row;
use crate::labels::LabelKind;

/// The parts of `onnx.ModelProto` that say which operator makes an output; the numbers are those
/// of onnx.proto.
#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    name: String,
}

/// The operator that makes each output of an ONNX model, seen through Identity and Cast; empty where
/// the bytes are no ONNX model.
pub fn final_operators(model: &[u8]) -> BTreeMap<String, String> {
    let graph = Model::decode(model).ok().and_then(|m| m.graph);
    let graph = graph.unwrap_or_default();
    let maker = |name: &str| {
        graph
            .node
            .iter()
            .find(|n| n.output.iter().any(|o| o == name))
    };
    let mut out = BTreeMap::new();
    for output in &graph.output {
        let mut node = maker(&output.name);
        // A graph has no circles, but a broken file may: the walk is no longer than the graph.
        for _ in 0..graph.node.len() {
            match node {
                Some(n) if n.op_type == "Identity" || n.op_type == "Cast" => {
                    node = n.input.first().and_then(|i| maker(i));
                }
                _ => break,
            }
        }
        if let Some(node) = node {
            out.insert(output.name.clone(), node.op_type.clone());
        }
    }
    out
}

/// The metric that the evidence asks for, and the evidence in words.
pub fn default_for(
    operator: Option<&str>,
    sums_to_one: bool,
    labels: Option<LabelKind>,
    sample: &Row,
) -> Option<(&'static str, String)> {
    let elements = sample.numbers().map_or(0, |v| v.len());
    match labels {
        Some(LabelKind::Class) if elements >= 2 => {
            return Some(("top1", "labels are integers: classes".to_owned()));
        }
        Some(LabelKind::Score) if elements == 1 => {
            return Some(("mae", "labels are fractions: scores".to_owned()));
        }
        Some(LabelKind::Text) if sample.datatype.size().is_none() => {
            return Some(("exact", "labels are text".to_owned()));
        }
        _ => {}
    }
    match operator {
        Some(op @ ("Softmax" | "LogSoftmax")) if elements >= 2 => {
            Some(("top1", format!("the model's final operator is {op}")))
        }
        Some("ArgMax") => Some(("exact", "the model's final operator is ArgMax".to_owned())),
        Some("Sigmoid") => Some((
            "threshold:at=0.5",
            "the model's final operator is Sigmoid".to_owned(),
        )),
        _ if sums_to_one && elements >= 2 => Some((
            "top1",
            "every row of the reference is a distribution (sums to one)".to_owned(),
        )),
        _ => None,
    }
}

/// The metrics that could be chosen for such an output.
pub fn choices(sample: &Row, labelled: bool) -> Vec<&'static str> {
    let Some(values) = sample.numbers() else {
        return vec!["exact", "prefix", "command:run=…"];
    };
    let integer = !sample.datatype.name().contains("FP") && sample.datatype.name() != "BF16";
    let mut out = Vec::new();
    if integer {
        out.extend(["exact", "prefix"]);
    } else if values.len() >= 2 {
        out.extend([
            "top1",
            "flips:above=…",
            "topk:k=…",
            "tau",
            "ndcg",
            "cosine",
            "recall:k=…",
        ]);
    }
    if labelled {
        out.push("auc");
    }
    out.extend(["threshold:at=…", "mae", "command:run=…"]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferdiff_schemas::Datatype;

    #[test]
    fn the_final_operator_is_read_from_real_models() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: &str| final_operators(&std::fs::read(folder.join(path)).unwrap());
        let digits = read("../tests/fixtures/digits/digits.fp32.onnx");
        assert_eq!(digits.len(), 1, "{digits:?}");
        let relu = read("tests/models/relu.onnx");
        assert!(relu.values().all(|op| op == "Relu"), "{relu:?}");
        assert!(final_operators(b"no model").is_empty());
    }

    #[test]
    fn no_evidence_no_default() {
        let row = Row {
            datatype: Datatype::Fp32,
            shape: vec![2],
            data: vec![0; 8].into(),
        };
        assert_eq!(default_for(Some("Gemm"), false, None, &row), None);
        assert_eq!(default_for(None, true, None, &row).unwrap().0, "top1");
        let softmax = default_for(Some("Softmax"), false, None, &row).unwrap();
        assert!(softmax.0 == "top1" && softmax.1.contains("Softmax"));
        assert!(choices(&row, false).contains(&"cosine"));
        assert!(!choices(&row, false).contains(&"auc"));
    }
}
