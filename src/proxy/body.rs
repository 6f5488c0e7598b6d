//! Streams one body from a reader to a writer, byte for byte, copying it on the way.

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
    Reading(std::io::Error),
    /// The receiver closed or reset.
    Writing(std::io::Error),
    /// The framing is not what the RFC says.
    Framing(HeadError),
}

/// Streams a body of `length`. `rest` holds bytes read behind the head and, afterwards, bytes that
/// belong to the next message; `pending` is written with the first of the body (a head, so that it
/// costs no system call of its own).
pub async fn pump(
    length: Length,
    from: &mut ReadHalf<'_>,
    rest: &mut BytesMut,
    to: &mut WriteHalf<'_>,
    pending: &mut Vec<u8>,
    tee: &mut Tee,
) -> Result<(), Broken> {
    match length {
        Length::Empty => {}
        Length::Known(n) => known(n, from, rest, to, pending, tee).await?,
        Length::Chunked => chunked(from, rest, to, pending, tee).await?,
        Length::UntilClose => known(u64::MAX, from, rest, to, pending, tee).await?,
    }
    if !pending.is_empty() {
        to.write_all(pending).await.map_err(Broken::Writing)?;
        pending.clear();
        tee.forwarded();
    }
    to.flush().await.map_err(Broken::Writing)?;
    tee.complete();
    Ok(())
}

/// Joined with the head into one write up to here; larger beginnings are written by themselves.
const JOINED: usize = 16 * 1024;

async fn known(
    length: u64,
    from: &mut ReadHalf<'_>,
    rest: &mut BytesMut,
    to: &mut WriteHalf<'_>,
    pending: &mut Vec<u8>,
    tee: &mut Tee,
) -> Result<(), Broken> {
    let until_close = length == u64::MAX;
    let mut left = length;
    tee.wait_for_room(if until_close { 1 } else { length })
        .await;
    if !until_close {
        tee.expect(length);
    }
    let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
    if here > 0 {
        tee.copy(&rest[..here]);
        pending.extend_from_slice(&rest[..here]);
        rest.advance(here);
        left -= here as u64;
    }
    if !pending.is_empty() {
        to.write_all(pending).await.map_err(Broken::Writing)?;
        pending.clear();
        tee.forwarded();
    }
    while left > 0 {
        tee.wait_for_room(1).await;
        let limit = usize::try_from(left).unwrap_or(usize::MAX);
        let n = from
            .read_buf(&mut tee.room(left).limit(limit))
            .await
            .map_err(Broken::Reading)?;
        if n == 0 {
            if until_close {
                return Ok(());
            }
            let why = format!("{left} of {length} bytes were still to come");
            return Err(Broken::Reading(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                why,
            )));
        }
        to.write_all(tee.fresh(n)).await.map_err(Broken::Writing)?;
        tee.read(n);
        if !until_close {
            left -= n as u64;
        }
    }
    Ok(())
}

async fn chunked(
    from: &mut ReadHalf<'_>,
    rest: &mut BytesMut,
    to: &mut WriteHalf<'_>,
    pending: &mut Vec<u8>,
    tee: &mut Tee,
) -> Result<(), Broken> {
    let mut walker = ChunkWalker::default();
    loop {
        tee.wait_for_room(rest.len() as u64).await;
        let n = walker
            .walk(rest, |payload| tee.copy(payload))
            .map_err(Broken::Framing)?;
        if pending.is_empty() || pending.len() + n > JOINED {
            if !pending.is_empty() {
                to.write_all(pending).await.map_err(Broken::Writing)?;
                pending.clear();
            }
            to.write_all(&rest[..n]).await.map_err(Broken::Writing)?;
        } else {
            pending.extend_from_slice(&rest[..n]);
            to.write_all(pending).await.map_err(Broken::Writing)?;
            pending.clear();
        }
        tee.forwarded();
        rest.advance(n);
        if walker.done() {
            tee.trailers(walker.into_trailers());
            return Ok(());
        }
        rest.reserve(JOINED);
        let n = from.read_buf(rest).await.map_err(Broken::Reading)?;
        if n == 0 {
            let why = "the last chunk did not come";
            return Err(Broken::Reading(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                why,
            )));
        }
    }
}
