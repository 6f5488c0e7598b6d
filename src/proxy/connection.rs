//! One client connection: requests one after the other.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::context::{Arrival, Context};
use super::deadline::Deadline;
use super::exchange::{After, refuse, run};
use super::h2;
use super::head::{Head, take};
use super::io::{Stream, keep_alive};
use super::tls::chose_http2;

/// How an HTTP/2 client with prior knowledge begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection to its end.
pub(super) async fn serve(context: &Arc<Context>, client: TcpStream) {
    // Where these fail the connection is gone already, and the next read says so.
    let _ = client.set_nodelay(true);
    let _ = keep_alive(&client);
    let mut client = match &context.acceptor {
        None => Stream::Plain(client),
        Some(acceptor) => {
            let handshake =
                tokio::time::timeout(context.options.head_timeout, acceptor.accept(client));
            match handshake.await {
                Ok(Ok(stream)) => stream,
                // No exchange has begun: there is nothing to record.
                Ok(Err(e)) => return tracing::debug!("a TLS handshake failed: {e}"),
                Err(_) => return,
            }
        }
    };
    let mut rest = BytesMut::new();
    if chose_http2(&client) {
        return Box::pin(h2::serve(context, client, rest.freeze())).await;
    }
    let mut first = true;
    let mut waits = Waits {
        deadline: Deadline::new(),
        stopping: context.stopping.clone(),
    };
    loop {
        match next(context, &mut client, &mut rest, first, &mut waits).await {
            Next::Request(head, arrival) => {
                // Boxed, so that an idle connection does not carry an exchange's state.
                let exchange = Box::pin(run(context, &mut client, &mut rest, *head, arrival));
                match exchange.await {
                    After::Keep => {}
                    After::Close => break,
                    After::Abort => return client.abort(),
                }
            }
            Next::Http2 => return Box::pin(h2::serve(context, client, rest.freeze())).await,
            Next::Idle => {
                let _ = tokio::time::timeout(LINGER, client.shutdown()).await;
                return;
            }
            Next::End => break,
        }
        first = false;
    }
    linger(client).await;
}

enum Next {
    Request(Box<Head>, Arrival),
    Http2,
    /// Nothing has come since the last answer and nothing more does: the client has all it was sent.
    Idle,
    /// The end of what comes in the middle of a head, or a head that was refused.
    End,
}

/// What a wait for a request may end with instead.
struct Waits {
    deadline: Deadline,
    stopping: watch::Receiver<bool>,
}

async fn next(
    context: &Context,
    client: &mut Stream,
    rest: &mut BytesMut,
    first: bool,
    Waits { deadline, stopping }: &mut Waits,
) -> Next {
    let mut arrival = (!rest.is_empty()).then(Arrival::now);
    // Set at shutdown: how long an idle connection may still begin a request.
    let mut until = None;
    loop {
        // `PRI *` is no request of HTTP/1.1: what begins like the preface is waited for.
        let preface = first && !rest.is_empty() && {
            let n = rest.len().min(PREFACE.len());
            rest[..n] == PREFACE[..n]
        };
        if preface && rest.len() >= PREFACE.len() {
            return Next::Http2;
        }
        match if preface { Ok(None) } else { take(rest, true) } {
            Ok(Some(head)) => {
                return Next::Request(Box::new(head), arrival.unwrap_or_else(Arrival::now));
            }
            Ok(None) if rest.len() > context.options.max_head => {
                let why = format!("its head is larger than {} bytes", context.options.max_head);
                let arrival = arrival.unwrap_or_else(Arrival::now);
                let status = "431 Request Header Fields Too Large";
                refuse(context, client, arrival, status, &why).await;
                return Next::End;
            }
            Ok(None) => {}
            Err(e) => {
                let arrival = arrival.unwrap_or_else(Arrival::now);
                refuse(context, client, arrival, "400 Bad Request", &e.0).await;
                return Next::End;
            }
        }
        let wait = match arrival {
            None => until.map_or(context.options.idle_timeout, |until: Instant| {
                until.saturating_duration_since(Instant::now())
            }),
            Some(a) => context.options.head_timeout.saturating_sub(a.at.elapsed()),
        };
        // An idle connection holds no buffer: it is taken when there is something to read.
        if rest.is_empty() {
            *rest = BytesMut::new();
        }
        let read = async {
            client.readable().await?;
            rest.reserve(HEAD_ROOM);
            client.read_buf(rest).await
        };
        tokio::select! {
            biased;
            read = read => match read {
                Ok(n) if n > 0 => { arrival.get_or_insert_with(Arrival::now); }
                // Closed, reset, or idle for too long: there is no exchange to speak of.
                _ if arrival.is_none() => return Next::Idle,
                _ => return Next::End,
            },
            () = deadline.after(wait) => {
                let Some(arrival) = arrival else { return Next::Idle };
                let why = "its head did not come in time";
                refuse(context, client, arrival, "408 Request Timeout", why).await;
                return Next::End;
            }
            _ = stopping.changed(), if arrival.is_none() && until.is_none() => {
                until = Some(Instant::now() + context.options.idle_grace);
            }
        }
    }
}

/// What the first read of a head may bring.
const HEAD_ROOM: usize = 8192;

/// Closing a socket that still has unread bytes resets it, and the client may lose the answer it
/// was just sent: say that nothing more comes, and throw away what is left, for a while.
async fn linger(mut client: Stream) {
    if client.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut sink = vec![0; 16 * 1024];
        while matches!(client.read(&mut sink).await, Ok(n) if n > 0) {}
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
}

/// For how long what a client still sends is read after the last answer.
const LINGER: std::time::Duration = std::time::Duration::from_secs(5);
