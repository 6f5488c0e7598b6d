//! Where a stage process is, told while it works: an engine that hangs cannot tell it itself.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use inferdiff_schemas::Exchange;
use ulid::Ulid;

use super::StageMessage;

/// How often it is told.
const EVERY: Duration = Duration::from_millis(100);

/// Written by the thread that replays, read by the one that tells.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<Now>);

#[derive(Debug, Default, Clone, Copy)]
struct Now {
    at: Option<(Ulid, u64)>,
    /// Changes with every step; so only the teller needs a clock.
    turn: u64,
    done: u64,
}

impl Pulse {
    fn step(&self, change: impl FnOnce(&mut Now)) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.turn += 1;
        change(&mut now);
    }

    /// The exchange is about to be replayed.
    pub fn begin(&self, exchange: &Exchange) {
        self.step(|now| now.at = Some((exchange.recorder, exchange.seq)));
    }

    /// The exchange is done.
    pub fn end(&self) {
        self.step(|now| (now.at, now.done) = (None, now.done + 1));
    }

    /// So many exchanges were done before.
    pub fn skip(&self, exchanges: u64) {
        self.step(|now| now.done += exchanges);
    }

    /// Exchanges done so far.
    pub fn done(&self) -> u64 {
        self.now().done
    }

    fn now(&self) -> Now {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` and meanwhile tells where it is.
    pub fn beside<T>(&self, tell: &(dyn Fn(&StageMessage) + Sync), work: impl FnOnce() -> T) -> T {
        let (working, ended) = channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut last = self.now();
                let mut since = Instant::now();
                while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                    let now = self.now();
                    if now.turn != last.turn {
                        (last, since) = (now, Instant::now());
                    }
                    tell(&StageMessage::Pulse {
                        at: now.at.map(|(recorder, seq)| Exchange::id_of(recorder, seq)),
                        ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
                        done: now.done,
                    });
                }
            });
            let out = work();
            drop(working);
            out
        })
    }
}
