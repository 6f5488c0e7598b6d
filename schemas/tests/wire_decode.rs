//! Decoders never panic, invent nothing, and keep what they cannot read.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a test may fail loudly, and its numbers are small"
)]

use bytes::Bytes;
use inferdiff_schemas::raw::{RawBody, RawExchange};
use inferdiff_schemas::wire::{
    BinaryHeader, Keep, Models, decode, decode_request, decode_response, encode_response,
};
use inferdiff_schemas::{Datatype, Exchange, Headers, Outcome, Tensor};
use proptest::prelude::*;
use ulid::Ulid;

fn raw(request: &[u8], response: &[u8], header: Option<String>) -> RawExchange {
    let headers = header.map(|h| ("Inference-Header-Content-Length".to_owned(), Bytes::from(h)));
    RawExchange {
        seq: 3,
        arrived_at_ns: 0,
        first_byte_ns: None,
        end_ns: 1,
        method: "POST".into(),
        path: "/v2/models/m/infer".into(),
        query: Some("key=secret&v=1".into()),
        request_headers: headers.into_iter().collect(),
        request_body: RawBody::whole(request.to_vec()),
        status: Some(200),
        response_headers: Headers::default(),
        response_body: RawBody::whole(response.to_vec()),
        request_trailers: Headers::default(),
        response_trailers: Headers::default(),
        outcome: Outcome::Complete,
        error: None,
        sample_rate: 1.0,
    }
}

fn row(request: &[u8], response: &[u8], header: Option<String>) -> Exchange {
    decode(
        raw(request, response, header),
        Ulid::nil(),
        &Keep::default(),
        &Models::default(),
    )
}

const GOOD: &str = r#"{"id":"a","parameters":{"sequence_id":7},"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1,2.5],[NaN,-Infinity]]},{"name":"s","shape":[1],"datatype":"BYTES","data":["NaN \" Infinity"]}],"outputs":[{"name":"y"}]}"#;
const ANSWER: &str =
    r#"{"model_version":"2","outputs":[{"name":"y","shape":[1],"datatype":"INT64","data":[-3]}]}"#;

#[test]
fn a_request_and_its_answer_become_tensors() {
    let e = row(GOOD.as_bytes(), ANSWER.as_bytes(), None);
    assert_eq!(e.decode_error, None);
    assert_eq!(e.client_request_id.as_deref(), Some("a"));
    assert_eq!(
        (e.sequence_id.as_deref(), e.model_version.as_deref()),
        (Some("7"), Some("2"))
    );
    assert_eq!(e.requested_outputs, Some(vec!["y".to_owned()]));
    assert_eq!(
        (e.query, e.request_body, e.response_body),
        (None, None, None)
    );
    let inputs = e.inputs.unwrap();
    let floats: Vec<f32> = inputs[0]
        .data
        .as_ref()
        .unwrap()
        .chunks(4)
        .map(|c| f32::from_le_bytes(c.try_into().unwrap()))
        .collect();
    assert_eq!(
        (floats[0], floats[1], floats[3]),
        (1.0, 2.5, f32::NEG_INFINITY)
    );
    assert!(floats[2].is_nan());
    assert_eq!(&inputs[1].data.as_ref().unwrap()[4..], b"NaN \" Infinity");
    assert_eq!(
        e.outputs.unwrap()[0].data.as_deref(),
        Some(&(-3i64).to_le_bytes()[..])
    );
}

#[test]
fn one_side_that_cannot_be_decoded_leaves_the_other_alone() {
    let e = row(GOOD.as_bytes(), b"oops", None);
    assert!(e.inputs.is_some() && e.request_body.is_none());
    assert_eq!(
        (e.outputs, e.response_body.as_deref()),
        (None, Some(&b"oops"[..]))
    );
    assert!(e.decode_error.unwrap().starts_with("response: "));
    let mut failed = raw(GOOD.as_bytes(), b"{\"error\":\"busy\"}", None);
    failed.status = Some(503);
    let e = decode(failed, Ulid::nil(), &Keep::default(), &Models::default());
    assert_eq!((e.decode_error, e.outputs), (None, None));
    assert_eq!(
        e.response_body.as_deref(),
        Some(&b"{\"error\":\"busy\"}"[..])
    );
}

#[test]
fn a_copy_that_was_given_up_is_said_and_nothing_is_invented() {
    let mut given_up = raw(b"", ANSWER.as_bytes(), None);
    given_up.request_body = RawBody {
        seen: 900,
        complete: true,
        gave_up: Some("memory_budget"),
        ..RawBody::default()
    };
    let e = decode(given_up, Ulid::nil(), &Keep::default(), &Models::default());
    assert_eq!(e.inputs, None);
    let why = e.decode_error.unwrap();
    assert!(
        why.contains("memory_budget") && why.contains("900"),
        "{why}"
    );
    assert!(e.outputs.is_some());
}

#[test]
fn everything_else_is_kept_raw() {
    let mut other = raw(b"abc", b"def", None);
    other.path = "/predictions/m".into();
    let e = decode(other, Ulid::nil(), &Keep::default(), &Models::default());
    assert_eq!((e.protocol.as_str(), e.decode_error), ("http", None));
    assert_eq!(
        (e.request_body.as_deref(), e.response_body.as_deref()),
        (Some(&b"abc"[..]), Some(&b"def"[..]))
    );
}

fn numeric() -> impl Strategy<Value = Tensor> {
    let types: Vec<Datatype> = Datatype::ALL
        .into_iter()
        .filter(|d| d.size().is_some())
        .collect();
    (
        prop::sample::select(types),
        prop::collection::vec(any::<u8>(), 0..64),
    )
        .prop_map(|(d, mut b)| {
            let size = d.size().unwrap();
            b.truncate(b.len() / size * size);
            if d == Datatype::Bool {
                b.iter_mut().for_each(|v| *v %= 2);
            }
            let n = (b.len() / size) as i64;
            Tensor::inline("y", d, vec![n], b.into()).unwrap()
        })
}

proptest! {
    #[test]
    fn what_a_server_encodes_is_what_a_recorder_decodes(tensor in numeric(), binary in any::<bool>()) {
        // JSON has no NaN and no infinity: encoding refuses them.
        let Ok(encoded) = encode_response("m", "1", Some("i"), &[(tensor.clone(), binary)]) else {
            prop_assert!(!binary);
            return Ok(());
        };
        let header = encoded.header_length.map_or(BinaryHeader::AllJson, BinaryHeader::Json);
        let decoded = decode_response(&encoded.body, header).unwrap();
        prop_assert_eq!(&decoded.outputs[0].data, &tensor.data);
        prop_assert_eq!(&decoded.outputs[0].shape, &tensor.shape);
    }

    #[test]
    fn any_bytes_are_decoded_or_kept(
        body in prop::collection::vec(any::<u8>(), 0..300),
        header in prop::option::of("[0-9]{1,4}|-1|99999999999999999999|x"),
    ) {
        let e = row(&body, &body, header);
        prop_assert!(e.inputs.is_some() || e.decode_error.is_some());
        if e.inputs.is_none() && !body.is_empty() {
            prop_assert_eq!(e.request_body.as_deref(), Some(&body[..]));
        }
    }

    #[test]
    fn a_good_body_with_any_damage_is_decoded_or_kept(at in 0usize..300, with in any::<u8>(), cut in 0usize..300) {
        let mut body = GOOD.as_bytes().to_vec();
        if let Some(b) = body.get_mut(at) {
            *b = with;
        }
        body.truncate(cut.max(1));
        let e = row(&body, ANSWER.as_bytes(), None);
        prop_assert!(e.inputs.is_some() || e.request_body.as_deref() == Some(&body[..]));
        let _ = decode_request(&Bytes::from(body), BinaryHeader::Json(at));
    }
}
