//! Where requests go, and the connections kept open to it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

/// An upstream: `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Upstream {
    /// Parses `http://host[:port][/]`.
    ///
    /// # Errors
    /// A sentence saying what is not understood.
    pub fn parse(url: &str) -> Result<Self, String> {
        let fail = |why: &str| Err(format!("--upstream {url}: {why}"));
        let Some(rest) = url.strip_prefix("http://") else {
            return match url.starts_with("https://") {
                true => fail("TLS to the upstream is not supported yet: give an http:// address"),
                false => fail("it must begin with http://"),
            };
        };
        let authority = rest.trim_end_matches('/');
        if authority.contains(['/', '?', '#', '@']) {
            return fail("only http://host:port is understood: paths are forwarded as they come");
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
                match port.parse() {
                    Ok(port) => (host, port),
                    Err(_) => return fail("its port is no number from 0 to 65535"),
                }
            }
            _ => (authority, 80),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return fail("it names no host");
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "http://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "http://{}:{}", self.host, self.port)
        }
    }
}

/// Idle connections, the last used first.
pub(super) struct Pool {
    upstream: Upstream,
    idle: Mutex<VecDeque<(TcpStream, Instant)>>,
    max_idle: Duration,
}

impl Pool {
    pub fn new(upstream: Upstream, max_idle: Duration) -> Self {
        Self {
            upstream,
            idle: Mutex::new(VecDeque::new()),
            max_idle,
        }
    }

    /// A kept connection that is still open, if there is one.
    pub fn take(&self) -> Option<TcpStream> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((stream, since)) = idle.pop_front() {
            if since.elapsed() >= self.max_idle {
                // The rest is older still.
                idle.clear();
                return None;
            }
            // Readable means closed, or an answer that nobody asked for: unusable either way.
            let silent = stream.try_read(&mut [0; 1]);
            if silent.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock) {
                return Some(stream);
            }
        }
        None
    }

    /// Keeps a connection for later.
    pub fn put(&self, stream: TcpStream) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push_front((stream, Instant::now()));
        while idle
            .back()
            .is_some_and(|(_, since)| since.elapsed() >= self.max_idle)
        {
            idle.pop_back();
        }
    }

    /// A fresh connection; the name is resolved anew each time.
    pub async fn connect(&self) -> std::io::Result<TcpStream> {
        let address = (self.upstream.host.as_str(), self.upstream.port);
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
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
        let ok = |u: &str| Upstream::parse(u).map(|u| (u.host, u.port));
        assert_eq!(ok("http://a:81/"), Ok(("a".into(), 81)));
        assert_eq!(ok("http://a"), Ok(("a".into(), 80)));
        assert_eq!(ok("http://[::1]:9"), Ok(("::1".into(), 9)));
        for bad in [
            "a:80",
            "https://a",
            "http://",
            "http://a:99999",
            "http://a/b",
            "http://u@a",
        ] {
            assert!(ok(bad).is_err(), "{bad}");
        }
    }
}
