//! Exchanges to fill captures with.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use inferdiff_schemas::capture::{
    Capture, CaptureMeta, CaptureWriter, Ledger, Projection, RecorderMeta, WriterOptions,
};
use inferdiff_schemas::digest::input_digest;
use inferdiff_schemas::storage::{Disk, Storage};
use inferdiff_schemas::{Datatype, Exchange, Message, Outcome, Payload, Tensor};
use proptest::prelude::*;
use ulid::Ulid;

pub fn capture_meta() -> CaptureMeta {
    CaptureMeta::new("2026-01-01T00:00:00Z")
}

pub fn recorder_meta(recorder: Ulid) -> RecorderMeta {
    RecorderMeta::new(recorder, "2026-01-01T00:00:00Z")
}

pub fn open_writer(dir: &Path, recorder: Ulid, options: WriterOptions) -> CaptureWriter {
    open_writer_on(Arc::new(Disk), dir, recorder, options)
}

pub fn open_writer_on(
    storage: Arc<dyn Storage>,
    dir: &Path,
    recorder: Ulid,
    options: WriterOptions,
) -> CaptureWriter {
    CaptureWriter::open(
        storage,
        dir,
        capture_meta(),
        recorder_meta(recorder),
        options,
    )
    .unwrap()
    .0
}

pub fn accept(writer: &mut CaptureWriter, ledger: &mut Ledger, exchange: Exchange) {
    ledger.accepted += 1;
    ledger.in_flight += 1;
    writer.append(exchange);
}

pub fn read_all(dir: &Path) -> Vec<Exchange> {
    let capture = Capture::open(Arc::new(Disk), dir).unwrap();
    assert!(
        capture.unreadable().is_empty(),
        "{:?}",
        capture.unreadable()
    );
    let mut all = Vec::new();
    for segment in capture.segments() {
        for group in 0..segment.row_groups {
            all.extend(capture.read(segment, group, Projection::Full).unwrap());
        }
    }
    all
}

/// A small exchange with one input and one output of `payload`.
pub fn exchange(recorder: Ulid, seq: u64, payload: Bytes) -> Exchange {
    let n = i64::try_from(payload.len()).unwrap();
    let input = Tensor::inline("x", Datatype::Uint8, vec![1, n], payload.clone()).unwrap();
    let output = Tensor::inline("y", Datatype::Uint8, vec![1, n], payload).unwrap();
    Exchange {
        arrived_at_ns: 1_700_000_000_000_000_000 + i64::try_from(seq).unwrap(),
        first_byte_ns: Some(1000),
        end_ns: 2000,
        protocol: "oip-rest-binary".into(),
        model: Some("m".into()),
        model_version: Some("1".into()),
        client_request_id: Some(format!("r{seq}")),
        method: "POST".into(),
        path: "/v2/models/m/infer".into(),
        status: Some(200),
        request_headers: vec![("content-type".into(), "application/octet-stream".into())],
        input_digest: Some(input_digest(std::slice::from_ref(&input))),
        inputs: Some(vec![input]),
        outputs: Some(vec![output]),
        ..Exchange::new(recorder, seq)
    }
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

fn blob() -> impl Strategy<Value = Bytes> {
    // Both sides of the length at which values are written without being copied.
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (16 * 1024 - 5..16 * 1024 + 5usize, any::<u8>()).prop_map(|(n, byte)| vec![byte; n]),
    ]
    .prop_map(Bytes::from)
}

fn tensor() -> impl Strategy<Value = Tensor> {
    let payload = prop::sample::select(Payload::ALL.to_vec());
    (
        text(),
        any::<u32>(),
        blob(),
        payload,
        prop::option::of(text()),
    )
        .prop_map(|(name, message, data, payload, parameters)| Tensor {
            name,
            message,
            datatype: Datatype::Uint8,
            shape: vec![i64::try_from(data.len()).unwrap()],
            payload,
            parameters,
            data: (payload == Payload::Inline).then_some(data),
        })
}

fn message() -> impl Strategy<Value = Message> {
    let opt = || prop::option::of(text());
    (any::<u64>(), any::<u64>(), any::<u64>(), opt(), opt()).prop_map(
        |(at_ns, offset, length, id, error)| Message {
            at_ns,
            offset,
            length,
            id,
            error,
        },
    )
}

/// Any exchange at all, all columns filled or null.
pub fn any_exchange(recorder: Ulid) -> impl Strategy<Value = Exchange> {
    let opt = || prop::option::of(text());
    let tensors = || prop::option::of(prop::collection::vec(tensor(), 0..3));
    let messages = || prop::option::of(prop::collection::vec(message(), 0..3));
    let headers = || prop::collection::vec((text(), text()), 0..3);
    let texts = (
        opt(),
        opt(),
        opt(),
        opt(),
        opt(),
        opt(),
        opt(),
        opt(),
        opt(),
        opt(),
    );
    let numbers = (
        any::<u64>(),
        any::<i64>(),
        any::<Option<u64>>(),
        any::<u64>(),
        any::<Option<u16>>(),
        any::<Option<i32>>(),
        any::<f64>().prop_filter("equality is by value", |f| !f.is_nan()),
        prop::sample::select(Outcome::ALL.to_vec()),
    );
    let lists = (
        tensors(),
        tensors(),
        messages(),
        messages(),
        headers(),
        headers(),
    );
    let rest = (
        prop::option::of(prop::collection::vec(text(), 0..3)),
        prop::option::of(blob()),
        prop::option::of(blob()),
        text(),
    );
    (texts, numbers, lists, rest).prop_map(move |(t, n, l, r)| Exchange {
        recorder,
        seq: n.0,
        id: Exchange::id_of(recorder, n.0),
        part: 0,
        last: true,
        arrived_at_ns: n.1,
        first_byte_ns: n.2,
        end_ns: n.3,
        protocol: r.3.clone(),
        model: t.0,
        model_version: t.1,
        client_request_id: t.2,
        sequence_id: t.3,
        traceparent: t.4,
        method: "POST".into(),
        path: r.3,
        query: t.5,
        status: n.4,
        grpc_status: n.5,
        grpc_message: t.6,
        outcome: n.7,
        error: t.7,
        request_headers: l.4,
        response_headers: l.5,
        parameters: t.8,
        requested_outputs: r.0,
        input_digest: l.0.as_deref().map(input_digest),
        inputs: l.0,
        outputs: l.1,
        request_messages: l.2,
        response_messages: l.3,
        request_body: r.1,
        response_body: r.2,
        decode_error: t.9,
        sample_rate: n.6,
    })
}
