//! Bodies of the fuzz targets: one place that libFuzzer (`fuzz/`) and ordinary tests both drive.
//!
//! A target panics where a decoder does, and where it breaks a promise: tensors that do not hold
//! what their shape says, bytes that were neither decoded nor kept.
#![doc(hidden)]
#![allow(missing_docs, reason = "no interface of the product")]

mod memory;

use bytes::Bytes;
use ulid::Ulid;

use crate::capture::{Capture, CaptureMeta, Layout, Projection, find_last};
use crate::exchange::{Exchange, Outcome};
use crate::headers::Headers;
use crate::raw::{Frame, RawBody, RawExchange};
use crate::wire::{BinaryHeader, Keep, Models, decode, reads_alike};
use memory::Memory;

/// A target: its name, and what it does with any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub fn targets() -> &'static [Target] {
    &[
        ("oip_json", oip_json),
        ("oip_binary", oip_binary),
        ("oip_grpc", oip_grpc),
        ("tfs", tfs),
        ("paddle_serving", paddle_serving),
        ("paddle_pipeline", paddle_pipeline),
        ("generate", generate),
        ("sse", sse),
        ("content_coding", content_coding),
        ("footer", footer),
    ]
}

/// Runs the target of that name; false where there is none.
pub fn run(name: &str, data: &[u8]) -> bool {
    let target = targets().iter().find(|(n, _)| *n == name);
    if let Some((_, f)) = target {
        f(data);
    }
    target.is_some()
}

const METADATA: &str = r#"{"name":"m","inputs":[{"name":"x","datatype":"FP32","shape":[-1,3]}],"outputs":[{"name":"text_output","datatype":"BYTES","shape":[1]}]}"#;

fn oip_json(data: &[u8]) {
    let e = both("/v2/models/m/infer", &[], data);
    assert!(e.inputs.is_some() || e.decode_error.is_some());
    let body = Bytes::copy_from_slice(data);
    assert!(reads_alike(&body, BinaryHeader::AllJson));
}

/// The first two bytes are the length of the JSON header.
fn oip_binary(data: &[u8]) {
    let Some((length, body)) = data.split_first_chunk::<2>() else {
        return;
    };
    let length = u16::from_le_bytes(*length).to_string();
    let header = [("inference-header-content-length", length.as_str())];
    both("/v2/models/m/infer", &header, body);
}

fn oip_grpc(data: &[u8]) {
    let header = [
        ("content-type", "application/grpc"),
        ("grpc-encoding", "gzip"),
    ];
    for method in ["ModelInfer", "ModelStreamInfer"] {
        let path = format!("/inference.GRPCInferenceService/{method}");
        both(&path, &header, data);
        // A bare message, so that the fuzzer need not learn framing first.
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes();
        let framed = [&[0][..], &length, data].concat();
        both(&path, &header, &framed);
    }
}

fn tfs(data: &[u8]) {
    for path in ["/v1/models/m:predict", "/v1/models/unknown:classify"] {
        let e = both(path, &[], data);
        assert!(e.inputs.is_some() || e.decode_error.is_some());
    }
}

fn paddle_serving(data: &[u8]) {
    for content_type in ["application/json", "application/proto"] {
        let header = [("content-type", content_type)];
        let e = both("/GeneralModelService/inference", &header, data);
        assert!(e.inputs.is_some() || e.decode_error.is_some());
    }
}

fn paddle_pipeline(data: &[u8]) {
    both("/name/prediction", &[], data);
}

fn generate(data: &[u8]) {
    for model in ["m", "unknown"] {
        both(&format!("/v2/models/{model}/generate"), &[], data);
        both(&format!("/v2/models/{model}/generate_stream"), &[], data);
    }
}

fn sse(data: &[u8]) {
    let header = [("content-type", "text/event-stream")];
    both("/v1/chat/completions", &header, data);
}

fn content_coding(data: &[u8]) {
    for coding in ["gzip", "deflate", "deflate, gzip"] {
        let header = [
            ("content-encoding", coding),
            ("content-type", "text/event-stream"),
        ];
        both("/v2/models/m/infer", &header, data);
        both("/v1/events", &header, data);
    }
}

/// Any bytes as a segment: the footer search, and every row of what it finds.
fn footer(data: &[u8]) {
    let layout = Layout::new("/capture");
    let meta = serde_json::to_vec(&CaptureMeta::new("2026-01-01T00:00:00Z"))
        .expect("the metadata of a capture is plain JSON");
    let memory = Memory::new(&layout, meta, Bytes::copy_from_slice(data));
    let _ = find_last(&memory.segment(), None);
    let Ok(capture) = Capture::open(
        std::sync::Arc::new(memory),
        std::path::Path::new("/capture"),
    ) else {
        return;
    };
    for segment in capture.segments() {
        for group in 0..segment.row_groups {
            for exchange in capture
                .read(segment, group, Projection::Full)
                .into_iter()
                .flatten()
            {
                tensors_are_sound(&exchange);
            }
        }
    }
}

/// The same bytes as request and as answer, whole and cut short.
fn both(path: &str, headers: &[(&str, &str)], data: &[u8]) -> Exchange {
    let mut models = Models::default();
    let metadata = serde_json::from_str(METADATA).expect("the constant is JSON");
    models
        .learn("m", None, &metadata)
        .expect("the constant is metadata");
    let headers: Headers = headers
        .iter()
        .map(|(n, v)| ((*n).to_owned(), Bytes::copy_from_slice(v.as_bytes())))
        .collect();
    let body = RawBody {
        frames: smallvec::smallvec![Frame {
            at_ns: 5,
            offset: 0,
            length: data.len() as u64 / 2,
        }],
        ..RawBody::whole(data.to_vec())
    };
    let cut = RawBody {
        complete: false,
        seen: body.seen + 1,
        ..body.clone()
    };
    let exchange = |response_body: RawBody, outcome| RawExchange {
        seq: 0,
        arrived_at_ns: 0,
        first_byte_ns: None,
        end_ns: 9,
        method: "POST".into(),
        path: path.into(),
        query: None,
        request_headers: headers.clone(),
        request_body: body.clone(),
        request_trailers: Headers::default(),
        status: Some(200),
        response_headers: headers.clone(),
        response_body,
        response_trailers: Headers::default(),
        outcome,
        error: None,
        sample_rate: 1.0,
    };
    let row = |body, outcome| {
        let e = decode(
            exchange(body, outcome),
            Ulid::nil(),
            &Keep::default(),
            &models,
        );
        promises(&e, data);
        e
    };
    row(cut, Outcome::UpstreamReset);
    row(body.clone(), Outcome::Complete)
}

/// What holds for every row, whatever the bytes were.
fn promises(e: &Exchange, data: &[u8]) {
    tensors_are_sound(e);
    for (tensors, body) in [(&e.inputs, &e.request_body), (&e.outputs, &e.response_body)] {
        // Neither decoded nor kept would be lost.
        assert!(tensors.is_some() || data.is_empty() || body.as_deref() == Some(data));
    }
    for messages in [&e.request_messages, &e.response_messages]
        .into_iter()
        .flatten()
    {
        let mut end = 0;
        for m in messages {
            assert!(m.offset >= end, "messages overlap");
            end = m.offset + m.length;
        }
    }
}

fn tensors_are_sound(e: &Exchange) {
    for t in [&e.inputs, &e.outputs].into_iter().flatten().flatten() {
        assert!(
            t.check().is_ok(),
            "tensor `{}` does not hold its shape",
            t.name
        );
    }
}
