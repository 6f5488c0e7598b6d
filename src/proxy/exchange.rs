//! One exchange: request up, answer down, both at once.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use inferdiff_schemas::{Outcome, RawBody, RawExchange};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::ProxyOptions;
use super::body::{Broken, pump};
use super::framing::{Length, of_request, of_response};
use super::head::{FirstLine, Head, HeadError, take};
use super::tap::{Tap, Ticket};
use super::tee::Tee;
use super::upstream::Pool;

/// What connections share.
pub(super) struct Context {
    pub options: ProxyOptions,
    pub pool: Pool,
    pub tap: Arc<dyn Tap>,
    pub stopping: tokio::sync::watch::Receiver<bool>,
}

/// When the request's first byte came, by both clocks.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub at: Instant,
    pub wall: SystemTime,
}

/// What becomes of the client's connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    Close,
}

/// How the exchange ended, for the record.
struct End {
    outcome: Outcome,
    error: Option<String>,
    status: Option<u16>,
    response: Option<Head>,
    first_byte: Option<Instant>,
    after: After,
}

impl End {
    fn failed(outcome: Outcome, error: impl ToString) -> Self {
        let error = Some(error.to_string());
        Self {
            outcome,
            error,
            status: None,
            response: None,
            first_byte: None,
            after: After::Close,
        }
    }
}

/// A client whose request is read to its end only slowly after an early answer is waited for this
/// long.
const LINGER: Duration = Duration::from_secs(5);

/// Refuses what could not even be read as a head.
pub(super) async fn refuse(
    context: &Context,
    client: &mut TcpStream,
    arrival: Arrival,
    status: &str,
    why: &str,
) {
    let ticket = Ticket::new(&context.tap);
    let (_, mut client_wr) = client.split();
    let first_byte = Some(Instant::now());
    answer(&mut client_wr, status, why).await;
    let end = End {
        status: status.split(' ').next().and_then(|s| s.parse().ok()),
        first_byte,
        ..End::failed(Outcome::Refused, why)
    };
    let tee = || Tee::new(context.tap.budget(), arrival.at);
    record(context, ticket, arrival, None, end, tee(), tee());
}

/// Carries one request and its answer.
pub(super) async fn run(
    context: &Context,
    client: &mut TcpStream,
    rest: &mut BytesMut,
    head: Head,
    arrival: Arrival,
) -> After {
    let ticket = Ticket::new(&context.tap);
    let budget = context.tap.budget();
    let mut request = Tee::new(budget, arrival.at);
    let mut response = Tee::new(budget, arrival.at);
    let end = carry(context, client, rest, &head, &mut request, &mut response).await;
    let after = if end.after == After::Keep {
        After::Keep
    } else {
        After::Close
    };
    record(context, ticket, arrival, Some(head), end, request, response);
    after
}

async fn carry(
    context: &Context,
    client: &mut TcpStream,
    rest: &mut BytesMut,
    head: &Head,
    request_tee: &mut Tee,
    response_tee: &mut Tee,
) -> End {
    let (mut client_rd, mut client_wr) = client.split();
    let FirstLine::Request { method, .. } = &head.first else {
        return End::failed(Outcome::Refused, "it is no request");
    };
    let length = match of_request(head) {
        Ok(_) if method == "CONNECT" => Err(HeadError("CONNECT is not proxied".to_owned())),
        other => other,
    };
    let length = match length {
        Ok(length) => length,
        Err(HeadError(why)) => {
            let first_byte = Some(Instant::now());
            answer(&mut client_wr, "400 Bad Request", &why).await;
            return End {
                status: Some(400),
                first_byte,
                ..End::failed(Outcome::Refused, why)
            };
        }
    };
    let kept = context.pool.take();
    let connected = match kept {
        Some(stream) => Ok(stream),
        None => context.pool.connect().await,
    };
    let mut upstream = match connected {
        Ok(stream) => stream,
        Err(e) => {
            let why = format!(
                "the upstream {} cannot be reached: {e}",
                context.pool.upstream()
            );
            let first_byte = Some(Instant::now());
            answer(&mut client_wr, "502 Bad Gateway", &why).await;
            let end = End::failed(Outcome::UpstreamUnreachable, why);
            return End {
                status: Some(502),
                first_byte,
                ..end
            };
        }
    };
    let mut pending = Vec::with_capacity(head.raw.len() + 64);
    forward_request(head, &mut pending);
    let (mut up_rd, mut up_wr) = upstream.split();
    let sent = Cell::new(false);
    let mut from_upstream = BytesMut::new();
    let half_close = context.options.half_close;
    let mut answered = Answered::default();
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
            &mut answered,
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
    End {
        outcome,
        error,
        status: answered.status,
        response: answered.head,
        first_byte: answered.first_byte,
        after: if keep { After::Keep } else { After::Close },
    }
}

async fn until(flag: &Cell<bool>) {
    while !flag.get() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends the request, then watches the client. Only ever ends because something broke.
#[expect(
    clippy::too_many_arguments,
    reason = "both halves of both connections, and their state"
)]
async fn client_side(
    length: Length,
    client: &mut ReadHalf<'_>,
    rest: &mut BytesMut,
    upstream: &mut WriteHalf<'_>,
    pending: &mut Vec<u8>,
    tee: &mut Tee,
    sent: &Cell<bool>,
    half_close: bool,
) -> Broken {
    if let Err(broken) = pump(length, client, rest, upstream, pending, tee).await {
        return broken;
    }
    sent.set(true);
    // The next request may be pipelined behind this one; what it holds is bounded, and while it is
    // full the client's end of file cannot be seen.
    const PIPELINED: usize = 64 * 1024;
    loop {
        if rest.len() >= PIPELINED {
            std::future::pending::<()>().await;
        }
        rest.reserve(4096);
        match client.read_buf(rest).await {
            Ok(0) if half_close => std::future::pending::<()>().await,
            Ok(0) => {
                let why = "it closed before the answer was whole";
                return Broken::Reading(std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    why,
                ));
            }
            Ok(_) => {}
            Err(e) => return Broken::Reading(e),
        }
    }
}

/// What of the answer was sent.
#[derive(Default)]
struct Answered {
    head: Option<Head>,
    status: Option<u16>,
    first_byte: Option<Instant>,
    client_keeps: bool,
    upstream_keeps: bool,
}

#[expect(
    clippy::too_many_arguments,
    reason = "both halves of both connections, and their state"
)]
async fn upstream_side(
    context: &Context,
    request: &Head,
    method: &str,
    upstream: &mut ReadHalf<'_>,
    buffer: &mut BytesMut,
    client: &mut WriteHalf<'_>,
    tee: &mut Tee,
    answered: &mut Answered,
) -> Result<(), (Outcome, String)> {
    let gone = |e: std::io::Error| {
        (
            Outcome::ClientCancelled,
            format!("the client went away: {e}"),
        )
    };
    let broken = |why: String| {
        let upstream = context.pool.upstream();
        (
            Outcome::UpstreamReset,
            format!("the upstream {upstream} {why}"),
        )
    };
    loop {
        let head = loop {
            let taken = take(buffer, false).map_err(|e| broken(format!("sent a bad head: {e}")))?;
            if let Some(head) = taken {
                break head;
            }
            if buffer.len() > context.options.max_head {
                return Err(broken("sent a head that is too large".to_owned()));
            }
            buffer.reserve(8192);
            match upstream.read_buf(buffer).await {
                Ok(0) => return Err(broken("closed the connection without an answer".to_owned())),
                Ok(_) => {}
                Err(e) => return Err(broken(format!("broke the connection: {e}"))),
            }
        };
        let FirstLine::Response { status } = head.first else {
            return Err(broken("did not send a response".to_owned()));
        };
        answered.first_byte.get_or_insert_with(Instant::now);
        if (100..200).contains(&status) && status != 101 {
            client.write_all(&head.raw).await.map_err(gone)?;
            continue;
        }
        let length = of_response(&head, method)
            .map_err(|e| broken(format!("sent an ambiguous answer: {e}")))?;
        let mut out = Vec::with_capacity(head.raw.len() + 64);
        answered.client_keeps = request.keeps_alive()
            && head.minor_version == 1
            && length != Length::UntilClose
            && !*context.stopping.borrow();
        answered.upstream_keeps = head.keeps_alive() && length != Length::UntilClose;
        answered.status = Some(status);
        forward_response(
            &head,
            request,
            length,
            status,
            answered.client_keeps,
            &mut out,
        );
        answered.head = Some(head);
        if status == 101 {
            return client.write_all(&out).await.map_err(gone);
        }
        return pump(length, upstream, buffer, client, &mut out, tee)
            .await
            .map_err(|b| match b {
                Broken::Writing(e) => gone(e),
                Broken::Reading(e) => broken(format!("ended its answer short: {e}")),
                Broken::Framing(e) => broken(format!("sent a bad body: {e}")),
            });
    }
}

fn forward_request(head: &Head, out: &mut Vec<u8>) {
    let upgrade = head.has_token("connection", "upgrade");
    let h2c = head.has_token("upgrade", "h2c");
    // An upgrade to HTTP/2 would be agreed with us, not with the upstream.
    let leave_out: &[&str] = if h2c || !upgrade {
        &["upgrade", "http2-settings"]
    } else {
        &["http2-settings"]
    };
    let add: &[u8] = if upgrade && !h2c {
        b"Connection: Upgrade\r\n"
    } else {
        b""
    };
    head.forward(out, leave_out, add);
}

fn forward_response(
    head: &Head,
    request: &Head,
    length: Length,
    status: u16,
    keep: bool,
    out: &mut Vec<u8>,
) {
    let add: &[u8] = if status == 101 {
        b"Connection: Upgrade\r\n"
    } else if !keep {
        b"Connection: close\r\n"
    } else if request.minor_version == 0 {
        b"Connection: keep-alive\r\n"
    } else {
        b""
    };
    // RFC 9112 §6.3: beside chunks a length is a lie, and the client must not see two.
    let leave_out: &[&str] = if length == Length::Chunked {
        &["content-length"]
    } else {
        &[]
    };
    head.forward(out, leave_out, add);
}

/// An answer of our own, after which the connection closes.
pub(super) async fn answer(client: &mut WriteHalf<'_>, status: &str, why: &str) {
    let body = format!("inferdiff: {why}\n");
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    // A client that is gone needs no answer.
    let _ = client.write_all(text.as_bytes()).await;
    let _ = client.shutdown().await;
}

/// After 101: bytes both ways until either side closes.
async fn tunnel(
    client: &mut TcpStream,
    from_client: &mut BytesMut,
    mut upstream: TcpStream,
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

fn record(
    context: &Context,
    ticket: Ticket,
    arrival: Arrival,
    head: Option<Head>,
    end: End,
    request: Tee,
    response: Tee,
) {
    let Some(budget) = context.tap.budget() else {
        return ticket.end_uncopied();
    };
    let (request_body, request_permit) = request.finish();
    let (response_body, response_permit) = response.finish();
    let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    let wall = arrival
        .wall
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (method, target) = match head.as_ref().map(|h| &h.first) {
        Some(FirstLine::Request { method, target }) => (method.clone(), target.clone()),
        _ => (String::new(), String::new()),
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (target, None),
    };
    let raw = RawExchange {
        seq: ticket.seq,
        arrived_at_ns: i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX),
        first_byte_ns: end.first_byte.map(|t| nanos(t - arrival.at)),
        end_ns: nanos(arrival.at.elapsed()),
        method,
        path,
        query,
        request_headers: head.as_ref().map(Head::pairs).unwrap_or_default(),
        request_body,
        request_trailers: Vec::new(),
        status: end.status,
        response_headers: end.response.as_ref().map(Head::pairs).unwrap_or_default(),
        response_body,
        response_trailers: Vec::new(),
        outcome: end.outcome,
        error: end.error,
        sample_rate: 1.0,
    };
    let mut permit = budget.permit();
    permit.absorb(request_permit);
    permit.absorb(response_permit);
    ticket.end(raw, permit);
}
