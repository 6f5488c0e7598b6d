//! Connections: plain or TLS, one type.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp;
use tokio_rustls::TlsStream;

/// A connection to a client or to the upstream.
pub enum Stream {
    /// In clear.
    Plain(TcpStream),
    /// Under TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// The reading half of a borrowed [`Stream`].
pub enum ReadHalf<'a> {
    /// In clear.
    Plain(tcp::ReadHalf<'a>),
    /// Under TLS.
    Tls(tokio::io::ReadHalf<&'a mut TlsStream<TcpStream>>),
}

/// The writing half of a borrowed [`Stream`].
pub enum WriteHalf<'a> {
    /// In clear.
    Plain(tcp::WriteHalf<'a>),
    /// Under TLS.
    Tls(tokio::io::WriteHalf<&'a mut TlsStream<TcpStream>>),
}

impl Stream {
    /// Both halves, to be used at once. A plain socket needs no lock for that.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Self::Plain(s) => {
                let (r, w) = s.split();
                (ReadHalf::Plain(r), WriteHalf::Plain(w))
            }
            Self::Tls(s) => {
                let (r, w) = tokio::io::split(&mut **s);
                (ReadHalf::Tls(r), WriteHalf::Tls(w))
            }
        }
    }

    /// True where the peer neither closed nor sent anything: an idle connection that can be used.
    /// With `ask`, the kernel is asked; else what it last said counts, which may be old by a turn
    /// of the event loop.
    pub fn is_silent(&mut self, ask: bool) -> bool {
        match self {
            Self::Plain(s) if ask => {
                use rustix::net::{RecvFlags, recv};
                let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
                recv(&*s, &mut [0; 1], flags).is_err_and(|e| e == rustix::io::Errno::AGAIN)
            }
            Self::Plain(s) => s
                .try_read(&mut [0; 1])
                .is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock),
            Self::Tls(s) => {
                let mut byte = [0; 1];
                let mut context = Context::from_waker(std::task::Waker::noop());
                Pin::new(&mut **s)
                    .poll_read(&mut context, &mut ReadBuf::new(&mut byte))
                    .is_pending()
            }
        }
    }

    /// Waits until something may be read. Under TLS at once: what was decrypted already would not
    /// be waited for.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(s) => s.readable().await,
            Self::Tls(_) => Ok(()),
        }
    }

    /// Writes of `pending` what is taken at once, and takes it out.
    ///
    /// # Errors
    /// The connection is dead; in clear, nothing was sent.
    pub async fn begin(&mut self, pending: &mut Vec<u8>) -> io::Result<()> {
        let wrote = poll_fn(|cx| match Pin::new(&mut *self).poll_write(cx, pending) {
            Poll::Ready(wrote) => Poll::Ready(wrote),
            Poll::Pending => Poll::Ready(Ok(0)),
        });
        let n = wrote.await?;
        pending.drain(..n);
        Ok(())
    }

    /// True where a write that fails has sent nothing. Under TLS a part of a record may have left.
    pub fn sent_nothing(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Ends the connection with a reset: the peer must not take what it has for the whole.
    pub fn abort(self) {
        let socket = match &self {
            Self::Plain(s) => s,
            Self::Tls(s) => s.get_ref().0,
        };
        // Where it fails the connection is gone already.
        let _ = socket.set_zero_linger();
    }

    /// The protocol that ALPN agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(s) => s.get_ref().1.alpn_protocol(),
        }
    }
}

impl ReadHalf<'_> {
    /// Resolves when the peer has closed or reset the connection, also while what it sent before
    /// is still unread. Under TLS never: only reading tells.
    pub async fn closed(&self) {
        if let Self::Plain(s) = self {
            // `PRIORITY` is woken by urgent data, which is not waited for, or by the peer's close.
            match s.ready(Interest::PRIORITY).await {
                Ok(ready) if !ready.is_read_closed() => {}
                _ => return,
            }
        }
        std::future::pending().await
    }
}

/// Lets the kernel find out whether the peer's machine still answers: an exchange has no time-out,
/// and one whose peer lost its power would otherwise never end.
///
/// # Errors
/// The connection is gone.
pub fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(10))?;
    Ok(sockopt::set_tcp_keepcnt(socket, 6)?)
}

macro_rules! delegate {
    ($self:ident, $s:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Plain($s) => {
                let $s = Pin::new($s);
                $call
            }
            Self::Tls($s) => {
                let $s = Pin::new($s);
                $call
            }
        }
    };
}

macro_rules! reads {
    ($t:ty) => {
        impl AsyncRead for $t {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                delegate!(self, s => s.poll_read(cx, buf))
            }
        }
    };
}

macro_rules! writes {
    ($t:ty) => {
        impl AsyncWrite for $t {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                delegate!(self, s => s.poll_write(cx, buf))
            }
            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                delegate!(self, s => s.poll_write_vectored(cx, bufs))
            }
            fn is_write_vectored(&self) -> bool {
                matches!(self, Self::Plain(_))
            }
            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                delegate!(self, s => s.poll_flush(cx))
            }
            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                delegate!(self, s => s.poll_shutdown(cx))
            }
        }
    };
}

reads!(Stream);
reads!(ReadHalf<'_>);
writes!(Stream);
writes!(WriteHalf<'_>);

/// A stream of which some bytes were already read.
pub struct Rewound {
    before: Bytes,
    stream: Stream,
}

impl Rewound {
    /// `before` is read again first.
    pub fn new(before: Bytes, stream: Stream) -> Self {
        Self { before, stream }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let n = self.before.len().min(buf.remaining());
        buf.put_slice(&self.before[..n]);
        self.before.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
