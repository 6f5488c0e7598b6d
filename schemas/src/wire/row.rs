//! `RawExchange → Exchange`: the columns that every protocol shares.

use bytes::Bytes;
use ulid::Ulid;

use super::protocol::Protocol;
use super::redact::redact;
use super::{
    BodyPolicy, Keep, Models, WireError, coding, generate, grpc, oip_grpc, oip_rest, paddle,
    paddle_pipeline, sse, tfs,
};
use crate::digest::input_digest;
use crate::exchange::{Exchange, Outcome};
use crate::raw::{RawBody, RawExchange};
use crate::tensor::{MAX_PAYLOAD_BYTES, Tensor};

/// Decodes one exchange of `recorder`, by the protocol that its path, headers and body show.
/// `models` is what is known of the models behind it.
///
/// Never fails and never panics: what cannot be decoded keeps its raw body and the reason.
pub fn decode(mut raw: RawExchange, recorder: Ulid, keep: &Keep, models: &Models) -> Exchange {
    let mut row = common(&raw, recorder, keep);
    let protocol = Protocol::of(&raw);
    protocol.name().clone_into(&mut row.protocol);
    let mut problems = Vec::new();
    let sent = request(&protocol, Side::request(&raw), models, &mut row);
    let answered = response(&protocol, Side::response(&raw), models, &mut row);
    let mut decoded = |side: &str, result: Result<Decoded, WireError>| match result {
        Ok(decoded) => decoded == Decoded::Whole,
        Err(e) => {
            problems.push(format!("{side}: {e}"));
            false
        }
    };
    let (sent, answered) = (decoded("request", sent), decoded("response", answered));
    row.request_body = kept(keep, &raw.request_body, sent, "request", &mut problems);
    row.response_body = kept(
        keep,
        &raw.response_body,
        answered,
        "response",
        &mut problems,
    );
    // Nothing below asks the exchange for them.
    row.method = std::mem::take(&mut raw.method);
    row.path = std::mem::take(&mut raw.path);
    row.decode_error = (!problems.is_empty()).then(|| problems.join("; "));
    redact(keep, &mut row);
    row
}

/// What a decoder made of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoded {
    /// Everything in it is in the row: the raw body need not be kept.
    Whole,
    /// It holds more than the row does, by the protocol's rules and not by error.
    Raw,
}

/// One side of an exchange, as a decoder sees it.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub raw: &'a RawExchange,
    pub wire: &'a RawBody,
    answer: bool,
}

impl<'a> Side<'a> {
    /// The request's side.
    pub fn request(raw: &'a RawExchange) -> Self {
        Self {
            raw,
            wire: &raw.request_body,
            answer: false,
        }
    }

    fn response(raw: &'a RawExchange) -> Self {
        Self {
            raw,
            wire: &raw.response_body,
            answer: true,
        }
    }

    /// A header of this side.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        if self.answer {
            self.raw.response_header(name)
        } else {
            self.raw.request_header(name)
        }
    }

    /// The whole body without its content codings.
    ///
    /// # Errors
    /// A copy that is not whole, a coding that cannot be undone.
    pub fn body(&self) -> Result<Bytes, WireError> {
        if !self.wire.is_whole() {
            return Err(WireError(format!(
                "only {} of {} bytes were copied",
                self.wire.data.len(),
                self.wire.seen
            )));
        }
        coding::decoded(&self.wire.data, self.header("content-encoding"))
    }

    /// When the byte before offset `end` of the raw body crossed the proxy, ns since arrival.
    /// Without frames: 0 for a request, the end of the exchange for an answer.
    pub fn at(&self, end: u64) -> u64 {
        let frames = &self.wire.frames;
        let first = frames.partition_point(|f| f.offset.saturating_add(f.length) < end);
        let unknown = if self.answer { self.raw.end_ns } else { 0 };
        frames.get(first).map_or(unknown, |f| f.at_ns)
    }
}

fn request(
    protocol: &Protocol,
    side: Side<'_>,
    models: &Models,
    row: &mut Exchange,
) -> Result<Decoded, WireError> {
    match protocol {
        Protocol::OipRest { route, .. } => {
            row.model = Some(route.model.clone());
            row.model_version = route.version.clone();
            oip_rest::request(side, models, row)
        }
        Protocol::OipGrpc => oip_grpc::request(side, row),
        Protocol::OipGrpcStream => oip_grpc::stream_request(side, row),
        Protocol::TfsRest(route) => {
            row.model = Some(route.model.clone());
            row.model_version = route.version.clone();
            tfs::request(side, route, models, row)
        }
        Protocol::PaddleServing => paddle::request(side, row),
        Protocol::PaddlePipeline { name } => {
            row.model = Some(name.clone());
            paddle_pipeline::request(side, row)
        }
        Protocol::Generate(route) | Protocol::GenerateStream(route) => {
            row.model = Some(route.model.clone());
            row.model_version = route.version.clone();
            generate::request(side, models, row)
        }
        Protocol::Sse | Protocol::Grpc | Protocol::Http => Ok(Decoded::Raw),
    }
}

fn response(
    protocol: &Protocol,
    side: Side<'_>,
    models: &Models,
    row: &mut Exchange,
) -> Result<Decoded, WireError> {
    // A stream's whole messages are an answer wherever it ended.
    let any = side.raw.status == Some(200);
    // An error answer is no tensor answer; a body that ended short is not decoded by halves.
    let whole = any && side.raw.outcome == Outcome::Complete;
    match protocol {
        Protocol::OipGrpc => {
            let ok = grpc::status(side.raw, row);
            answer(whole && ok, || oip_grpc::response(side, row))
        }
        Protocol::OipGrpcStream => {
            grpc::status(side.raw, row);
            answer(any, || oip_grpc::stream_response(side, row))
        }
        Protocol::Grpc => {
            grpc::status(side.raw, row);
            Ok(Decoded::Raw)
        }
        Protocol::OipRest { .. } => answer(whole, || oip_rest::response(side, row)),
        Protocol::TfsRest(route) => answer(whole, || tfs::response(side, route, models, row)),
        Protocol::PaddleServing => answer(whole, || paddle::response(side, row)),
        Protocol::PaddlePipeline { .. } => answer(whole, || paddle_pipeline::response(side, row)),
        Protocol::Generate(_) => answer(whole, || generate::response(side, models, row)),
        Protocol::GenerateStream(_) => answer(any, || generate::stream_response(side, models, row)),
        Protocol::Sse => answer(any, || sse::response(side, row)),
        Protocol::Http => Ok(Decoded::Raw),
    }
}

fn answer(
    expected: bool,
    decode: impl FnOnce() -> Result<Decoded, WireError>,
) -> Result<Decoded, WireError> {
    if expected { decode() } else { Ok(Decoded::Raw) }
}

/// From this many bytes on, inputs get their digest when they are written: a writer makes one of all
/// bytes anyway, and what it just read is in the caches.
const DIGEST_LATER: usize = 64 * 1024;

/// Puts a request's tensors into the row.
pub(super) fn put_inputs(row: &mut Exchange, inputs: Vec<Tensor>) {
    let lengths = inputs
        .iter()
        .filter_map(|t| t.data.as_ref())
        .map(Bytes::len);
    if lengths.sum::<usize>() < DIGEST_LATER {
        row.input_digest = Some(input_digest(&inputs));
    }
    row.inputs = Some(inputs);
}

/// The copy of a body that the policy keeps.
fn kept(
    keep: &Keep,
    body: &RawBody,
    decoded: bool,
    side: &str,
    problems: &mut Vec<String>,
) -> Option<Bytes> {
    if let Some(why) = body.gave_up {
        problems.push(format!(
            "{side} body: the copy was given up ({why}) after {} of {} bytes",
            body.data.len(),
            body.seen
        ));
    }
    if body.data.len() as u64 > MAX_PAYLOAD_BYTES {
        problems.push(format!(
            "{side} body: {} bytes are over the 1 GiB limit",
            body.data.len()
        ));
        return None;
    }
    let wanted = match keep.bodies {
        BodyPolicy::All => true,
        BodyPolicy::Undecoded => !decoded,
        BodyPolicy::None => false,
    };
    (wanted && !body.data.is_empty()).then(|| body.data.clone())
}

fn common(raw: &RawExchange, recorder: Ulid, keep: &Keep) -> Exchange {
    Exchange {
        arrived_at_ns: raw.arrived_at_ns,
        first_byte_ns: raw.first_byte_ns,
        end_ns: raw.end_ns,
        client_request_id: raw.request_header("x-request-id").map(str::to_owned),
        traceparent: raw.request_header("traceparent").map(str::to_owned),
        query: raw.query.as_deref().and_then(|q| keep.query(q)),
        status: raw.status,
        outcome: raw.outcome,
        error: raw.error.clone(),
        request_headers: Keep::headers(&keep.request_headers, &raw.request_headers),
        response_headers: Keep::headers(&keep.response_headers, &raw.response_headers),
        sample_rate: raw.sample_rate,
        ..Exchange::new(recorder, raw.seq)
    }
}
