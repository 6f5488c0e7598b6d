//! Accepts connections until told to stop, then drains.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ProxyOptions;
use super::connection;
use super::context::Context;
use super::tap::Tap;
use super::upstream::Pool;

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Connections that did not finish within the drain time-out and were cut.
    pub cut: usize,
}

/// Serves `listener` until `stop` resolves, then lets in-flight exchanges finish.
pub async fn serve(
    listener: TcpListener,
    options: ProxyOptions,
    tap: Arc<dyn Tap>,
    stop: impl Future<Output = ()>,
) -> Ended {
    let (stopped, stopping) = watch::channel(false);
    let drain = options.drain_timeout;
    let pool = Pool::new(
        options.upstream.clone(),
        options.pool_idle,
        options.pool_age,
    );
    let context = Arc::new(Context {
        acceptor: options.tls.clone(),
        options,
        pool,
        tap,
        stopping,
    });
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let context = context.clone();
                    connections.spawn_local(async move {
                        let _open = context.options.meter.connection();
                        connection::serve(&context, client).await;
                    });
                }
                Err(e) => {
                    // Out of descriptors, mostly: those that are open go on, and one log line a
                    // second says why no new one comes.
                    tracing::warn!("cannot accept a connection: {e}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = &mut stop => break,
        }
    }
    drop(listener);
    let _ = stopped.send(true);
    let drained = tokio::time::timeout(drain, async {
        while connections.join_next().await.is_some() {}
    });
    let _ = drained.await;
    let cut = connections.len();
    connections.shutdown().await;
    Ended { cut }
}
