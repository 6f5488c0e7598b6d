//! The captured copy of one body. It gives up, the stream never does.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use inferdiff_schemas::raw::Frames;
use inferdiff_schemas::tensor::MAX_PAYLOAD_BYTES;
use inferdiff_schemas::{Frame, Headers, RawBody};

use super::budget::{Budget, Permit, allocated};

/// A body's copy, or the reason why there is none. The same buffer is what the socket is read
/// into, so that copying costs no copy.
pub struct Tee {
    buffer: BytesMut,
    /// What of the permit is for the buffer.
    charged: u64,
    permit: Option<Permit>,
    gave_up: Option<&'static str>,
    seen: u64,
    frames: Frames,
    trailers: Headers,
    forwarded: Option<Instant>,
    arrived: Instant,
    complete: bool,
}

/// Streams of very many small pieces keep the times of the first so many.
const MAX_FRAMES: usize = 4096;
/// What one read may bring.
const STEP: usize = 256 * 1024;
/// A declared length is believed up to here; beyond, memory is taken as bytes arrive.
const BELIEVED: usize = 1024 * 1024;

impl Tee {
    /// A tee under `budget`; `None` copies nothing.
    pub fn new(budget: Option<&Arc<Budget>>, arrived: Instant) -> Self {
        Self {
            buffer: BytesMut::new(),
            charged: 0,
            permit: budget.map(Budget::permit),
            gave_up: None,
            seen: 0,
            frames: Frames::new(),
            trailers: Headers::default(),
            forwarded: None,
            arrived,
            complete: false,
        }
    }

    /// False where nothing is ever copied.
    pub fn is_wanted(&self) -> bool {
        self.permit.is_some()
    }

    /// Room for the next read of a body that has at most `left` more bytes.
    pub fn room(&mut self, left: u64) -> &mut BytesMut {
        if self.copies() && self.seen + 1 > MAX_PAYLOAD_BYTES {
            self.give_up("over_limit");
        }
        if !self.copies() {
            self.buffer.clear();
            self.buffer.reserve(STEP);
            return &mut self.buffer;
        }
        if self.buffer.capacity() == self.buffer.len() {
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            // The first time as declared, then by doubling.
            let wanted = if self.buffer.is_empty() {
                left.min(BELIEVED)
            } else {
                left.min(self.buffer.len())
            };
            self.grow(wanted.max(1));
            if !self.copies() {
                return self.room(left as u64);
            }
        }
        &mut self.buffer
    }

    /// Under `--on-pressure block`: waits for memory for the next `bytes`.
    pub async fn wait_for_room(&self, bytes: u64) {
        let free = self.buffer.capacity() - self.buffer.len();
        if let (Some(permit), true) = (&self.permit, self.copies() && (free as u64) < bytes) {
            let held = self.buffer.len() as u64;
            let more = bytes.min(BELIEVED as u64).max(held);
            let wanted = allocated(held + more).saturating_sub(self.charged);
            permit.budget().room(wanted).await;
        }
    }

    fn grow(&mut self, bytes: usize) {
        let Some(permit) = &mut self.permit else {
            return;
        };
        let wanted = allocated((self.buffer.len() + bytes) as u64);
        let more = wanted.saturating_sub(self.charged);
        if !permit.grow(more) {
            return self.give_up("memory_budget");
        }
        self.charged += more;
        self.buffer.reserve(bytes);
        // It may be given more than was asked for: all of it is held.
        let more = allocated(self.buffer.capacity() as u64).saturating_sub(self.charged);
        if !permit.grow(more) {
            return self.give_up("memory_budget");
        }
        self.charged += more;
    }

    /// Says that the last `n` bytes of the buffer were just read.
    pub fn read(&mut self, n: usize) {
        self.frame(n);
    }

    /// The bytes that were just read.
    pub fn fresh(&self, n: usize) -> &[u8] {
        &self.buffer[self.buffer.len() - n..]
    }

    /// Copies bytes that were read elsewhere (rests behind a head, chunk payload).
    pub fn copy(&mut self, bytes: &[u8]) {
        if self.copies() && self.seen + bytes.len() as u64 > MAX_PAYLOAD_BYTES {
            self.give_up("over_limit");
        }
        if self.copies() && self.buffer.capacity() - self.buffer.len() < bytes.len() {
            self.grow(bytes.len().max(self.buffer.len()));
        }
        if self.copies() {
            self.buffer.extend_from_slice(bytes);
        }
        self.frame(bytes.len());
    }

    /// Makes room for a known length, so that `copy` of its beginning does not reserve twice.
    pub fn expect(&mut self, length: u64) {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(BELIEVED);
        if self.copies() && length > 0 {
            self.grow(length);
        }
    }

    fn frame(&mut self, n: usize) {
        if n > 0 && self.copies() && self.frames.len() < MAX_FRAMES && self.has_frame() {
            let at_ns = u64::try_from(self.arrived.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.frames.push(Frame {
                at_ns,
                offset: self.seen,
                length: n as u64,
            });
        }
        self.seen += n as u64;
    }

    /// Room for one frame more; pieces may be single bytes, whose frames weigh more than they do.
    fn has_frame(&mut self) -> bool {
        if self.frames.len() < self.frames.capacity() {
            return true;
        }
        let more = self.frames.len().max(4);
        let bytes = more * size_of::<Frame>();
        let granted = self.permit.as_mut().is_some_and(|p| p.grow(bytes as u64));
        if granted {
            self.frames.reserve_exact(more);
        }
        granted
    }

    fn copies(&self) -> bool {
        self.permit.is_some() && self.gave_up.is_none()
    }

    fn give_up(&mut self, why: &'static str) {
        self.gave_up = Some(why);
        self.buffer = BytesMut::new();
        self.charged = 0;
        self.frames = Frames::new();
        if let Some(permit) = &mut self.permit {
            permit.shrink_to(0);
        }
    }

    /// Bytes that crossed so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Says that the head, or the first of the body, has just been written to the other side.
    pub fn forwarded(&mut self) {
        self.forwarded.get_or_insert_with(Instant::now);
    }

    /// When that was.
    pub fn first_forwarded(&self) -> Option<Instant> {
        self.forwarded
    }

    /// Keeps the trailers.
    pub fn trailers(&mut self, trailers: Headers) {
        self.trailers = trailers;
    }

    /// The body ended as its framing says.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// The copy, the trailers, and the copy's share of the budget.
    pub fn finish(self) -> (RawBody, Headers, Option<Permit>) {
        let whole = self.permit.is_some() && self.gave_up.is_none();
        let data = if whole {
            self.buffer.freeze()
        } else {
            bytes::Bytes::new()
        };
        let body = RawBody {
            data,
            seen: self.seen,
            frames: self.frames,
            complete: self.complete,
            gave_up: self.gave_up,
        };
        (body, self.trailers, self.permit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_copy_that_may_wait_waits_for_all_that_it_will_hold() {
        let budget = Budget::new(200_000, true);
        let mut queued = budget.permit();
        // What is left is enough for the bytes, and not for what their allocation takes.
        assert!(queued.grow(90_000));
        queued.hand_over();
        let mut tee = Tee::new(Some(&budget), Instant::now());
        let waited = tokio::time::timeout(
            std::time::Duration::from_millis(60),
            tee.wait_for_room(100_000),
        );
        assert!(waited.await.is_err());
        drop(queued);
        tee.wait_for_room(100_000).await;
        tee.expect(100_000);
        let piece = vec![7; 16_384];
        for sent in (0..100_000).step_by(piece.len()) {
            let piece = &piece[..piece.len().min(100_000 - sent)];
            tee.wait_for_room(piece.len() as u64).await;
            tee.copy(piece);
        }
        assert!(allocated(100_000) <= budget.held());
        let (body, _, _) = tee.finish();
        assert_eq!((body.gave_up, body.data.len()), (None, 100_000));
    }
}
