//! Streams one body from a reader to a writer, byte for byte, copying it on the way.

use std::io::{Error, ErrorKind};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::chunked::ChunkWalker;
use super::framing::Length;
use super::head::HeadError;
use super::io::{ReadHalf, WriteHalf};
use super::tee::Tee;

/// How a body's stream ended before its end.
#[derive(Debug)]
pub enum Broken {
    /// The sender closed or reset.
    Reading(Error),
    /// The receiver closed or reset.
    Writing(Error),
    /// The framing is not what the RFC says.
    Framing(HeadError),
}

/// Where a body goes, and who may leave meanwhile.
pub struct Sink<'a, 'b> {
    pub to: &'a mut WriteHalf<'b>,
    /// Written first: a head with what is known of its body, so that it costs no system call of
    /// its own.
    pub pending: &'a mut Vec<u8>,
    /// While the receiver takes nothing, a sender that closes is noticed.
    pub watch: bool,
}

impl Sink<'_, '_> {
    /// Sends `bytes`, after what is pending: all of it, also what TLS would keep back.
    async fn send(&mut self, bytes: &[u8], from: &ReadHalf<'_>) -> Result<(), Broken> {
        let Self { to, pending, watch } = self;
        let sending = async {
            if !pending.is_empty() {
                to.write_all(pending).await?;
                pending.clear();
            }
            if !bytes.is_empty() {
                to.write_all(bytes).await?;
            }
            to.flush().await
        };
        tokio::select! {
            biased;
            sent = sending => sent.map_err(Broken::Writing),
            () = from.closed(), if *watch => {
                Err(Broken::ended("it closed while its request was being sent on"))
            }
        }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reading(e) => write!(f, "the client went away: {e}"),
            Self::Writing(e) => write!(f, "the upstream takes no more: {e}"),
            Self::Framing(e) => e.fmt(f),
        }
    }
}

impl Broken {
    /// The sender ended where it must not.
    pub fn ended(why: impl Into<String>) -> Self {
        Self::Reading(Error::new(ErrorKind::UnexpectedEof, why.into()))
    }
}

/// A body on its way.
pub struct Pump(Left);

/// What is still to come of it.
enum Left {
    Bytes { left: u64, of: u64 },
    Chunks(Box<ChunkWalker>),
    UntilClose,
}

/// What a buffer is grown by for chunks.
const STEP: usize = 16 * 1024;

impl Pump {
    /// Begins a body of `length`: what of it was read behind the head (`rest`) goes to `pending`,
    /// behind the head. What belongs to the next message stays in `rest`.
    ///
    /// # Errors
    /// Chunks that lie.
    pub async fn begin(
        length: Length,
        rest: &mut BytesMut,
        pending: &mut Vec<u8>,
        tee: &mut Tee,
    ) -> Result<Self, HeadError> {
        let mut pump = Self(match length {
            Length::Empty => Left::Bytes { left: 0, of: 0 },
            Length::Known(n) => Left::Bytes { left: n, of: n },
            Length::Chunked => Left::Chunks(Box::default()),
            Length::UntilClose => Left::UntilClose,
        });
        if let Length::Known(n) = length {
            tee.wait_for_room(n).await;
            tee.expect(n);
        }
        if !rest.is_empty() {
            let here = pump.belongs(rest, tee).await?;
            pending.extend_from_slice(&rest[..here]);
            rest.advance(here);
        }
        Ok(pump)
    }

    /// How many of the bytes at hand are of this body; they are copied.
    async fn belongs(&mut self, bytes: &[u8], tee: &mut Tee) -> Result<usize, HeadError> {
        tee.wait_for_room(bytes.len() as u64).await;
        let here = match &mut self.0 {
            Left::Chunks(walker) => return walker.walk(bytes, |payload| tee.copy(payload)),
            Left::UntilClose => bytes.len(),
            Left::Bytes { left, .. } => {
                let here = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= here as u64;
                here
            }
        };
        if here > 0 {
            tee.copy(&bytes[..here]);
        }
        Ok(here)
    }

    fn done(&self) -> bool {
        match &self.0 {
            Left::Bytes { left, .. } => *left == 0,
            Left::Chunks(walker) => walker.done(),
            Left::UntilClose => false,
        }
    }

    /// Sends what is pending, then the rest of the body as it comes. Bytes of the next message are
    /// left in `rest`.
    ///
    /// # Errors
    /// The body ended before its end.
    pub async fn run(
        mut self,
        from: &mut ReadHalf<'_>,
        rest: &mut BytesMut,
        sink: &mut Sink<'_, '_>,
        tee: &mut Tee,
    ) -> Result<(), Broken> {
        sink.send(&[], from).await?;
        tee.forwarded();
        while !self.done() {
            if !rest.is_empty() {
                let here = self.belongs(rest, tee).await.map_err(Broken::Framing)?;
                sink.send(&rest[..here], from).await?;
                rest.advance(here);
                continue;
            }
            let n = match &mut self.0 {
                Left::Chunks(_) => {
                    rest.reserve(STEP);
                    from.read_buf(rest).await.map_err(Broken::Reading)?
                }
                Left::Bytes { left, .. } => {
                    let n = pass(*left, from, sink, tee).await?;
                    *left -= n as u64;
                    n
                }
                Left::UntilClose => pass(u64::MAX, from, sink, tee).await?,
            };
            if n == 0 {
                return match self.0 {
                    Left::UntilClose => {
                        tee.complete();
                        Ok(())
                    }
                    Left::Chunks(_) => Err(Broken::ended("the last chunk did not come")),
                    Left::Bytes { left, of } => Err(Broken::ended(format!(
                        "{left} of {of} bytes were still to come"
                    ))),
                };
            }
        }
        if let Left::Chunks(walker) = self.0 {
            tee.trailers(walker.into_trailers());
        }
        tee.complete();
        Ok(())
    }
}

/// Passes on what one read brings, at most `left`; 0 at the end. The copy is what it is read into.
async fn pass(
    left: u64,
    from: &mut ReadHalf<'_>,
    sink: &mut Sink<'_, '_>,
    tee: &mut Tee,
) -> Result<usize, Broken> {
    tee.wait_for_room(1).await;
    let limit = usize::try_from(left).unwrap_or(usize::MAX);
    let n = from
        .read_buf(&mut tee.room(left).limit(limit))
        .await
        .map_err(Broken::Reading)?;
    if n > 0 {
        sink.send(tee.fresh(n), from).await?;
        tee.read(n);
    }
    Ok(n)
}
