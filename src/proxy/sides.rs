//! The two directions of an HTTP/1.1 exchange.

use std::cell::Cell;
use std::time::Instant;

use bytes::BytesMut;
use inferdiff_schemas::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::body::{Broken, Pump, Sink};
use super::context::Context;
use super::forward::{asks_upgrade, forward_response};
use super::framing::{Length, of_response};
use super::head::{FirstLine, Head, take};
use super::io::{ReadHalf, WriteHalf};
use super::tee::Tee;

/// The client's half of an exchange, as it goes.
pub(super) struct Upload<'a> {
    /// What the request's body still has to come.
    pub body: Pump,
    /// Not yet sent of head and body.
    pub pending: &'a mut Vec<u8>,
    /// How far the request got.
    pub sent: &'a Cell<Sent>,
    /// A FIN is half a close.
    pub half_close: bool,
}

/// How far a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// Some of it is still to be sent.
    Partly,
    Whole,
    /// The upstream takes no more of it.
    Stopped,
}

/// Sends the request, then watches the client. Only ever ends because the client broke.
pub(super) async fn client_side(
    upload: Upload<'_>,
    client: &mut ReadHalf<'_>,
    rest: &mut BytesMut,
    upstream: &mut WriteHalf<'_>,
    tee: &mut Tee,
) -> Broken {
    let half_close = upload.half_close;
    let mut sink = Sink {
        to: upstream,
        pending: upload.pending,
        watch: !half_close,
    };
    match upload.body.run(client, rest, &mut sink, tee).await {
        Ok(()) => upload.sent.set(Sent::Whole),
        // The upstream takes no more, but may still answer. What the client sends is thrown away:
        // it must come to read the answer, and its leaving must be noticed.
        Err(Broken::Writing(_)) => {
            upload.sent.set(Sent::Stopped);
            loop {
                rest.clear();
                if let Err(broken) = read(client, rest, half_close).await {
                    return broken;
                }
            }
        }
        Err(broken) => return broken,
    }
    hold(client, rest, half_close).await
}

/// Keeps what the client sends early: the next request may be pipelined behind this one. Ends when
/// the client does.
pub(super) async fn hold(
    client: &mut ReadHalf<'_>,
    rest: &mut BytesMut,
    half_close: bool,
) -> Broken {
    const PIPELINED: usize = 64 * 1024;
    while rest.len() < PIPELINED {
        if let Err(broken) = read(client, rest, half_close).await {
            return broken;
        }
    }
    client.closed().await;
    if half_close {
        std::future::pending::<()>().await;
    }
    Broken::ended(EARLY)
}

const EARLY: &str = "it closed before the answer was whole";

async fn read(
    client: &mut ReadHalf<'_>,
    rest: &mut BytesMut,
    half_close: bool,
) -> Result<(), Broken> {
    rest.reserve(4096);
    match client.read_buf(rest).await {
        Ok(0) if half_close => std::future::pending().await,
        Ok(0) => Err(Broken::ended(EARLY)),
        Ok(_) => Ok(()),
        Err(e) => Err(Broken::Reading(e)),
    }
}

/// What of the answer was sent.
#[derive(Default)]
pub(super) struct Answered {
    /// When its head was read.
    pub head_at: Option<Instant>,
    pub head: Option<Head>,
    pub status: Option<u16>,
    pub first_byte: Option<Instant>,
    pub client_keeps: bool,
    pub upstream_keeps: bool,
    /// The answer's end is the connection's, and it broke before: only a reset says so.
    pub broken_off: bool,
}

/// Reads the answer and passes it on. True where the upstream's connection stays, and the rest of
/// the request may still follow.
#[expect(
    clippy::too_many_arguments,
    reason = "both halves of both connections, and their state"
)]
pub(super) async fn upstream_side(
    context: &Context,
    request: &Head,
    method: &str,
    upstream: &mut ReadHalf<'_>,
    buffer: &mut BytesMut,
    client: &mut WriteHalf<'_>,
    tee: &mut Tee,
    answered: &mut Answered,
    sent: &Cell<Sent>,
) -> Result<bool, (Outcome, String)> {
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
        let now = Instant::now();
        answered.head_at = Some(now);
        answered.first_byte.get_or_insert(now);
        if (100..200).contains(&status) && status != 101 {
            client.write_all(&head.raw).await.map_err(gone)?;
            client.flush().await.map_err(gone)?;
            continue;
        }
        if status == 101 && !asks_upgrade(request) {
            return Err(broken("switched protocols though nobody asked".to_owned()));
        }
        let length = of_response(&head, method)
            .map_err(|e| broken(format!("sent an ambiguous answer: {e}")))?;
        let mut out = Vec::with_capacity(head.raw.len() + 64);
        // An upstream that closes before it has the whole request will not take the rest of it,
        // and the next request could not be found behind it.
        answered.client_keeps = request.keeps_alive()
            && head.minor_version == 1
            && (sent.get() == Sent::Whole || head.keeps_alive())
            && length != Length::UntilClose
            && !*context.stopping.borrow();
        // RFC 9112 §6.1, §6.3: after framing that another reader could take otherwise nothing on
        // that connection is believed.
        let coded = head.all("transfer-encoding").next().is_some();
        let doubtful =
            coded && (head.minor_version == 0 || head.all("content-length").next().is_some());
        answered.upstream_keeps = head.keeps_alive() && length != Length::UntilClose && !doubtful;
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
            client.write_all(&out).await.map_err(gone)?;
            client.flush().await.map_err(gone)?;
            return Ok(false);
        }
        let body = Pump::begin(length, buffer, &mut out, tee)
            .await
            .map_err(|e| broken(format!("sent a bad body: {e}")))?;
        let mut sink = Sink {
            to: client,
            pending: &mut out,
            watch: false,
        };
        let ended = body.run(upstream, buffer, &mut sink, tee).await;
        return match ended {
            Ok(()) => Ok(answered.upstream_keeps),
            Err(Broken::Writing(e)) => Err(gone(e)),
            Err(Broken::Reading(e)) => {
                answered.broken_off = length == Length::UntilClose;
                Err(broken(format!("ended its answer short: {e}")))
            }
            Err(Broken::Framing(e)) => Err(broken(format!("sent a bad body: {e}"))),
        };
    }
}
