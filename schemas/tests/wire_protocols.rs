//! Per protocol: what is refused, what is kept, when a message crossed, what a bomb does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may fail loudly, and its numbers are small"
)]

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use inferdiff_schemas::raw::{Frame, RawBody, RawExchange};
use inferdiff_schemas::wire::{Keep, Models, decode};
use inferdiff_schemas::{Exchange, Headers, Outcome};
use serde_json::json;
use ulid::Ulid;

type Fields<'a> = &'a [(&'a str, &'a str)];

fn raw(path: &str, headers: Fields<'_>, request: &[u8], response: &[u8]) -> RawExchange {
    let headers: Headers = headers.iter().copied().collect();
    RawExchange {
        seq: 0,
        arrived_at_ns: 0,
        first_byte_ns: None,
        end_ns: 99,
        method: "POST".into(),
        path: path.into(),
        query: None,
        request_headers: headers.clone(),
        request_body: RawBody::whole(request.to_vec()),
        request_trailers: Headers::default(),
        status: Some(200),
        response_headers: headers,
        response_body: RawBody::whole(response.to_vec()),
        response_trailers: Headers::default(),
        outcome: Outcome::Complete,
        error: None,
        sample_rate: 1.0,
    }
}

fn row(raw: RawExchange) -> Exchange {
    decode(raw, Ulid::nil(), &Keep::default(), &Models::default())
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut e = GzEncoder::new(Vec::new(), Compression::default());
    e.write_all(data).unwrap();
    e.finish().unwrap()
}

const OIP: &str = "/v2/models/m/infer";
const GRPC: Fields<'static> = &[
    ("content-type", "application/grpc"),
    ("grpc-encoding", "gzip"),
];
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
const UNARY: &str = "/inference.GRPCInferenceService/ModelInfer";

/// inputs { name: "x", datatype, shape: [1] } and whatever follows it in the request.
fn infer(datatype: &str, contents: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut tensor = b"\x0a\x01x\x12".to_vec();
    tensor.push(datatype.len() as u8);
    tensor.extend_from_slice(datatype.as_bytes());
    tensor.extend_from_slice(b"\x1a\x01\x01");
    tensor.extend_from_slice(contents);
    let mut message = vec![0x2a, tensor.len() as u8];
    message.extend_from_slice(&tensor);
    message.extend_from_slice(rest);
    message
}

fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

#[test]
fn every_path_finds_its_protocol() {
    let sse = [("content-type", "text/event-stream;charset=utf-8")];
    for (path, headers, protocol) in [
        (OIP, &[][..], "oip-rest"),
        (
            OIP,
            &[("Inference-Header-Content-Length", "2")],
            "oip-rest-binary",
        ),
        (UNARY, GRPC, "oip-grpc"),
        (STREAM, GRPC, "oip-grpc-stream"),
        (UNARY, &[], "http"),
        (
            UNARY,
            &[("content-type", "application/grpc-web+proto")],
            "http",
        ),
        (
            "/other.Service/Call",
            &[("content-type", "application/grpc+proto")],
            "grpc",
        ),
        ("/v1/models/m:predict", &[], "tfs-rest"),
        ("/GeneralModelService/inference", &[], "paddle-serving"),
        ("/v2/models/m/versions/1/generate", &[], "triton-generate"),
        (
            "/v2/models/m/generate_stream",
            &sse,
            "triton-generate-stream",
        ),
        ("/v1/chat/completions", &sse, "sse"),
        ("/v1/chat/completions", &[], "http"),
    ] {
        assert_eq!(
            row(raw(path, headers, b"x", b"y")).protocol,
            protocol,
            "{path}"
        );
    }
    let pipeline = |body: &[u8]| row(raw("/ocr/prediction", &[], body, b"")).protocol;
    assert_eq!(
        pipeline(br#"{"key":["a"],"value":["b"]}"#),
        "paddle-pipeline"
    );
    assert_eq!(pipeline(br#"{"key":"a","value":"b"}"#), "http");
    let mut get = raw("/v2/models/m/infer", &[], b"", b"");
    get.method = "GET".into();
    assert_eq!(row(get).protocol, "http");
}

#[test]
fn a_bomb_is_kept_as_it_came_and_named() {
    let bomb = gzip(&vec![b' '; 32 << 20]);
    let e = row(raw(OIP, &[("Content-Encoding", "gzip")], &bomb, b""));
    assert_eq!(
        (e.inputs, e.request_body.as_deref()),
        (None, Some(&bomb[..]))
    );
    assert!(e.decode_error.unwrap().contains("gzip bomb"));
    // A stream of small ones is one: each alone would pass.
    let small = frame(1, &gzip(&vec![0; 1 << 20]));
    let e = row(raw(STREAM, GRPC, &small.repeat(40), b""));
    assert!(e.decode_error.unwrap().contains("gzip bomb"));
    assert!(e.request_body.is_some());
}

#[test]
fn a_raw_input_needs_metadata_and_a_length_that_fits() {
    let header = [("inference-header-content-length", "0")];
    let with = |metadata: serde_json::Value, body: &[u8]| {
        let mut models = Models::default();
        models.learn("m", None, &metadata).unwrap();
        let e = decode(
            raw(OIP, &header, body, b""),
            Ulid::nil(),
            &Keep::default(),
            &models,
        );
        e.inputs
            .map(|i| i[0].shape.clone())
            .ok_or(e.decode_error.unwrap())
    };
    let model = |datatype: &str, shape: &[i64]| json!({"inputs": [{"name": "x", "datatype": datatype, "shape": shape}], "outputs": []});
    assert_eq!(with(model("FP32", &[-1, 2]), &[0; 24]), Ok(vec![3, 2]));
    assert_eq!(with(model("FP32", &[-1, -1]), &[0; 24]), Ok(vec![1, 6]));
    assert_eq!(with(model("FP32", &[2]), &[0; 8]), Ok(vec![2]));
    assert_eq!(with(model("BYTES", &[-1]), b"any"), Ok(vec![1]));
    assert!(with(model("FP32", &[-1, 2]), &[0; 25]).is_err());
    assert!(with(model("FP32", &[2, -1, -1]), &[0; 24]).is_err());
    assert!(with(model("FP32", &[-1, 0]), &[0; 24]).is_err());
    assert!(with(model("BYTES", &[2]), b"any").is_err());
    let two = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]},
        {"name": "y", "datatype": "FP32", "shape": [1]}], "outputs": []});
    assert!(with(two, &[0; 4]).unwrap_err().contains("2 inputs"));
    let unknown = row(raw(OIP, &header, &[0; 4], b""));
    assert!(unknown.decode_error.unwrap().contains("metadata"));
    assert!(
        Models::default()
            .learn("m", None, &json!({"error": "no"}))
            .is_err()
    );
}

#[test]
fn grpc_contents_that_contradict_themselves_are_refused() {
    let one = [0x3a, 4, 0, 0, 0, 0];
    let refused = |message: &[u8], why: &str| {
        let e = row(raw(UNARY, GRPC, &frame(0, message), b""));
        assert_eq!(e.inputs, None, "{why}");
        let got = e.decode_error.unwrap();
        assert!(got.contains(why), "{got}");
    };
    refused(
        &infer("FP32", &[0x2a, 6, 0x32, 4, 0, 0, 0, 0], &one),
        "mixed",
    );
    refused(&infer("FP32", &[], &[]), "no contents");
    refused(&infer("FP32", &[], &one.repeat(2)), "follow the last");
    refused(
        &infer("FP16", &[0x2a, 3, 0x12, 1, 0], &[]),
        "raw contents only",
    );
    refused(
        &infer("INT8", &[0x2a, 4, 0x12, 2, 0x80, 1], &[]),
        "out of range",
    );
    refused(
        &infer("INT8", &[0x2a, 3, 0x0a, 1, 1], &[]),
        "does not travel",
    );
    refused(&infer("FP99", &[], &one), "unknown datatype");
    refused(&[0x2a, 0].repeat(20_000), "16384");
    let e = row(raw(
        UNARY,
        GRPC,
        &frame(0, &infer("FP32", &[], &one)).repeat(2),
        b"",
    ));
    assert!(e.decode_error.unwrap().contains("has 2"));
    let nested = frame(
        0,
        &[&[0x12, 0xc0, 0xb8, 0x02][..], &[0x2a, 0].repeat(20_000)].concat(),
    );
    let e = row(raw(STREAM, GRPC, b"", &nested));
    assert!(e.decode_error.unwrap().contains("16384"));
    let e = row(raw(UNARY, GRPC, &frame(2, b""), b""));
    assert!(e.decode_error.unwrap().contains("flag is 2"));
}

#[test]
fn messages_carry_the_time_of_the_piece_that_completed_them() {
    let message = frame(0, &infer("FP32", &[], &[0x3a, 4, 0, 0, 0, 0]));
    let (n, all) = (message.len() as u64, message.repeat(3));
    let mut cut = raw(STREAM, GRPC, &all[..all.len() - 1], b"");
    cut.outcome = Outcome::ClientCancelled;
    cut.request_body.complete = false;
    cut.request_body.frames = [(10, 0, n + 2), (20, n + 2, n - 2), (30, 2 * n, n - 1)]
        .map(|(at_ns, offset, length)| Frame {
            at_ns,
            offset,
            length,
        })
        .into_iter()
        .collect();
    let e = row(cut);
    let places: Vec<_> = e
        .request_messages
        .iter()
        .flatten()
        .map(|m| (m.at_ns, m.offset, m.length))
        .collect();
    assert_eq!(places, [(10, 0, n), (20, n, n)]);
    let messages: Vec<u32> = e.inputs.iter().flatten().map(|t| t.message).collect();
    assert_eq!(messages, [0, 1]);
    // The unfinished third message is in the raw body.
    assert!(e.request_body.is_some() && e.decode_error.is_some());
}

#[test]
fn events_are_told_apart_whatever_their_line_ends() {
    let sse = [("content-type", "text/event-stream")];
    let events = |body: &str| {
        let e = row(raw("/v1/x", &sse, b"", body.as_bytes()));
        assert_eq!(e.response_body.as_deref(), Some(body.as_bytes()));
        let messages = e.response_messages.unwrap();
        messages
            .iter()
            .map(|m| (m.offset, m.length))
            .collect::<Vec<_>>()
    };
    assert_eq!(events("data: a\n\ndata: b\n\n"), [(0, 9), (9, 9)]);
    assert_eq!(
        events("data: a\r\n\r\ndata: b\r\n\r\n"),
        [(0, 11), (11, 11)]
    );
    assert_eq!(events(": ping\n\ndata\n\n"), [(8, 6)]);
    assert_eq!(events("data: a\n\ndata: [DONE]"), [(0, 9), (9, 12)]);
    let e = row(raw("/v1/x", &sse, b"", b"event: error\ndata: full\n\n"));
    assert_eq!(
        (e.outcome, e.error.as_deref()),
        (Outcome::ErrorInStream, Some("full"))
    );
}

#[test]
fn tensorflow_serving_refuses_what_is_no_tensor() {
    for (body, why) in [
        (r#"{"instances":[1],"inputs":[1]}"#, "either"),
        (r"{}", "either"),
        (r#"{"instances":[[1],[1,2]]}"#, "ragged"),
        (r#"{"instances":[{"a":1},{"b":1}]}"#, "`b`"),
        (r#"{"instances":[{"a":1,"b":2},{"a":1}]}"#, "lacks"),
        (r#"{"instances":[{"a":1,"a":1}]}"#, "twice"),
        (r#"{"instances":[]}"#, "datatype"),
        (r#"{"instances":[{"b64":"!"}]}"#, "base64"),
        (r#"{"instances":7}"#, "list"),
    ] {
        let e = row(raw("/v1/models/m:predict", &[], body.as_bytes(), b""));
        let got = e.decode_error.unwrap();
        assert!(e.inputs.is_none() && got.contains(why), "{body}: {got}");
        assert_eq!(e.request_body.as_deref(), Some(body.as_bytes()));
    }
}

#[test]
fn paddle_errors_and_lies() {
    let path = "/GeneralModelService/inference";
    let tensor = |t: &str| {
        row(raw(
            path,
            &[],
            format!(r#"{{"tensor":[{t}]}}"#).as_bytes(),
            b"{}",
        ))
    };
    let good = tensor(r#"{"name":"a","alias_name":"x","shape":[2],"int64_data":["1",2]}"#);
    let inputs = good.inputs.unwrap();
    assert_eq!(
        (inputs[0].name.as_str(), inputs[0].parameters.as_deref()),
        ("x", Some(r#"{"name":"a"}"#))
    );
    let text = tensor(r#"{"name":"s","elem_type":20,"shape":[3],"data":["abc"]}"#);
    assert_eq!(text.inputs.unwrap()[0].shape, [1]);
    for lie in [
        r#"{"name":"x","shape":[3],"int64_data":[1]}"#,
        r#"{"name":"x","shape":[1],"elem_type":10}"#,
        r#"{"name":"x","shape":[-1],"elem_type":7,"tensor_content":"AA=="}"#,
        r#"{"name":"x","shape":[1],"elem_type":7,"tensor_content":"*"}"#,
    ] {
        assert!(tensor(lie).decode_error.is_some(), "{lie}");
    }
}

#[test]
fn known_inputs_of_a_generate_model_are_told_from_parameters() {
    let mut models = Models::default();
    let metadata =
        json!({"inputs": [{"name": "n", "datatype": "INT32", "shape": [1]}], "outputs": []});
    models.learn("m", None, &metadata).unwrap();
    let body = br#"{"n":1,"temperature":0.5,"parameters":{"a":[1,NaN]}}"#;
    let raw = raw("/v2/models/m/generate", &[], body, br#"{"error":"no"}"#);
    let e = decode(raw, Ulid::nil(), &Keep::default(), &models);
    let inputs = e.inputs.unwrap();
    assert_eq!((inputs.len(), inputs[0].datatype.name()), (1, "INT32"));
    assert_eq!(
        e.parameters.as_deref(),
        Some(r#"{"temperature":0.5,"a":[1,"NaN"]}"#)
    );
    assert_eq!((e.outputs, e.error.as_deref()), (None, Some("no")));
}
