//! A client's HTTP/2 connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::super::context::{Arrival, Context};
use super::super::deadline::Deadline;
use super::super::io::{Rewound, Stream};
use super::upstream::Connections;
use super::{CONNECTION_WINDOW, MAX_FRAME, SEND_BUFFER, STREAM_WINDOW, stream};

/// After the last stream of a connection that is going away, its frames are given this long to
/// leave.
const FLUSH: Duration = Duration::from_secs(1);

/// Serves the connection to its end; `before` was already read from it.
///
/// The h2 crate bounds what a hostile client can do: header lists, CONTINUATION frames, streams
/// that are reset as soon as they are opened.
pub(in super::super) async fn serve(context: &Arc<Context>, client: Stream, before: Bytes) {
    let options = &context.options;
    let handshake = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(options.max_streams)
        .max_header_list_size(u32::try_from(options.max_head).unwrap_or(u32::MAX))
        .handshake::<_, Bytes>(Rewound::new(before, client));
    let mut connection = match tokio::time::timeout(options.head_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(e)) => return tracing::debug!("an HTTP/2 handshake failed: {e}"),
        Err(_) => return,
    };
    let upstream = Connections::new(
        context.pool.upstream().clone(),
        options.max_head,
        options.pool_age,
    );
    let mut streams = JoinSet::new();
    let mut stopping = context.stopping.clone();
    let mut going = *stopping.borrow();
    let mut idle = Deadline::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let (context, upstream) = (context.clone(), upstream.clone());
                    let arrival = Arrival::now();
                    // Boxed, because a task moves its future several times before and after it ran.
                    streams.spawn_local(Box::pin(async move {
                        stream::run(&context, &upstream, request, respond, arrival).await;
                    }));
                }
                Some(Err(e)) => {
                    tracing::debug!("an HTTP/2 connection ended: {e}");
                    break;
                }
                None => break,
            },
            Some(_) = streams.join_next(), if !streams.is_empty() => {}
            _ = stopping.changed(), if !going => {
                going = true;
                connection.graceful_shutdown();
            }
            () = idle.after(options.idle_timeout), if streams.is_empty() => {
                connection.graceful_shutdown();
                let _ = tokio::time::timeout(FLUSH, connection.accept()).await;
                break;
            }
        }
    }
    // The connection is gone: every stream hears of it, cancels its upstream, and is recorded.
    drop(connection);
    while streams.join_next().await.is_some() {}
}
