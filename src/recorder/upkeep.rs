//! Recovery, merging and retention beside recording, on a thread of its own.
//!
//! Recording comes first: upkeep pauses while the disk is behind, and has a rate of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use inferdiff_schemas::capture::{CaptureError, CaptureKey, MergeOptions, Retention, Step, Upkeep};
use inferdiff_schemas::storage::Storage;

use super::state::State;
use crate::proxy::Budget;

/// Work that has to pause for longer gives its memory back and begins again later.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is done beside recording.
#[derive(Debug, Clone, PartialEq)]
pub struct UpkeepOptions {
    /// Time between two rounds. Default 10 s.
    pub every: Duration,
    /// Merge sealed neighbours. Default true.
    pub merge: bool,
    /// Bytes read and written per second, at most. Default 32 MiB.
    pub rate: u64,
    /// What leaves. Default: nothing.
    pub retention: Retention,
}

impl Default for UpkeepOptions {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(10),
            merge: true,
            rate: 32 << 20,
            retention: Retention::default(),
        }
    }
}

/// The upkeep thread's own end.
pub(super) struct UpkeepThread {
    stopping: Arc<AtomicBool>,
    handle: JoinHandle<()>,
}

/// What the thread works with.
struct Worker {
    storage: Arc<dyn Storage>,
    capture: PathBuf,
    options: Arc<Mutex<UpkeepOptions>>,
    state: Arc<State>,
    budget: Arc<Budget>,
    key: Option<CaptureKey>,
    stopping: Arc<AtomicBool>,
    /// The problem that was logged last.
    logged: Option<String>,
}

/// Starts the thread.
pub(super) fn start(
    storage: Arc<dyn Storage>,
    capture: &Path,
    options: Arc<Mutex<UpkeepOptions>>,
    state: Arc<State>,
    budget: Arc<Budget>,
    key: Option<CaptureKey>,
) -> std::io::Result<UpkeepThread> {
    let stopping = Arc::new(AtomicBool::new(false));
    let worker = Worker {
        storage,
        capture: capture.to_owned(),
        options,
        state,
        budget,
        key,
        stopping: stopping.clone(),
        logged: None,
    };
    let handle = std::thread::Builder::new()
        .name("upkeep".to_owned())
        .spawn(move || {
            super::thread::lower_priority();
            worker.run();
        })?;
    Ok(UpkeepThread { stopping, handle })
}

impl UpkeepThread {
    /// Stops what can be taken up again later, and waits for the rest.
    pub fn stop(self) {
        self.stopping.store(true, Relaxed);
        self.handle.thread().unpark();
        // A panic in there has cost nothing but its own work.
        let _ = self.handle.join();
    }
}

impl Worker {
    fn run(mut self) {
        let mut last = Instant::now();
        while !self.stopping.load(Relaxed) {
            let every = self.options().every;
            let rest = every.saturating_sub(last.elapsed());
            if !rest.is_zero() {
                std::thread::park_timeout(rest);
                continue;
            }
            match self.round() {
                Ok(()) => self.logged = None,
                Err(e) => {
                    let problem = e.to_string();
                    if self.logged.as_ref() != Some(&problem) {
                        tracing::warn!("upkeep of the capture: {problem}; it is tried again");
                        self.logged = Some(problem);
                    }
                }
            }
            last = Instant::now();
        }
    }

    fn options(&self) -> UpkeepOptions {
        let options = self.options.lock();
        options.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn round(&self) -> Result<(), CaptureError> {
        if self.pressed(0) {
            return Ok(());
        }
        let options = self.options();
        // Another recorder of this capture may be at it; one is enough.
        let Some(upkeep) = Upkeep::lock(self.storage.clone(), &self.capture)? else {
            return Ok(());
        };
        let upkeep = upkeep.with_key(self.key.clone());
        for r in upkeep.recover()? {
            tracing::warn!(
                "segment {} of a recorder that died: {}",
                r.segment,
                r.action
            );
        }
        let now = jiff::Timestamp::now().as_nanosecond();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let retired = upkeep.retain(&options.retention, now)?;
        self.state.retired.fetch_add(retired.exchanges, Relaxed);
        if options.merge {
            let started = Instant::now();
            let mut moved = 0u64;
            // What merging holds is part of the recorder's budget.
            let mut permit = self.budget.permit();
            let pace = &mut |step: Step| {
                moved += step.moved;
                permit.resize(step.held);
                self.pace(started, moved, options.rate, step.held)
            };
            let merged = upkeep.merge(&MergeOptions::default(), pace)?;
            self.state.merged.fetch_add(merged.replaced, Relaxed);
        }
        Ok(())
    }

    /// Waits for the rate and for recording; false where the process ends, or recording needs the
    /// memory that is held meanwhile.
    fn pace(&self, started: Instant, moved: u64, rate: u64, held: u64) -> bool {
        let begun = Instant::now();
        let micros = moved.saturating_mul(1_000_000) / rate.max(1);
        let due = started + Duration::from_micros(micros);
        loop {
            if self.stopping.load(Relaxed) {
                return false;
            }
            let early = due.saturating_duration_since(Instant::now());
            let pressed = self.pressed(held);
            if early.is_zero() && !pressed {
                return true;
            }
            if pressed && held > 0 && begun.elapsed() > LONGEST_PAUSE {
                return false;
            }
            std::thread::park_timeout(
                early.clamp(Duration::from_millis(1), Duration::from_millis(50)),
            );
        }
    }

    /// True while the disk has no time for anything but recording.
    ///
    /// `own`: what of the budget this thread holds itself.
    fn pressed(&self, own: u64) -> bool {
        self.state.failing.load(Relaxed)
            || self.budget.held().saturating_sub(own) > self.budget.limit() / 4
            || self.state.flush_lag() > Duration::from_secs(3)
    }
}
