//! Bodies made by real clients, or from published schemas, decode to the tensors that numpy held.
//!
//! `tests/golden/wire`, made by `scripts/make_wire_golden.py`; who made what: `PROVENANCE.md` there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use inferdiff_schemas::raw::{RawBody, RawExchange};
use inferdiff_schemas::wire::{Keep, Models, decode};
use inferdiff_schemas::{Exchange, Headers, Message, Outcome, Payload, Tensor};
use serde_json::Value;
use ulid::Ulid;

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/wire");
    let list = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|e| e.unwrap().path()).collect()
    };
    let folders = list(&root).into_iter().filter(|p| p.is_dir());
    let mut all: Vec<PathBuf> = folders
        .flat_map(|f| list(&f))
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    all.sort();
    all
}

fn fields(value: &Value) -> Headers {
    let object = value.as_object().unwrap();
    object
        .iter()
        .map(|(k, v)| (k, v.as_str().unwrap()))
        .collect()
}

fn load(path: &Path) -> (RawExchange, Models, Value) {
    let case: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let body = |end: &str| RawBody::whole(std::fs::read(path.with_extension(end)).unwrap());
    let mut models = Models::default();
    for (model, metadata) in case["models"].as_object().into_iter().flatten() {
        models.learn(model, None, metadata).unwrap();
    }
    let raw = RawExchange {
        seq: 0,
        arrived_at_ns: 0,
        first_byte_ns: None,
        end_ns: 9,
        method: "POST".into(),
        path: case["path"].as_str().unwrap().into(),
        query: None,
        request_headers: fields(&case["request_headers"]),
        request_body: body("request"),
        request_trailers: Headers::default(),
        status: Some(200),
        response_headers: fields(&case["response_headers"]),
        response_body: body("response"),
        response_trailers: fields(&case["response_trailers"]),
        outcome: Outcome::Complete,
        error: None,
        sample_rate: 1.0,
    };
    (raw, models, case["expected"].clone())
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|b| format!("{b:02x}")).collect()
}

fn same_tensors(side: &str, got: Option<&Vec<Tensor>>, expected: &Value) {
    let Some(expected) = expected.as_array() else {
        assert_eq!(got, None, "{side}");
        return;
    };
    let got = got.unwrap_or_else(|| panic!("{side}: not decoded"));
    assert_eq!(got.len(), expected.len(), "{side}");
    for (t, e) in got.iter().zip(expected) {
        let name = format!("{side} {}", t.name);
        assert_eq!(e["name"], t.name.as_str(), "{name}");
        assert_eq!(e["message"], t.message, "{name}");
        assert_eq!(e["datatype"], t.datatype.name(), "{name}");
        assert_eq!(e["shape"], Value::from(t.shape.clone()), "{name}");
        let data = t.data.as_deref().map(hex);
        assert_eq!(e["hex"].as_str(), data.as_deref(), "{name}");
        assert_eq!(t.payload == Payload::Shm, e["hex"].is_null(), "{name}");
        if let Some(parameters) = e.get("parameters") {
            let got: Value = serde_json::from_str(t.parameters.as_ref().unwrap()).unwrap();
            assert_eq!(&got, parameters, "{name}");
        }
    }
}

fn same_columns(e: &Exchange, expected: &Value) {
    let text = |key: &str, got: Option<&str>| {
        if let Some(wanted) = expected.get(key) {
            assert_eq!(wanted.as_str(), got, "{key}");
        }
    };
    text("protocol", Some(&e.protocol));
    text("model", e.model.as_deref());
    text("client_request_id", e.client_request_id.as_deref());
    text("sequence_id", e.sequence_id.as_deref());
    text("grpc_message", e.grpc_message.as_deref());
    text("error", e.error.as_deref());
    let outcome = expected["outcome"].as_str().unwrap_or("complete");
    assert_eq!(e.outcome.name(), outcome);
    if let Some(status) = expected.get("grpc_status") {
        assert_eq!(status.as_i64(), e.grpc_status.map(i64::from));
    }
    if let Some(wanted) = expected.get("requested_outputs") {
        assert_eq!(wanted, &Value::from(e.requested_outputs.clone()));
    }
    let ids = |key: &str, got: &Option<Vec<Message>>| {
        if let Some(wanted) = expected.get(key) {
            let got: Vec<Value> = got.iter().flatten().map(|m| m.id.clone().into()).collect();
            assert_eq!(wanted, &Value::from(got), "{key}");
        }
    };
    ids("request_message_ids", &e.request_messages);
    ids("response_message_ids", &e.response_messages);
}

#[test]
fn golden_bodies_decode_to_what_numpy_held() {
    let cases = cases();
    assert!(cases.len() >= 20, "only {} cases found", cases.len());
    let results: Vec<(PathBuf, bool)> = cases
        .into_iter()
        .map(|path| {
            let passed = std::panic::catch_unwind(|| {
                let (raw, models, expected) = load(&path);
                let e = decode(raw, Ulid::nil(), &Keep::default(), &models);
                assert_eq!(e.decode_error, None);
                same_columns(&e, &expected);
                same_tensors("input", e.inputs.as_ref(), &expected["inputs"]);
                same_tensors("output", e.outputs.as_ref(), &expected["outputs"]);
            })
            .is_ok();
            (path, passed)
        })
        .collect();
    let failed: Vec<&PathBuf> = results.iter().filter(|r| !r.1).map(|r| &r.0).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The promise of `input_digest`: the same inference has the same digest in whatever protocol came.
#[test]
fn equal_inferences_have_equal_digests_across_protocols() {
    let digest = |path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let (mut raw, models, _) = load(&cases()[0]);
        raw.path = path.into();
        raw.request_headers = headers
            .iter()
            .map(|(n, v)| ((*n).to_owned(), Bytes::from((*v).to_owned())))
            .collect();
        raw.request_body = RawBody::whole(body.to_vec());
        let e = decode(raw, Ulid::nil(), &Keep::default(), &models);
        e.input_digest
            .unwrap_or_else(|| panic!("{path}: {:?}", e.decode_error))
    };
    let data = [1.0f32, 2.0].map(f32::to_le_bytes).concat();
    let rest = digest(
        "/v2/models/m/infer",
        &[],
        br#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#,
    );
    let head = br#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}"#;
    let binary = digest(
        "/v2/models/m/infer",
        &[("inference-header-content-length", &head.len().to_string())],
        &[&head[..], &data].concat(),
    );
    // inputs { name: "x", datatype: "FP32", shape: [1, 2] }, raw_input_contents.
    let tensor = [&b"\x0a\x01x\x12\x04FP32\x1a\x02\x01\x02"[..]].concat();
    let message = [&[0x2a, 13], &tensor[..], &[0x3a, 8], &data[..]].concat();
    let frame = [&[0, 0, 0, 0, 25], &message[..]].concat();
    let grpc = digest(
        "/inference.GRPCInferenceService/ModelInfer",
        &[("content-type", "application/grpc+proto")],
        &frame,
    );
    let tfs = digest(
        "/v1/models/m:predict",
        &[],
        br#"{"inputs":{"x":[[1.0,2.0]]}}"#,
    );
    let rows = digest(
        "/v1/models/m:predict",
        &[],
        br#"{"instances":[{"x":[1.0,2.0]}]}"#,
    );
    let paddle = digest(
        "/GeneralModelService/inference",
        &[("content-type", "application/json")],
        br#"{"tensor":[{"alias_name":"x","elem_type":1,"shape":[1,2],"float_data":[1,2]}]}"#,
    );
    assert_eq!([binary, grpc, tfs, rows, paddle], [rest; 5]);
}
