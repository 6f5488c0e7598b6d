//! A transparent proxy: HTTP/1.1 on its own codec, HTTP/2 on the `h2` crate, TLS on rustls.
//!
//! Over HTTP/1.1 bytes are forwarded as they came: header case, order and repetition, reason phrases, chunk
//! boundaries and extensions, trailers, interim responses. Only what belongs to one connection
//! (`Connection`, `Keep-Alive`, `Proxy-Connection`) is the proxy's own. A copy of what crosses is
//! handed to a [`Tap`]; nothing the tap does can delay, change or fail an exchange.
//! Why not hyper: `docs/decisions/0002-own-http1-codec.md`.

mod body;
mod budget;
mod chunked;
mod connection;
mod context;
mod deadline;
mod exchange;
mod forward;
mod framing;
mod h2;
mod head;
mod io;
mod listener;
mod meter;
mod sides;
mod tap;
mod tee;
mod tls;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

pub use budget::{Budget, Permit};
pub use listener::{Ended, serve};
pub use meter::{LATENCY_BOUNDS_US, Meter};
pub use tap::{Taken, Tap, Ticket};
pub use tls::{Acceptor, Connector};
pub use upstream::Upstream;

/// How the proxy behaves.
#[derive(Debug, Clone)]
pub struct ProxyOptions {
    /// Where requests go.
    pub upstream: Upstream,
    /// A request head must be whole this long after its first byte. Default 60 s, as nginx.
    pub head_timeout: Duration,
    /// A kept-alive client connection may be idle this long. Default 75 s, as nginx.
    pub idle_timeout: Duration,
    /// A kept-alive upstream connection is used again only before this long. Default 4 s: below
    /// uvicorn's 5 s, so that a server's close does not race our next request.
    pub pool_idle: Duration,
    /// An upstream connection older than this takes no new exchange, because the upstream's name
    /// may mean another machine by now. Default 60 s.
    pub pool_age: Duration,
    /// In-flight exchanges may take this long at shutdown. Default 30 s.
    pub drain_timeout: Duration,
    /// At shutdown an idle connection may still send a request this long, whose answer then closes
    /// it: a client that is about to send must not find it closed. Default 1 s.
    pub idle_grace: Duration,
    /// A client's FIN while the answer is pending is half a close, not a cancellation.
    pub half_close: bool,
    /// Largest head, in bytes. Default 64 KiB.
    pub max_head: usize,
    /// Concurrent streams of one HTTP/2 connection. Default 256.
    pub max_streams: u32,
    /// TLS towards clients; `None` = in clear.
    pub tls: Option<Acceptor>,
    /// Counters of what crosses.
    pub meter: Arc<Meter>,
}

impl ProxyOptions {
    /// The defaults, for an upstream.
    pub fn new(upstream: Upstream) -> Self {
        Self {
            upstream,
            head_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(75),
            pool_idle: Duration::from_secs(4),
            pool_age: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
            idle_grace: Duration::from_secs(1),
            half_close: false,
            max_head: 64 * 1024,
            max_streams: 256,
            tls: None,
            meter: Arc::default(),
        }
    }
}
