//! Where requests go, and the connections kept open to it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::io::{Stream, keep_alive};
use super::tls::Connector;

/// An upstream: `http://host:port` or `https://host:port`.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS, where the URL says https.
    pub tls: Option<Connector>,
}

impl Upstream {
    /// Parses `http[s]://host[:port][/]`; `ca` is who is trusted instead of the system's roots.
    ///
    /// # Errors
    /// A sentence saying what is not understood.
    pub fn parse(url: &str, ca: Option<&Path>) -> Result<Self, String> {
        let fail = |why: &str| Err(format!("{url}: {why}"));
        let (rest, tls) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            _ => return fail("it must begin with http:// or https://"),
        };
        let authority = rest.trim_end_matches('/');
        if authority.contains(['/', '?', '#', '@']) {
            return fail(
                "only http[s]://host:port is understood: paths are forwarded as they come",
            );
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
                match port.parse() {
                    Ok(port) => (host, port),
                    Err(_) => return fail("its port is no number from 0 to 65535"),
                }
            }
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return fail("it names no host");
        }
        if ca.is_some() && !tls {
            return fail("trusted certificates mean nothing without https://");
        }
        Ok(Self {
            tls: tls.then(|| Connector::new(host, ca)).transpose()?,
            host: host.to_owned(),
            port,
        })
    }

    /// An upstream in clear.
    pub fn plain(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            tls: None,
        }
    }

    /// A fresh connection; the name is resolved anew each time.
    ///
    /// # Errors
    /// The name, the connection or the handshake failed.
    pub async fn connect(&self, http2: bool) -> std::io::Result<Stream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        keep_alive(&stream)?;
        match &self.tls {
            None => Ok(Stream::Plain(stream)),
            Some(tls) => tls.connect(stream, http2).await,
        }
    }
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// A connection to the upstream, and since when.
pub(super) struct Connection {
    pub stream: Stream,
    born: Instant,
}

/// Idle connections, the last used first.
pub(super) struct Pool {
    upstream: Upstream,
    idle: Mutex<VecDeque<(Connection, Instant)>>,
    max_idle: Duration,
    max_age: Duration,
}

/// Idle for longer than this, the kernel is asked whether a connection still stands. One that was
/// used just now is not worth a system call.
const ASK: Duration = Duration::from_millis(1);

impl Pool {
    pub fn new(upstream: Upstream, max_idle: Duration, max_age: Duration) -> Self {
        Self {
            upstream,
            idle: Mutex::new(VecDeque::new()),
            max_idle,
            max_age,
        }
    }

    /// A kept connection that is still open, if there is one.
    pub fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((mut kept, since)) = idle.pop_front() {
            let unused = since.elapsed();
            if unused >= self.max_idle {
                // The rest is older still.
                idle.clear();
                return None;
            }
            // Readable means closed, or an answer that nobody asked for: unusable either way.
            if kept.born.elapsed() < self.max_age && kept.stream.is_silent(unused > ASK) {
                return Some(kept);
            }
        }
        None
    }

    /// A fresh connection.
    ///
    /// # Errors
    /// As [`Upstream::connect`].
    pub async fn connect(&self) -> std::io::Result<Connection> {
        Ok(Connection {
            stream: self.upstream.connect(false).await?,
            born: Instant::now(),
        })
    }

    /// Keeps a connection for later.
    pub fn put(&self, kept: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push_front((kept, Instant::now()));
        while idle
            .back()
            .is_some_and(|(_, since)| since.elapsed() >= self.max_idle)
        {
            idle.pop_back();
        }
    }

    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_read_or_refused_with_a_reason() {
        let ok = |u: &str| Upstream::parse(u, None).map(|u| (u.host, u.port));
        assert_eq!(ok("http://a:81/"), Ok(("a".into(), 81)));
        assert_eq!(ok("http://a"), Ok(("a".into(), 80)));
        assert_eq!(ok("http://[::1]:9"), Ok(("::1".into(), 9)));
        for bad in [
            "a:80",
            "ftp://a",
            "http://",
            "http://a:99999",
            "http://a/b",
            "http://u@a",
        ] {
            assert!(ok(bad).is_err(), "{bad}");
        }
    }
}
