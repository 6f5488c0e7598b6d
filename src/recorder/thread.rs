//! The recorder's loop.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use inferdiff_schemas::capture::{CaptureWriter, Ledger, weight};
use inferdiff_schemas::wire::{Keep, Models, decode};
use inferdiff_schemas::{Exchange, Outcome};
use tokio::sync::mpsc::UnboundedSender;
use ulid::Ulid;

use super::metadata::Wanted;
use super::sampling::Sampling;
use super::state::State;
use super::{Learned, Message};
use crate::proxy::{Budget, Permit, Taken};

/// While traffic runs the queue is emptied this often instead of once per exchange: a receiver that
/// sleeps needs no wake-up call from the proxy's thread.
const BATCH: Duration = Duration::from_millis(1);
/// Bytes of exchanges that are decoded before others get their turn: to yield after each small one
/// costs as much as to decode it.
const TURN: usize = 16 * 1024;
/// An idle recorder waits for its next message at most this long before it looks at the clock.
const IDLE: Duration = Duration::from_secs(1);

/// Models of which metadata is asked, at most.
const MAX_MODELS: usize = 256;

/// How hard the recorder works.
#[derive(Clone, Copy, PartialEq)]
enum Pace {
    /// At low priority, yielding every few exchanges: production's own threads, the model server's
    /// too where it shares the machine, come first.
    Gentle,
    /// As everybody else: more than a quarter of the memory budget is held, and drops are near.
    Urgent,
}

/// Why the loop was left.
#[derive(PartialEq)]
enum Left {
    Stopped,
    Switched,
}

/// Lowers the calling thread's priority (on Linux, "process 0" is the calling thread).
pub(super) fn lower_priority() {
    // Recording works without it as well.
    let _ = rustix::process::setpriority_process(None, 10);
}

pub(super) struct Thread {
    writer: CaptureWriter,
    messages: Receiver<Message>,
    accepted: Arc<AtomicU64>,
    recorder: Ulid,
    /// What is kept of an exchange.
    pub keep: Keep,
    /// What is known of the models behind the proxy.
    models: Models,
    ledger: Ledger,
    budget: Arc<Budget>,
    /// Memory of exchanges that are buffered and not yet on disk.
    held: Option<Permit>,
    /// The problem that was logged last: one line a problem, not one a checkpoint.
    logged: Option<String>,
    state: Arc<State>,
    want: UnboundedSender<Wanted>,
    /// Models that were asked about, by protocol.
    known: Vec<(String, String, Option<String>)>,
    /// Exchanges since the last publication: a handful of kinds, so a list is faster than a map.
    counts: Vec<(String, Outcome, u64)>,
    /// Bytes that the file system must keep free.
    pub min_free: u64,
    /// Which exchanges are recorded.
    pub sampling: Sampling,
    /// When its room was looked at last.
    looked: Option<Instant>,
}

impl Thread {
    pub fn new(
        writer: CaptureWriter,
        messages: Receiver<Message>,
        accepted: Arc<AtomicU64>,
        recorder: Ulid,
        state: Arc<State>,
        budget: Arc<Budget>,
        want: UnboundedSender<Wanted>,
    ) -> Self {
        Self {
            writer,
            messages,
            accepted,
            recorder,
            keep: Keep::default(),
            models: Models::default(),
            ledger: Ledger::default(),
            budget,
            held: None,
            logged: None,
            state,
            want,
            known: Vec::new(),
            counts: Vec::new(),
            min_free: 0,
            sampling: Sampling::default(),
            looked: None,
        }
    }

    pub fn run(mut self) -> Ledger {
        while self.at_low_priority() == Left::Switched && self.serve(Pace::Urgent) == Left::Switched
        {
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

    /// Serves on a thread of lower priority until there is too much to do for it. Priority can be
    /// lowered and not raised again, so it is a thread of its own.
    fn at_low_priority(&mut self) -> Left {
        std::thread::scope(|scope| {
            let low = std::thread::Builder::new().name("recorder".to_owned());
            match low.spawn_scoped(scope, || {
                lower_priority();
                self.serve(Pace::Gentle)
            }) {
                Ok(thread) => thread.join().unwrap_or_else(|p| resume_unwind(p)),
                // No thread to be had: the work is done all the same.
                Err(_) => Left::Switched,
            }
        })
    }

    /// The loop, until the end or until another pace is needed.
    fn serve(&mut self, pace: Pace) -> Left {
        self.writer.be_gentle(pace == Pace::Gentle);
        loop {
            match self.wait() {
                Some(Message::Stop) => return Left::Stopped,
                Some(message) => {
                    self.handle(message);
                    if self.drain(pace) {
                        return Left::Stopped;
                    }
                    self.publish();
                    if !self.suits(pace) {
                        return Left::Switched;
                    }
                    std::thread::sleep(BATCH);
                }
                None => {}
            }
            if self.writer.due(Instant::now()) {
                self.checkpoint();
            }
        }
    }

    /// Whether what is held allows this pace, or asks for it.
    fn suits(&self, pace: Pace) -> bool {
        let (held, limit) = (self.budget.held(), self.budget.limit());
        match pace {
            Pace::Gentle => held <= limit / 4,
            Pace::Urgent => held > limit / 8,
        }
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

    /// Handles what is queued, until another pace is needed; true where that includes the end.
    fn drain(&mut self, pace: Pace) -> bool {
        let mut decoded = 0;
        loop {
            if pace == Pace::Gentle && decoded >= TURN {
                if !self.suits(pace) {
                    return false;
                }
                // A burst of ours must not keep a core from those who serve.
                std::thread::yield_now();
                decoded = 0;
            }
            match self.messages.try_recv() {
                Ok(Message::Stop) | Err(TryRecvError::Disconnected) => return true,
                Ok(message) => {
                    decoded += message.bytes();
                    self.handle(message);
                }
                Err(TryRecvError::Empty) => return false,
            }
            if self.writer.due(Instant::now()) {
                self.checkpoint();
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Taken(_) if self.low_on_space() => self.ledger.drop("disk_watermark", 1),
            Message::Taken(taken) => self.append(*taken),
            Message::GivenUp(reason) => self.ledger.drop(reason, 1),
            Message::Learned(learned) => self.learn(*learned),
            Message::Reload(new) => {
                self.keep = new.keep;
                self.sampling = new.sampling;
                self.min_free = new.min_free;
                self.looked = None;
                self.writer.set_flush(new.flush_bytes, new.flush_age);
            }
            Message::Stop => {}
        }
    }

    fn append(&mut self, taken: Taken) {
        let Taken {
            mut raw,
            mut permit,
        } = taken;
        let chosen = self.sampling.before_decoding(&raw);
        if chosen == Some(false) {
            return self.ledger.drop("not_sampled", 1);
        }
        raw.sample_rate = self.sampling.rate;
        let gave_up = [raw.request_body.gave_up, raw.response_body.gave_up];
        let by = match (chosen, &self.sampling.by) {
            (None, Some(by)) => raw.request_header(by).map(str::to_owned),
            _ => None,
        };
        let (recorder, keep, models) = (self.recorder, &self.keep, &self.models);
        // A decoder that panics is our bug, but the recorder must outlive it.
        match catch_unwind(AssertUnwindSafe(|| decode(raw, recorder, keep, models))) {
            Ok(exchange) if chosen.is_none() && !self.sampling.of(&exchange, by.as_deref()) => {
                self.ledger.drop("not_sampled", 1);
            }
            Ok(exchange) => {
                for why in gave_up.into_iter().flatten() {
                    let given_up = &mut self.ledger.bodies_given_up;
                    *given_up.entry(why.to_owned()).or_default() += 1;
                }
                self.count(&exchange);
                // What is held now is the decoded exchange, not the bytes that it came from.
                permit.resize(weight(&exchange));
                self.writer.append(exchange);
                match &mut self.held {
                    Some(held) => held.absorb(Some(permit)),
                    None => self.held = Some(permit),
                }
            }
            Err(_) => self.ledger.drop("decode_panic", 1),
        }
    }

    /// Looks at the room that is left, once a second.
    fn low_on_space(&mut self) -> bool {
        if self.min_free == 0 {
            return false;
        }
        let low = &self.state.low_on_space;
        let now = Instant::now();
        if self.looked.is_none_or(|then| now - then >= IDLE) {
            self.looked = Some(now);
            let was = low.load(Relaxed);
            // A little more room before it resumes, so that it does not begin and end by turns.
            let needed = if was {
                self.min_free / 10 * 11
            } else {
                self.min_free
            };
            // A file system that does not tell is one that cannot be watched.
            let is = self.writer.free_bytes().is_ok_and(|free| free < needed);
            low.store(is, Relaxed);
            match (was, is) {
                (false, true) => tracing::error!(
                    "less than {} MiB are free: exchanges are dropped and counted until there is \
                     room again",
                    self.min_free >> 20
                ),
                (true, false) => tracing::warn!("there is room again: recording resumed"),
                _ => {}
            }
        }
        low.load(Relaxed)
    }

    fn count(&mut self, exchange: &Exchange) {
        if exchange.decode_error.is_some() {
            let protocol = exchange.protocol.clone();
            self.state
                .update(|books| *books.undecoded.entry(protocol).or_default() += 1);
        }
        let known = self.counts.iter_mut().find(|(protocol, outcome, _)| {
            *outcome == exchange.outcome && *protocol == exchange.protocol
        });
        match known {
            Some((.., n)) => *n += 1,
            None => self
                .counts
                .push((exchange.protocol.clone(), exchange.outcome, 1)),
        }
        let Some(model) = &exchange.model else {
            return;
        };
        let protocol = &exchange.protocol;
        // The answer names a version too; what is asked about is what the request named.
        let version = &exchange
            .model_version
            .clone()
            .filter(|_| exchange.path.contains("/versions/"));
        let asked = self
            .known
            .iter()
            .any(|(p, m, v)| p == protocol && m == model && v == version);
        // A client that makes names up must not make us ask without end.
        if !asked && self.known.len() < MAX_MODELS {
            self.known
                .push((protocol.clone(), model.clone(), version.clone()));
            if let Some(wanted) = Wanted::of(protocol, model, version.as_deref()) {
                // Nobody asks where the upstream must not be asked.
                let _ = self.want.send(wanted);
            }
        }
    }

    fn learn(&mut self, learned: Learned) {
        let Learned { route, of, answer } = learned;
        if let Some(Wanted { model, version, .. }) = of {
            // What is told in another form than the protocol's is kept, but teaches nothing.
            let _ = self
                .models
                .learn(&model, version.as_deref(), &answer["answer"]);
        }
        if let Err(e) = self.writer.learn_upstream(&route, answer) {
            tracing::warn!("the upstream's {route} could not be kept: {e}");
        }
    }

    /// Lets whoever watches see what happened since the last time.
    fn publish(&mut self) {
        let (ledger, counts, waiting) =
            (&self.ledger, &mut self.counts, self.writer.buffered() > 0);
        self.state.update(|books| {
            for (protocol, outcome, n) in counts.drain(..) {
                *books
                    .exchanges
                    .entry((protocol, outcome.name()))
                    .or_default() += n;
            }
            books.recorded = ledger.recorded;
            books.dropped.clone_from(&ledger.dropped);
            books.bodies_given_up.clone_from(&ledger.bodies_given_up);
            books.oldest = waiting.then(|| books.oldest.unwrap_or_else(Instant::now));
        });
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
                self.state.checkpointed(true);
                if self.logged.take().is_some() {
                    tracing::warn!("recording resumed");
                }
            }
            Err(e) => {
                self.state.checkpointed(false);
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
        let kept = self.writer.kept_bytes();
        match &mut self.held {
            Some(held) if kept > 0 => held.resize(kept),
            held => *held = None,
        }
        self.state.update(|books| books.oldest = None);
        self.publish();
    }
}
