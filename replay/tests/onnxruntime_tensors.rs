//! Tensors through a real ONNX Runtime: every datatype, every odd shape, every bad request.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that goes wrong says so by panicking"
)]

mod common;

use bytes::Bytes;
use common::{floats, infer, open, refused, spread, stage, tensor};
use inferdiff_replay::runtime::{InferError, OpenError};
use inferdiff_schemas::{Datatype, Payload, Tensor};

fn numeric() -> impl Iterator<Item = Datatype> {
    Datatype::ALL.into_iter().filter(|d| d.size().is_some())
}

/// Bytes that are valid for every datatype and different in every element.
fn pattern(datatype: Datatype, elements: usize) -> Vec<u8> {
    let size = datatype.size().unwrap();
    let byte = |i: usize| (i * 89 % 251) as u8;
    let bytes = 0..elements * size;
    if datatype == Datatype::Bool {
        bytes.map(|i| byte(i) % 2).collect()
    } else {
        // NaNs with payloads, subnormals and infinities among them: bits must survive.
        bytes.map(byte).collect()
    }
}

/// One input per datatype, `rows` × 3.
fn identities(rows: i64) -> Vec<Tensor> {
    let elements = usize::try_from(rows * 3).unwrap();
    numeric()
        .map(|d| tensor(d.name(), d, &[rows, 3], pattern(d, elements)))
        .collect()
}

fn same_as_inputs(outputs: &[Tensor], inputs: &[Tensor]) {
    assert_eq!(outputs.len(), inputs.len());
    for (output, input) in outputs.iter().zip(inputs) {
        assert_eq!(output.name, format!("{}_out", input.name));
        assert_eq!(output.datatype, input.datatype);
        assert_eq!(output.shape, input.shape);
        assert_eq!(output.data, input.data, "{}", input.name);
    }
}

#[test]
fn every_numeric_datatype_passes_bit_for_bit() {
    let mut p = open(&stage("identities")).unwrap();
    let inputs = identities(5);
    same_as_inputs(&infer(p.as_mut(), &inputs).unwrap(), &inputs);
}

#[test]
fn the_signature_names_datatypes_as_the_protocol_does() {
    let p = open(&stage("identities")).unwrap();
    let signature = p.signature().unwrap();
    let named: Vec<_> = signature.inputs.iter().map(|s| &s.datatype[..]).collect();
    let expected: Vec<_> = numeric().map(Datatype::name).collect();
    assert_eq!(named, expected);
    assert!(signature.inputs.iter().all(|s| s.shape == [-1, -1]));
    assert!(signature.has_batch_axis());
    let strings = open(&stage("strings")).unwrap();
    assert_eq!(strings.signature().unwrap().inputs[0].datatype, "BYTES");
}

#[test]
fn empty_tensors_pass() {
    let mut p = open(&stage("identities")).unwrap();
    let inputs = identities(0);
    same_as_inputs(&infer(p.as_mut(), &inputs).unwrap(), &inputs);
}

#[test]
fn misaligned_bytes_are_copied_and_answer_the_same() {
    let mut p = open(&stage("identities")).unwrap();
    let inputs = identities(4);
    for offset in 1..8 {
        let moved: Vec<Tensor> = inputs
            .iter()
            .map(|t| {
                let data = t.data.as_ref().unwrap();
                // Aligned to 8 at least, then moved by `offset`.
                let mut words = vec![0u8; data.len() + 16];
                let start = words.as_ptr().align_offset(8) + offset;
                words[start..start + data.len()].copy_from_slice(data);
                let held = Bytes::from(words).slice(start..start + data.len());
                Tensor {
                    data: Some(held),
                    ..t.clone()
                }
            })
            .collect();
        same_as_inputs(&infer(p.as_mut(), &moved).unwrap(), &inputs);
    }
}

#[test]
fn inputs_in_another_order_are_found_by_name() {
    let mut p = open(&stage("identities")).unwrap();
    let inputs = identities(2);
    let mut turned = inputs.clone();
    turned.reverse();
    same_as_inputs(&infer(p.as_mut(), &turned).unwrap(), &inputs);
}

#[test]
fn strings_are_bytes_whatever_is_in_them() {
    let mut p = open(&stage("strings")).unwrap();
    let elements: [&[u8]; 5] = [
        b"plain",
        b"",
        b"zero\0inside",
        b"\xff\xfe not UTF-8",
        "日本".as_bytes(),
    ];
    let mut data = Vec::new();
    for e in elements {
        data.extend_from_slice(&u32::try_from(e.len()).unwrap().to_le_bytes());
        data.extend_from_slice(e);
    }
    let input = tensor("text", Datatype::Bytes, &[5], data.clone());
    let outputs = infer(p.as_mut(), &[input]).unwrap();
    assert_eq!(outputs[0].datatype, Datatype::Bytes);
    assert_eq!(outputs[0].data.as_deref(), Some(&data[..]));
    let none = tensor("text", Datatype::Bytes, &[0], Vec::new());
    let outputs = infer(p.as_mut(), &[none]).unwrap();
    assert_eq!(
        (&outputs[0].shape[..], outputs[0].data.as_deref()),
        (&[0][..], Some(&b""[..]))
    );
}

fn mixed() -> Vec<Tensor> {
    let ids: Vec<u8> = [7i64, -9].iter().flat_map(|v| v.to_le_bytes()).collect();
    vec![
        floats("x", &[2, 4], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
        floats("scale", &[], &[0.5]),
        tensor("ids", Datatype::Int64, &[2], ids),
    ]
}

#[test]
fn scalars_and_several_datatypes_in_one_request() {
    let mut p = open(&stage("mixed_inputs")).unwrap();
    let outputs = infer(p.as_mut(), &mixed()).unwrap();
    let [y, total, doubled] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let values: Vec<f32> = (1..=8u8).map(|i| f32::from(i) / 2.0).collect();
    assert_eq!(*y, floats("y", &[2, 4], &values));
    assert_eq!(*total, floats("total", &[], &[18.0]));
    let ids: Vec<u8> = [14i64, -18].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(*doubled, tensor("doubled", Datatype::Int64, &[2], ids));
    assert!(!p.signature().unwrap().has_batch_axis());
}

#[test]
fn a_request_that_does_not_fit_is_told_everything_that_is_wrong() {
    let mut p = open(&stage("mixed_inputs")).unwrap();
    let mut why = |inputs: Vec<Tensor>| match infer(p.as_mut(), &inputs) {
        Err(InferError::BadRequest(why)) => why,
        other => panic!("{other:?}"),
    };
    let mut missing = mixed();
    missing.remove(1);
    missing[1].name = "id".into();
    let told = why(missing);
    for part in [
        "`scale` is missing",
        "`ids` is missing",
        "no input `id`",
        "x, scale, ids",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let mut twice = mixed();
    twice.push(twice[0].clone());
    assert!(why(twice).contains("`x` is there 2 times"));
    let mut typed = mixed();
    typed[1] = tensor("scale", Datatype::Fp64, &[], vec![0; 8]);
    assert!(why(typed).contains("`scale` is FP64, the model wants FP32"));
    let mut ranked = mixed();
    ranked[1] = floats("scale", &[1], &[1.0]);
    assert!(why(ranked).contains("shape [1], the model wants []"));
    let mut sized = mixed();
    sized[0] = floats("x", &[2, 3], &[0.0; 6]);
    assert!(why(sized).contains("shape [2, 3], the model wants [-1, 4]"));
    let mut dropped = mixed();
    dropped[0].payload = Payload::Dropped;
    dropped[0].data = None;
    assert!(why(dropped).contains("was not captured (dropped)"));
    let mut lying = mixed();
    lying[0].shape = vec![i64::MAX, 4];
    assert!(why(lying).contains('x'));
    // And the predictor is as usable as before.
    assert!(infer(p.as_mut(), &mixed()).is_ok());
}

#[test]
fn a_bool_byte_that_is_neither_is_refused_before_it_becomes_undefined() {
    let mut p = open(&stage("identities")).unwrap();
    let mut inputs = identities(1);
    inputs[0].data = Some(Bytes::from_static(&[1, 2, 0]));
    let why = infer(p.as_mut(), &inputs).unwrap_err().to_string();
    assert!(why.contains("element 1 of BOOL is the byte 2"), "{why}");
}

#[test]
fn what_the_engine_says_of_a_run_is_handed_on_and_the_next_run_is_as_good() {
    let mut p = open(&stage("six")).unwrap();
    let good = floats("x", &[6], &spread(6));
    let y = infer(p.as_mut(), std::slice::from_ref(&good)).unwrap();
    assert_eq!(y[0].shape, [2, 3]);
    let why = infer(p.as_mut(), &[floats("x", &[5], &spread(5))]).unwrap_err();
    let InferError::Engine(why) = why else {
        panic!("{why:?}")
    };
    assert!(why.contains("Reshape"), "{why}");
    assert_eq!(infer(p.as_mut(), &[good]).unwrap(), y);
}

#[test]
fn an_output_that_is_no_tensor_is_said_to_be_none() {
    let mut p = open(&stage("sequence")).unwrap();
    let why = infer(p.as_mut(), &[floats("x", &[2], &[1.0, 2.0])]).unwrap_err();
    let InferError::Engine(why) = why else {
        panic!("{why:?}")
    };
    assert!(
        why.contains("`parts`") && why.contains("only tensors"),
        "{why}"
    );
}

#[test]
fn a_model_that_does_not_say_its_rank_takes_any() {
    let mut p = open(&stage("unknown_rank")).unwrap();
    let input = p.signature().unwrap().inputs[0].clone();
    assert!(input.unknown_rank && input.shape.is_empty());
    for shape in [&[][..], &[1], &[1, 1, 1]] {
        let y = infer(p.as_mut(), &[floats("x", shape, &[2.0])]).unwrap();
        assert_eq!(y[0], floats("y", shape, &[2.0]));
    }
    // A declared scalar is not one of unknown rank.
    let scalar = open(&stage("mixed_inputs")).unwrap();
    assert!(!scalar.signature().unwrap().inputs[1].unknown_rank);
}

#[test]
fn a_model_that_cannot_be_opened_says_which_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let torn = dir.path().join("torn.onnx");
    std::fs::write(&torn, b"this is no model").unwrap();
    let failed = |path: &std::path::Path| {
        let stage = inferdiff_schemas::run::ladder::Stage {
            model: Some(path.to_owned()),
            ..stage("relu")
        };
        match refused(&stage) {
            OpenError::Failed(why) => why,
            other => panic!("{other:?}"),
        }
    };
    assert!(failed(&torn).contains("torn.onnx"));
    assert!(failed(&dir.path().join("none.onnx")).contains("none.onnx"));
}
