//! Hostile bodies cost memory in proportion to their size, whatever they claim.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may fail loudly, and its numbers are small"
)]
#![allow(
    unsafe_code,
    reason = "an allocator that counts is unsafe by its trait"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use inferdiff_schemas::raw::{RawBody, RawExchange};
use inferdiff_schemas::wire::{Keep, Models, decode};
use inferdiff_schemas::{Exchange, Headers, Outcome};
use ulid::Ulid;

struct Counting;
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: as our caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as our caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Decodes and returns the row and the most bytes that were held beside the body.
fn cost(path: &str, content_type: &str, body: &[u8]) -> (Exchange, usize) {
    let headers: Headers = [("content-type", content_type)].into_iter().collect();
    let raw = RawExchange {
        seq: 0,
        arrived_at_ns: 0,
        first_byte_ns: None,
        end_ns: 0,
        method: "POST".into(),
        path: path.into(),
        query: None,
        request_headers: headers.clone(),
        request_body: RawBody::whole(body.to_vec()),
        request_trailers: Headers::default(),
        status: Some(200),
        response_headers: headers,
        response_body: RawBody::whole(body.to_vec()),
        response_trailers: Headers::default(),
        outcome: Outcome::Complete,
        error: None,
        sample_rate: 1.0,
    };
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let e = decode(raw, Ulid::nil(), &Keep::default(), &Models::default());
    (e, PEAK.load(Relaxed) - before)
}

fn joined(one: impl Fn(usize) -> String, n: usize) -> String {
    (0..n).map(one).collect::<Vec<_>>().join(",")
}

/// A length-delimited protobuf field.
fn field(tag: u8, data: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2];
    let mut n = data.len();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out.extend_from_slice(data);
    out
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

#[test]
fn memory_follows_the_body_and_not_its_claims() {
    const N: usize = 200_000;
    let unary = "/inference.GRPCInferenceService/ModelInfer";
    let stream = "/inference.GRPCInferenceService/ModelStreamInfer";
    let grpc = "application/grpc";
    let strings = field(5, &[0x42, 0].repeat(N));
    let typed = field(
        5,
        &[&b"\x0a\x01x\x12\x05BYTES\x1a\x01\x01"[..], &strings].concat(),
    );
    let cases: Vec<(&str, &str, &str, Vec<u8>)> = vec![
        (
            "a shape",
            "/v2/models/m/infer",
            "",
            br#"{"inputs":[{"name":"x","shape":[1000000000000],"datatype":"FP64","data":[1]}]}"#
                .to_vec(),
        ),
        (
            "tensors",
            "/v2/models/m/infer",
            "",
            format!(
                r#"{{"inputs":[{}]}}"#,
                joined(
                    |_| r#"{"name":"","shape":[],"datatype":"BOOL"}"#.into(),
                    N / 8
                )
            )
            .into_bytes(),
        ),
        ("empty tensors", unary, grpc, framed(&[0x2a, 0].repeat(N))),
        ("strings", unary, grpc, framed(&typed)),
        ("messages", stream, grpc, framed(b"").repeat(N)),
        ("a length", unary, grpc, b"\0\xff\xff\xff\xff\0".to_vec()),
        (
            "numbers",
            "/v1/models/m:predict",
            "",
            format!(r#"{{"instances":[{}]}}"#, joined(|_| "1".into(), N)).into_bytes(),
        ),
        (
            "names",
            "/v1/models/m:predict",
            "",
            format!(
                r#"{{"instances":[{{{}}}]}}"#,
                joined(|i| format!("\"{i}\":1"), N)
            )
            .into_bytes(),
        ),
        (
            "rows",
            "/v1/models/m:predict",
            "",
            format!(
                r#"{{"instances":[{}]}}"#,
                joined(|_| r#"{"a":1}"#.into(), N)
            )
            .into_bytes(),
        ),
        (
            "fields",
            "/v2/models/m/generate",
            "",
            format!("{{{}}}", joined(|i| format!("\"{i}\":1"), N)).into_bytes(),
        ),
        (
            "keys",
            "/a/b",
            "",
            format!(
                r#"{{"key":[{0}],"value":[{0}]}}"#,
                joined(|_| "\"\"".into(), N)
            )
            .into_bytes(),
        ),
        (
            "empty paddle tensors",
            "/GeneralModelService/inference",
            "application/proto",
            field(1, &[0x0a, 0].repeat(N)),
        ),
        ("events", "/any", "text/event-stream", b"data\n\n".repeat(N)),
    ];
    let mut failed = Vec::new();
    for (name, path, content_type, body) in cases {
        let (_, peak) = cost(path, content_type, &body);
        let times = peak / body.len();
        // An empty message or event is the worst: five bytes that become a row of their own.
        if peak > 50 * body.len() + (8 << 20) {
            failed.push(format!("{name}: {peak} bytes, {times} times the body"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
