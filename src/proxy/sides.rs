//! The two directions of an HTTP/1.1 exchange.

use std::cell::Cell;
use std::time::Instant;

use bytes::BytesMut;
use inferdiff_schemas::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::body::{Broken, pump};
use super::context::Context;
use super::forward::forward_response;
use super::framing::{Length, of_response};
use super::head::{FirstLine, Head, take};
use super::io::{ReadHalf, WriteHalf};
use super::tee::Tee;

/// Sends the request, then watches the client. Only ever ends because something broke.
#[expect(
    clippy::too_many_arguments,
    reason = "both halves of both connections, and their state"
)]
pub(super) async fn client_side(
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
pub(super) struct Answered {
    /// When its head was read.
    pub head_at: Option<Instant>,
    pub head: Option<Head>,
    pub status: Option<u16>,
    pub first_byte: Option<Instant>,
    pub client_keeps: bool,
    pub upstream_keeps: bool,
}

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
        let now = Instant::now();
        answered.head_at = Some(now);
        answered.first_byte.get_or_insert(now);
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
