//! One HTTP/1.1 exchange: request up, answer down, both at once.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use inferdiff_schemas::Outcome;
use tokio::io::AsyncWriteExt;

use super::body::{Broken, Pump};
use super::context::{Arrival, Context, End, Heads, record};
use super::forward::{answer, forward_request};
use super::framing::of_request;
use super::head::{FirstLine, Head, HeadError};
use super::io::{Stream, WriteHalf};
use super::sides::{Answered, Sent, Upload, client_side, hold, upstream_side};
use super::tap::Ticket;
use super::tee::Tee;
use super::upstream::{Connection, Pool};

/// What becomes of the client's connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    Close,
    /// By a reset: the end of the connection would be taken for the end of the answer.
    Abort,
}

/// After an early answer the rest of a request is waited for this long.
const LINGER: Duration = Duration::from_secs(30);

/// Refuses what could not even be read as a head.
pub(super) async fn refuse(
    context: &Context,
    client: &mut Stream,
    arrival: Arrival,
    status: &str,
    why: &str,
) {
    let ticket = Ticket::new(&context.tap);
    let (_, mut client_wr) = client.split();
    let end = End::answered(status, Outcome::Refused, why);
    answer(&mut client_wr, status, why).await;
    let tee = || Tee::new(context.tap.budget(), arrival.at);
    record(
        context,
        ticket,
        arrival,
        Heads::default(),
        end,
        tee(),
        tee(),
    );
}

/// Carries one request and its answer.
pub(super) async fn run(
    context: &Context,
    client: &mut Stream,
    rest: &mut BytesMut,
    head: Head,
    arrival: Arrival,
) -> After {
    let ticket = Ticket::new(&context.tap);
    let budget = context.tap.budget();
    let began = Instant::now();
    let mut request = Tee::new(budget, arrival.at);
    let mut response = Tee::new(budget, arrival.at);
    let mut answered = Answered::default();
    let (end, after) = carry(
        context,
        client,
        rest,
        &head,
        &mut request,
        &mut response,
        &mut answered,
    )
    .await;
    let meter = &context.options.meter;
    meter.bytes_up.fetch_add(request.seen(), Relaxed);
    meter.bytes_down.fetch_add(response.seen(), Relaxed);
    let sides = [(Some(began), &request), (answered.head_at, &response)];
    let added =
        sides.map(|(from, tee)| Some(tee.first_forwarded()?.saturating_duration_since(from?)));
    if let [Some(up), Some(down)] = added {
        meter.latency(up + down);
    }
    if context.tap.budget().is_none() {
        ticket.end_uncopied();
        return after;
    }
    let request_headers = head.headers();
    let (method, target) = match head.first {
        FirstLine::Request { method, target } => (method, target),
        FirstLine::Response { .. } => Default::default(),
    };
    let response_headers = answered.head.as_ref().map(Head::headers);
    let heads = Heads {
        method,
        target,
        request: request_headers,
        response: response_headers.unwrap_or_default(),
    };
    record(context, ticket, arrival, heads, end, request, response);
    after
}

async fn carry(
    context: &Context,
    client: &mut Stream,
    rest: &mut BytesMut,
    head: &Head,
    request_tee: &mut Tee,
    response_tee: &mut Tee,
    answered: &mut Answered,
) -> (End, After) {
    let (mut client_rd, mut client_wr) = client.split();
    let FirstLine::Request { method, .. } = &head.first else {
        return (
            End::failed(Outcome::Refused, "it is no request"),
            After::Close,
        );
    };
    let length = match of_request(head) {
        Ok(_) if method == "CONNECT" => Err(HeadError("CONNECT is not proxied".to_owned())),
        other => other,
    };
    let length = match length {
        Ok(length) => length,
        Err(e) => return bad(&mut client_wr, &e.0).await,
    };
    let mut pending = Vec::with_capacity(head.raw.len() + rest.len() + 64);
    forward_request(head, &mut pending);
    let body = match Pump::begin(length, rest, &mut pending, request_tee).await {
        Ok(body) => body,
        Err(e) => return bad(&mut client_wr, &e.0).await,
    };
    let half_close = context.options.half_close;
    let opened = tokio::select! {
        biased;
        opened = open(&context.pool, &mut pending) => opened,
        gone = hold(&mut client_rd, rest, half_close) => {
            return (End::failed(Outcome::ClientCancelled, gone), After::Close);
        }
    };
    let mut upstream = match opened {
        Ok(upstream) => upstream,
        Err(e) => {
            let why = format!(
                "the upstream {} cannot be reached: {e}",
                context.pool.upstream()
            );
            let status = "502 Bad Gateway";
            let end = End::answered(status, Outcome::UpstreamUnreachable, &why);
            answer(&mut client_wr, status, &why).await;
            return (end, After::Close);
        }
    };
    let (mut up_rd, mut up_wr) = upstream.stream.split();
    let sent = Cell::new(Sent::Partly);
    let mut from_upstream = BytesMut::new();
    let end = {
        let upload = Upload {
            body,
            pending: &mut pending,
            sent: &sent,
            half_close,
        };
        let up = client_side(upload, &mut client_rd, rest, &mut up_wr, request_tee);
        let down = upstream_side(
            context,
            head,
            method,
            &mut up_rd,
            &mut from_upstream,
            &mut client_wr,
            response_tee,
            answered,
            &sent,
        );
        tokio::pin!(up);
        tokio::pin!(down);
        tokio::select! {
            // The answer first: where both ended, the exchange is complete.
            biased;
            ended = &mut down => {
                if matches!(ended, Ok(true)) {
                    // After an early answer the upstream still gets the rest of the request.
                    let rest_of_it = poll_fn(|cx| {
                        let ended = up.as_mut().poll(cx).is_ready();
                        match ended || sent.get() != Sent::Partly {
                            true => Poll::Ready(()),
                            false => Poll::Pending,
                        }
                    });
                    if sent.get() == Sent::Partly {
                        let _ = tokio::time::timeout(LINGER, rest_of_it).await;
                    }
                }
                ended.map(|_| ())
            }
            stopped = &mut up => Err(match stopped {
                Broken::Framing(e) => (Outcome::Refused, e.0),
                gone => (Outcome::ClientCancelled, gone.to_string()),
            }),
        }
    };
    let (outcome, error) = match end {
        Ok(()) => (Outcome::Complete, None),
        Err((outcome, why)) => (outcome, Some(why)),
    };
    if answered.head.is_none() && outcome != Outcome::ClientCancelled {
        let (status, why) = match outcome {
            Outcome::Refused => ("400 Bad Request", error.clone()),
            _ => ("502 Bad Gateway", error.clone()),
        };
        answered.first_byte = Some(Instant::now());
        answered.status = status.split(' ').next().and_then(|s| s.parse().ok());
        answer(&mut client_wr, status, &why.unwrap_or_default()).await;
    }
    let complete = outcome == Outcome::Complete;
    if complete && answered.status == Some(101) {
        tunnel(client, rest, upstream.stream, &mut from_upstream).await;
    } else if complete
        && sent.get() == Sent::Whole
        && answered.upstream_keeps
        && from_upstream.is_empty()
    {
        context.pool.put(upstream);
    }
    let keep = complete
        && sent.get() == Sent::Whole
        && answered.client_keeps
        && answered.status != Some(101);
    let after = match keep {
        true => After::Keep,
        false if answered.broken_off => After::Abort,
        false => After::Close,
    };
    let end = End {
        outcome,
        error,
        status: answered.status,
        first_byte: answered.first_byte,
    };
    (end, after)
}

/// Answers 400: nothing of the request has left.
async fn bad(client: &mut WriteHalf<'_>, why: &str) -> (End, After) {
    let status = "400 Bad Request";
    let end = End::answered(status, Outcome::Refused, why);
    answer(client, status, why).await;
    (end, After::Close)
}

/// A connection on which the request has begun, as far as it was taken at once. One that was kept
/// and is dead is replaced, but only where nothing was sent on it.
async fn open(pool: &Pool, pending: &mut Vec<u8>) -> io::Result<Connection> {
    while let Some(mut kept) = pool.take() {
        match kept.stream.begin(pending).await {
            Ok(()) => return Ok(kept),
            Err(_) if kept.stream.sent_nothing() => {}
            // The same error comes again, and an answer may already be there.
            Err(_) => return Ok(kept),
        }
    }
    let mut fresh = pool.connect().await?;
    let _ = fresh.stream.begin(pending).await;
    Ok(fresh)
}

/// After 101: bytes both ways until either side closes.
async fn tunnel(
    client: &mut Stream,
    from_client: &mut BytesMut,
    mut upstream: Stream,
    from_upstream: &mut BytesMut,
) {
    let early = async {
        upstream.write_all(&from_client.split()).await?;
        upstream.flush().await?;
        client.write_all(&from_upstream.split()).await?;
        client.flush().await
    };
    if early.await.is_ok() {
        let _ = tokio::io::copy_bidirectional(client, &mut upstream).await;
    }
}
