//! `RawExchange → Exchange`: the columns that every protocol shares.

use ulid::Ulid;

use super::{
    BodyPolicy, Keep, WireError, binary_header, decode_request, decode_response, infer_route,
};
use crate::digest::input_digest;
use crate::exchange::{Exchange, Outcome};
use crate::raw::{RawBody, RawExchange};
use crate::tensor::MAX_PAYLOAD_BYTES;

/// Decodes one exchange of `recorder`, by the protocol that its path and headers show.
///
/// Never fails and never panics: what cannot be decoded keeps its raw body and the reason.
pub fn decode(raw: RawExchange, recorder: Ulid, keep: &Keep) -> Exchange {
    let mut row = common(&raw, recorder, keep);
    let route = (raw.method == "POST")
        .then(|| infer_route(&raw.path))
        .flatten();
    let mut problems = Vec::new();
    if let Some(route) = route {
        let binary = raw
            .request_header("inference-header-content-length")
            .is_some()
            || raw
                .response_header("inference-header-content-length")
                .is_some();
        row.protocol = if binary {
            "oip-rest-binary"
        } else {
            "oip-rest"
        }
        .to_owned();
        row.model = Some(route.model);
        row.model_version = route.version;
        if let Err(e) = request(&raw, &mut row) {
            problems.push(format!("request: {e}"));
        }
        // An error answer is no tensor answer; a body that ended short is not decoded by halves.
        if raw.status == Some(200)
            && raw.outcome == Outcome::Complete
            && let Err(e) = response(&raw, &mut row)
        {
            problems.push(format!("response: {e}"));
        }
    }
    let copy = |body: &RawBody, decoded: bool, side: &str, problems: &mut Vec<String>| {
        let wanted = match keep.bodies {
            BodyPolicy::All => true,
            BodyPolicy::Undecoded => !decoded,
            BodyPolicy::None => false,
        };
        if body.data.len() as u64 > MAX_PAYLOAD_BYTES {
            problems.push(format!(
                "{side}: {} bytes are over the 1 GiB limit",
                body.data.len()
            ));
            return None;
        }
        (wanted && !body.data.is_empty()).then(|| body.data.clone())
    };
    row.request_body = copy(
        &raw.request_body,
        row.inputs.is_some(),
        "request body",
        &mut problems,
    );
    row.response_body = copy(
        &raw.response_body,
        row.outputs.is_some(),
        "response body",
        &mut problems,
    );
    for (side, body) in [
        ("request", &raw.request_body),
        ("response", &raw.response_body),
    ] {
        if let Some(why) = body.gave_up {
            problems.push(format!(
                "{side} body: the copy was given up ({why}) after {} of {} bytes",
                body.data.len(),
                body.seen
            ));
        }
    }
    row.decode_error = (!problems.is_empty()).then(|| problems.join("; "));
    row
}

fn request(raw: &RawExchange, row: &mut Exchange) -> Result<(), WireError> {
    whole(&raw.request_body)?;
    plain(raw.request_header("content-encoding"))?;
    let header = binary_header(
        raw.request_header("inference-header-content-length"),
        raw.request_header("content-type"),
    )?;
    let request = decode_request(&raw.request_body.data, header)?;
    row.client_request_id = request
        .id
        .filter(|id| !id.is_empty())
        .or(row.client_request_id.take());
    row.sequence_id = request.sequence_id;
    row.parameters = request.parameters;
    row.requested_outputs = request
        .outputs
        .map(|outputs| outputs.into_iter().map(|o| o.name).collect());
    row.input_digest = Some(input_digest(&request.inputs));
    row.inputs = Some(request.inputs);
    Ok(())
}

fn response(raw: &RawExchange, row: &mut Exchange) -> Result<(), WireError> {
    whole(&raw.response_body)?;
    plain(raw.response_header("content-encoding"))?;
    let header = binary_header(
        raw.response_header("inference-header-content-length"),
        raw.response_header("content-type"),
    )?;
    let response = decode_response(&raw.response_body.data, header)?;
    row.model_version = response.model_version.or(row.model_version.take());
    row.outputs = Some(response.outputs);
    Ok(())
}

fn whole(body: &RawBody) -> Result<(), WireError> {
    if body.is_whole() {
        return Ok(());
    }
    Err(WireError(format!(
        "only {} of {} bytes were copied",
        body.data.len(),
        body.seen
    )))
}

fn plain(content_encoding: Option<&str>) -> Result<(), WireError> {
    match content_encoding {
        None | Some("identity" | "") => Ok(()),
        Some(other) => Err(WireError(format!(
            "content encoding `{other}` is not decoded"
        ))),
    }
}

fn common(raw: &RawExchange, recorder: Ulid, keep: &Keep) -> Exchange {
    Exchange {
        arrived_at_ns: raw.arrived_at_ns,
        first_byte_ns: raw.first_byte_ns,
        end_ns: raw.end_ns,
        client_request_id: raw.request_header("x-request-id").map(str::to_owned),
        traceparent: raw.request_header("traceparent").map(str::to_owned),
        method: raw.method.clone(),
        path: raw.path.clone(),
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
