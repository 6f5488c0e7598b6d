//! One HTTP/1.1 exchange: request up, answer down, both at once.

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use inferdiff_schemas::Outcome;
use tokio::io::AsyncWriteExt;

use super::body::Broken;
use super::context::{Arrival, Context, End, Heads, record};
use super::forward::{answer, forward_request};
use super::framing::of_request;
use super::head::{FirstLine, Head, HeadError};
use super::io::Stream;
use super::sides::{Answered, client_side, upstream_side};
use super::tap::Ticket;
use super::tee::Tee;

/// What becomes of the client's connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    Close,
}

/// A client whose request is read to its end only slowly after an early answer is waited for this
/// long.
const LINGER: Duration = Duration::from_secs(5);

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
    let (method, target) = match head.first {
        FirstLine::Request {
            ref method,
            ref target,
        } => (method.clone(), target.clone()),
        FirstLine::Response { .. } => Default::default(),
    };
    let heads = Heads {
        method,
        target,
        request: head.pairs(),
        response: answered.head.as_ref().map(Head::pairs).unwrap_or_default(),
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
        Err(HeadError(why)) => {
            let status = "400 Bad Request";
            let end = End::answered(status, Outcome::Refused, &why);
            answer(&mut client_wr, status, &why).await;
            return (end, After::Close);
        }
    };
    let kept = context.pool.take();
    let connected = match kept {
        Some(stream) => Ok(stream),
        None => context.pool.upstream().connect(false).await,
    };
    let mut upstream = match connected {
        Ok(stream) => stream,
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
    let mut pending = Vec::with_capacity(head.raw.len() + 64);
    forward_request(head, &mut pending);
    let (mut up_rd, mut up_wr) = upstream.split();
    let sent = Cell::new(false);
    let mut from_upstream = BytesMut::new();
    let half_close = context.options.half_close;
    let end = {
        let up = client_side(
            length,
            &mut client_rd,
            rest,
            &mut up_wr,
            &mut pending,
            request_tee,
            &sent,
            half_close,
        );
        let down = upstream_side(
            context,
            head,
            method,
            &mut up_rd,
            &mut from_upstream,
            &mut client_wr,
            response_tee,
            answered,
        );
        tokio::pin!(up);
        tokio::pin!(down);
        let mut uploading = true;
        loop {
            tokio::select! {
                // The answer first: where both ended, the exchange is complete.
                biased;
                ended = &mut down => {
                    if ended.is_ok() && uploading && !sent.get() {
                        // An early answer: the rest of the request is still taken off the client,
                        // or it would be reset before it has read the answer.
                        let _ = tokio::time::timeout(LINGER, async {
                            tokio::select! { _ = &mut up => {}, () = until(&sent) => {} }
                        }).await;
                    }
                    break ended;
                }
                stopped = &mut up, if uploading => match stopped {
                    // The upstream takes no more: its answer may still come.
                    Broken::Writing(_) => uploading = false,
                    Broken::Reading(e) => {
                        break Err((Outcome::ClientCancelled, format!("the client went away: {e}")));
                    }
                    Broken::Framing(e) => break Err((Outcome::Refused, e.0)),
                },
            }
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
        tunnel(client, rest, upstream, &mut from_upstream).await;
    } else if complete && sent.get() && answered.upstream_keeps && from_upstream.is_empty() {
        context.pool.put(upstream);
    }
    let keep = complete && sent.get() && answered.client_keeps && answered.status != Some(101);
    let end = End {
        outcome,
        error,
        status: answered.status,
        first_byte: answered.first_byte,
    };
    (end, if keep { After::Keep } else { After::Close })
}

async fn until(flag: &Cell<bool>) {
    while !flag.get() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
        client.write_all(&from_upstream.split()).await
    };
    if early.await.is_ok() {
        let _ = tokio::io::copy_bidirectional(client, &mut upstream).await;
    }
}
