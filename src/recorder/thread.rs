//! The recorder's loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use inferdiff_schemas::capture::{CaptureWriter, Ledger};
use inferdiff_schemas::wire::{Keep, Models, decode};
use ulid::Ulid;

use super::Message;
use crate::proxy::{Permit, Taken};

/// While traffic runs the queue is emptied this often instead of once per exchange: a receiver that
/// sleeps needs no wake-up call from the proxy's thread.
const BATCH: Duration = Duration::from_millis(5);
/// An idle recorder waits for its next message at most this long before it looks at the clock.
const IDLE: Duration = Duration::from_secs(1);

pub(super) struct Thread {
    writer: CaptureWriter,
    messages: Receiver<Message>,
    accepted: Arc<AtomicU64>,
    recorder: Ulid,
    keep: Keep,
    /// What is known of the models behind the proxy.
    models: Models,
    ledger: Ledger,
    /// Memory of exchanges that are buffered and not yet on disk.
    held: Vec<Permit>,
    /// The problem that was logged last: one line a problem, not one a checkpoint.
    logged: Option<String>,
}

impl Thread {
    pub fn new(
        writer: CaptureWriter,
        messages: Receiver<Message>,
        accepted: Arc<AtomicU64>,
        recorder: Ulid,
        keep: Keep,
    ) -> Self {
        Self {
            writer,
            messages,
            accepted,
            recorder,
            keep,
            models: Models::default(),
            ledger: Ledger::default(),
            held: Vec::new(),
            logged: None,
        }
    }

    pub fn run(mut self) -> Ledger {
        loop {
            match self.wait() {
                Some(Message::Stop) => break,
                Some(message) => {
                    self.handle(message);
                    if self.drain() {
                        break;
                    }
                    std::thread::sleep(BATCH);
                }
                None => {}
            }
            if self.writer.due(Instant::now()) {
                self.checkpoint();
            }
        }
        self.balance();
        let stopped = jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        if let Err(e) = self.writer.close(&mut self.ledger, stopped) {
            tracing::error!("the capture could not be closed properly: {e}");
        }
        self.ledger
    }

    fn wait(&self) -> Option<Message> {
        let due = self
            .writer
            .next_due()
            .map(|due| due.saturating_duration_since(Instant::now()));
        match self.messages.recv_timeout(due.unwrap_or(IDLE).min(IDLE)) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Message::Stop),
        }
    }

    /// Handles everything queued; true where that includes the end.
    fn drain(&mut self) -> bool {
        loop {
            match self.messages.try_recv() {
                Ok(Message::Stop) | Err(TryRecvError::Disconnected) => return true,
                Ok(message) => self.handle(message),
                Err(TryRecvError::Empty) => return false,
            }
            if self.writer.due(Instant::now()) {
                self.checkpoint();
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Taken(taken) => self.append(*taken),
            Message::GivenUp(reason) => self.ledger.drop(reason, 1),
            Message::Stop => {}
        }
    }

    fn append(&mut self, taken: Taken) {
        let Taken { raw, permit } = taken;
        let (recorder, keep, models) = (self.recorder, &self.keep, &self.models);
        // A decoder that panics is our bug, but the recorder must outlive it.
        match catch_unwind(AssertUnwindSafe(|| decode(raw, recorder, keep, models))) {
            Ok(exchange) => {
                self.writer.append(exchange);
                self.held.push(permit);
            }
            Err(_) => self.ledger.drop("decode_panic", 1),
        }
    }

    /// accepted = recorded + Σ dropped + in_flight: what is neither of the two is in flight.
    fn balance(&mut self) {
        let ledger = &mut self.ledger;
        ledger.accepted = self.accepted.load(Relaxed);
        ledger.in_flight = ledger
            .accepted
            .saturating_sub(ledger.recorded + ledger.dropped_total());
    }

    fn checkpoint(&mut self) {
        self.balance();
        match self.writer.checkpoint(&mut self.ledger) {
            Ok(()) => {
                if self.logged.take().is_some() {
                    tracing::warn!("recording resumed");
                }
            }
            Err(e) => {
                let problem = e.to_string();
                let known = match &e {
                    inferdiff_schemas::capture::CaptureError::Io { action, source, .. } => {
                        format!("{action} {:?}", source.kind())
                    }
                    _ => problem.clone(),
                };
                if self.logged.as_ref() != Some(&known) {
                    tracing::error!("{problem}; exchanges are dropped and counted until it works");
                    self.logged = Some(known);
                }
            }
        }
        self.held.clear();
    }
}
