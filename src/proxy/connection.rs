//! One client connection: requests one after the other.

use std::time::{Instant, SystemTime};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::exchange::{After, Arrival, Context, refuse, run};
use super::head::{Head, take};

/// Serves a connection to its end.
pub(super) async fn serve(context: &Context, mut client: TcpStream) {
    let _ = client.set_nodelay(true);
    let mut rest = BytesMut::new();
    while let Some((head, arrival)) = next_head(context, &mut client, &mut rest).await {
        if run(context, &mut client, &mut rest, head, arrival).await == After::Close {
            break;
        }
    }
    linger(client).await;
}

/// The next request's head; `None` where there is none or it was refused.
async fn next_head(
    context: &Context,
    client: &mut TcpStream,
    rest: &mut BytesMut,
) -> Option<(Head, Arrival)> {
    let arrived = || Arrival {
        at: Instant::now(),
        wall: SystemTime::now(),
    };
    let mut arrival = (!rest.is_empty()).then(arrived);
    let mut stopping = context.stopping.clone();
    loop {
        match take(rest, true) {
            Ok(Some(head)) => return Some((head, arrival.unwrap_or_else(arrived))),
            Ok(None) if rest.len() > context.options.max_head => {
                let why = format!("its head is larger than {} bytes", context.options.max_head);
                let arrival = arrival.unwrap_or_else(arrived);
                let status = "431 Request Header Fields Too Large";
                refuse(context, client, arrival, status, &why).await;
                return None;
            }
            Ok(None) => {}
            Err(e) => {
                let arrival = arrival.unwrap_or_else(arrived);
                refuse(context, client, arrival, "400 Bad Request", &e.0).await;
                return None;
            }
        }
        let wait = match arrival {
            None => context.options.idle_timeout,
            Some(a) => context.options.head_timeout.saturating_sub(a.at.elapsed()),
        };
        rest.reserve(8192);
        tokio::select! {
            read = tokio::time::timeout(wait, client.read_buf(rest)) => match read {
                Ok(Ok(n)) if n > 0 => { arrival.get_or_insert_with(arrived); }
                // Closed, reset, or idle for too long: there is no exchange to speak of.
                Ok(_) => return None,
                Err(_) => {
                    if let Some(arrival) = arrival {
                        let why = "its head did not come in time";
                        refuse(context, client, arrival, "408 Request Timeout", why).await;
                    }
                    return None;
                }
            },
            _ = stopping.changed(), if arrival.is_none() => return None,
        }
    }
}

/// Closing a socket that still has unread bytes resets it, and the client may lose the answer it
/// was just sent: say that nothing more comes, and read what is left, within bounds.
async fn linger(mut client: TcpStream) {
    use tokio::io::AsyncWriteExt;
    if client.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut sink = vec![0; 16 * 1024];
        let mut left: usize = 1 << 20;
        while let Ok(n) = client.read(&mut sink).await {
            if n == 0 || n >= left {
                return;
            }
            left -= n;
        }
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), drain).await;
}
