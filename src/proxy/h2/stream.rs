//! One HTTP/2 exchange.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response};
use inferdiff_schemas::{Headers, Outcome};

use super::super::context::{Arrival, Context, End, Heads, record};
use super::super::tap::Ticket;
use super::super::tee::Tee;
use super::fields;
use super::upstream::Connections;

/// Why an exchange ended before its end, and the reset code that says so to the client.
struct Broken {
    outcome: Outcome,
    why: String,
    reason: Reason,
}

impl Broken {
    fn client(e: &h2::Error) -> Self {
        let reason = e.reason().unwrap_or(Reason::CANCEL);
        let why = format!("the client went away: {e}");
        Self {
            outcome: Outcome::ClientCancelled,
            why,
            reason,
        }
    }

    fn upstream(connections: &Connections, e: &h2::Error) -> Self {
        // A reset code is passed on as it came; where the connection broke there is none.
        let reason = e
            .reason()
            .filter(|_| e.is_reset())
            .unwrap_or(Reason::INTERNAL_ERROR);
        let why = format!(
            "the upstream {} reset the stream: {e}",
            connections.upstream()
        );
        Self {
            outcome: Outcome::UpstreamReset,
            why,
            reason,
        }
    }
}

/// Which side of a pump broke.
enum Side {
    From(h2::Error),
    To(h2::Error),
}

/// What is known of the answer.
#[derive(Default)]
struct Answered {
    status: Option<u16>,
    head: Headers,
    head_at: Option<Instant>,
    started: bool,
}

/// Carries one request and its answer.
pub(super) async fn run(
    context: &Context,
    connections: &Connections,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    arrival: Arrival,
) {
    let ticket = Ticket::new(&context.tap);
    let budget = context.tap.budget();
    let (mut up, mut down) = (Tee::new(budget, arrival.at), Tee::new(budget, arrival.at));
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |p| p.as_str())
        .to_owned();
    let mut heads = Heads {
        method: request.method().as_str().to_owned(),
        target,
        request: if up.is_wanted() {
            fields(request.headers())
        } else {
            Headers::default()
        },
        response: Headers::default(),
    };
    let mut answered = Answered::default();
    let carried = carry(
        context,
        connections,
        request,
        &mut respond,
        &mut up,
        &mut down,
        &mut answered,
    )
    .await;
    heads.response = answered.head;
    let mut end = End {
        outcome: Outcome::Complete,
        error: None,
        status: answered.status,
        first_byte: answered.head_at,
    };
    if let Err(broken) = carried {
        if !answered.started && broken.outcome != Outcome::ClientCancelled {
            let status = refuse(&mut respond, &broken);
            end.first_byte = Some(Instant::now());
            end.status = Some(status);
        } else {
            respond.send_reset(broken.reason);
        }
        end.outcome = broken.outcome;
        end.error = Some(broken.why);
    }
    let meter = &context.options.meter;
    meter.bytes_up.fetch_add(up.seen(), Relaxed);
    meter.bytes_down.fetch_add(down.seen(), Relaxed);
    if let (Some(sent), Some(head), Some(told)) = (
        up.first_forwarded(),
        answered.head_at,
        down.first_forwarded(),
    ) {
        let added =
            sent.saturating_duration_since(arrival.at) + told.saturating_duration_since(head);
        meter.latency(added);
    }
    record(context, ticket, arrival, heads, end, up, down);
}

/// Answers what never got an answer: 400 where we refuse it, else 502.
fn refuse(respond: &mut SendResponse<Bytes>, broken: &Broken) -> u16 {
    let status = if broken.outcome == Outcome::Refused {
        400
    } else {
        502
    };
    let body = format!("inferdiff: {}\n", broken.why);
    let response = Response::builder()
        .status(status)
        .header("content-type", "text/plain; charset=utf-8")
        .header("content-length", body.len())
        .body(())
        .expect("a fixed head is valid");
    // A client that is gone needs no answer.
    if let Ok(mut stream) = respond.send_response(response, false) {
        let _ = stream.send_data(body.into(), true);
    }
    status
}

async fn carry(
    context: &Context,
    connections: &Connections,
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
    up: &mut Tee,
    down: &mut Tee,
    answered: &mut Answered,
) -> Result<(), Broken> {
    let (mut parts, mut body) = request.into_parts();
    if parts.method == http::Method::CONNECT {
        let why = "CONNECT is not proxied".to_owned();
        return Err(Broken {
            outcome: Outcome::Refused,
            why,
            reason: Reason::REFUSED_STREAM,
        });
    }
    if context.pool.upstream().tls.is_some() {
        scheme(&mut parts.uri, http::uri::Scheme::HTTPS);
    } else {
        scheme(&mut parts.uri, http::uri::Scheme::HTTP);
    }
    let mut connection = tokio::select! {
        ready = connections.ready() => ready.map_err(|e| Broken {
            outcome: Outcome::UpstreamUnreachable,
            why: format!("the upstream {} cannot be reached: {e}", connections.upstream()),
            reason: Reason::INTERNAL_ERROR,
        })?,
        gone = reset(respond) => return Err(gone),
    };
    let ended = body.is_end_stream();
    let framed = is_grpc(&parts.headers);
    let head = Request::from_parts(parts, ());
    let (response, mut to) = connection
        .send
        .send_request(head, ended)
        .map_err(|e| Broken::upstream(connections, &e))?;
    up.forwarded();
    let result = {
        let sending = async {
            if ended {
                up.complete();
                return Ok(());
            }
            pump(&mut body, &mut to, up, framed).await
        };
        let receiving = answer(connections, response, respond, down, answered);
        tokio::pin!(sending);
        tokio::pin!(receiving);
        let mut uploading = true;
        loop {
            tokio::select! {
                biased;
                done = &mut receiving => break done,
                sent = &mut sending, if uploading => match sent {
                    Ok(()) => uploading = false,
                    // The upstream takes no more: its answer may still come.
                    Err(Side::To(_)) => uploading = false,
                    Err(Side::From(e)) => break Err(Broken::client(&e)),
                },
            }
        }
    };
    if let Err(broken) = &result
        && broken.outcome == Outcome::ClientCancelled
    {
        to.send_reset(broken.reason);
    }
    result
}

fn scheme(uri: &mut http::Uri, scheme: http::uri::Scheme) {
    if uri.scheme().is_none_or(|s| *s == scheme) {
        return;
    }
    let mut parts = std::mem::take(uri).into_parts();
    parts.scheme = Some(scheme);
    *uri = http::Uri::from_parts(parts).unwrap_or_default();
}

/// Resolves when the client resets the stream, or its connection ends.
async fn reset(respond: &mut SendResponse<Bytes>) -> Broken {
    match poll_fn(|cx| respond.poll_reset(cx)).await {
        Ok(reason) => Broken::client(&reason.into()),
        Err(e) => Broken::client(&e),
    }
}

async fn answer(
    connections: &Connections,
    mut response: ResponseFuture,
    respond: &mut SendResponse<Bytes>,
    down: &mut Tee,
    answered: &mut Answered,
) -> Result<(), Broken> {
    let upstream = |e: &h2::Error| Broken::upstream(connections, e);
    let response = loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(done) = Pin::new(&mut response).poll(cx) {
                return Poll::Ready(Next::Final(done));
            }
            match response.poll_informational(cx) {
                Poll::Ready(Some(Ok(interim))) => Poll::Ready(Next::Interim(interim)),
                _ => Poll::Pending,
            }
        });
        let next = tokio::select! {
            biased;
            gone = reset(respond) => return Err(gone),
            next = next => next,
        };
        match next {
            Next::Final(done) => break done.map_err(|e| upstream(&e))?,
            Next::Interim(head) => {
                respond
                    .send_informational(head)
                    .map_err(|e| Broken::client(&e))?;
            }
        }
    };
    answered.head_at = Some(Instant::now());
    answered.status = Some(response.status().as_u16());
    let (parts, mut body) = response.into_parts();
    if down.is_wanted() {
        answered.head = fields(&parts.headers);
    }
    let framed = is_grpc(&parts.headers);
    let ended = body.is_end_stream();
    let mut to = respond
        .send_response(Response::from_parts(parts, ()), ended)
        .map_err(|e| Broken::client(&e))?;
    answered.started = true;
    down.forwarded();
    if ended {
        down.complete();
        return Ok(());
    }
    match pump(&mut body, &mut to, down, framed).await {
        Ok(()) => Ok(()),
        Err(Side::From(e)) => Err(upstream(&e)),
        Err(Side::To(e)) => Err(Broken::client(&e)),
    }
}

enum Next {
    Interim(Response<()>),
    Final(Result<Response<RecvStream>, h2::Error>),
}

/// The first piece of a body is handed over without asking for window first, up to this size.
const UNASKED: usize = 64 * 1024;

/// gRPC by its content type.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    content_type.is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

/// Bytes of a gRPC body's first message with its prefix (a flag and the length, big-endian); 0 where
/// the piece is too short to tell.
fn first_message(piece: &[u8]) -> u64 {
    match piece {
        [_, a, b, c, d, ..] => 5 + u64::from(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => 0,
    }
}

/// Moves a body and its trailers, as fast as `to` takes them. Ends as soon as `to` is reset.
async fn pump(
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    tee: &mut Tee,
    framed: bool,
) -> Result<(), Side> {
    let mut first = true;
    loop {
        let piece = tokio::select! {
            biased;
            piece = from.data() => piece,
            reset = poll_fn(|cx| to.poll_reset(cx)) => return Err(Side::To(gone(reset))),
        };
        let Some(piece) = piece else { break };
        let mut piece = piece.map_err(Side::From)?;
        let length = piece.len();
        let message = if first && framed {
            first_message(&piece)
        } else {
            0
        };
        // For all of it: who may wait must not give up a copy for want of room.
        tee.wait_for_room(message.max(length as u64)).await;
        tee.expect(message);
        tee.copy(&piece);
        let last = from.is_end_stream();
        if std::mem::take(&mut first) && (1..=UNASKED).contains(&length) {
            // A stream that was only just opened gets its window later, in the connection's task.
            // Not waiting for it puts head and data into one write.
            to.send_data(piece.split_to(length), last)
                .map_err(Side::To)?;
        }
        while !piece.is_empty() {
            to.reserve_capacity(piece.len());
            let granted = match poll_fn(|cx| to.poll_capacity(cx)).await {
                Some(granted) => granted.map_err(Side::To)?,
                None => return Err(Side::To(Reason::CANCEL.into())),
            };
            let now = piece.split_to(granted.min(piece.len()));
            to.send_data(now, last && piece.is_empty())
                .map_err(Side::To)?;
        }
        // Only what was taken on the other side makes room on this one.
        from.flow_control()
            .release_capacity(length)
            .map_err(Side::From)?;
        if last {
            if length == 0 {
                to.send_data(Bytes::new(), true).map_err(Side::To)?;
            }
            tee.complete();
            return Ok(());
        }
    }
    match from.trailers().await.map_err(Side::From)? {
        Some(trailers) => {
            tee.trailers(fields(&trailers));
            to.send_trailers(trailers).map_err(Side::To)?;
        }
        None => to.send_data(Bytes::new(), true).map_err(Side::To)?,
    }
    tee.complete();
    Ok(())
}

fn gone(reset: Result<Reason, h2::Error>) -> h2::Error {
    reset.map_or_else(|e| e, Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_its_length_and_a_piece_of_its_prefix_does_not() {
        assert_eq!(first_message(&[0, 0, 0, 1, 2]), 5 + 258);
        assert_eq!(
            first_message(&[1, 0xff, 0xff, 0xff, 0xff, 7]),
            5 + 0xffff_ffff
        );
        assert_eq!(first_message(&[0, 0, 0, 1]), 0);
    }
}
