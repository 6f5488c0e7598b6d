//! `RawExchange → wire decode → Exchange → RecordBatch → Segment`, on a thread of its own.
//!
//! Nothing here can delay, change or fail an exchange: the proxy hands copies over and goes on.

mod metadata;
mod sampling;
mod state;
mod thread;
mod upkeep;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use inferdiff_schemas::capture::{
    CaptureError, CaptureMeta, CaptureWriter, Ledger, RecorderMeta, Recovered, WriterOptions,
};
use inferdiff_schemas::storage::Storage;
use inferdiff_schemas::wire::Keep;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use ulid::Ulid;

use crate::proxy::{Budget, Taken, Tap};

pub use metadata::{Wanted, inquire};
pub use sampling::Sampling;
pub use state::{Books, State};
pub use upkeep::UpkeepOptions;

enum Message {
    Taken(Box<Taken>),
    GivenUp(&'static str),
    Learned(Box<Learned>),
    Reload(Box<Reload>),
    Stop,
}

impl Message {
    /// What it is to be decoded for, roughly.
    fn bytes(&self) -> usize {
        /// Heads, and what every row costs.
        const EACH: usize = 1024;
        match self {
            Self::Taken(taken) => {
                let raw = &taken.raw;
                EACH + raw.request_body.data.len() + raw.response_body.data.len()
            }
            _ => 0,
        }
    }
}

/// What can change while a recorder runs.
pub struct Reload {
    /// What is kept.
    pub keep: Keep,
    /// Which exchanges are recorded.
    pub sampling: Sampling,
    /// Bytes that the file system must keep free.
    pub min_free: u64,
    /// Checkpoint at this many buffered bytes.
    pub flush_bytes: u64,
    /// Checkpoint at this age of the oldest buffered exchange.
    pub flush_age: Duration,
    /// What is done beside recording.
    pub upkeep: UpkeepOptions,
}

/// What the upstream said of itself.
struct Learned {
    route: String,
    of: Option<Wanted>,
    answer: Value,
}

/// The proxy's end of the recorder.
pub struct Recorder {
    sender: Sender<Message>,
    /// Also the number of accepted exchanges.
    next: Arc<AtomicU64>,
    budget: Arc<Budget>,
    state: Arc<State>,
    upkeep: Arc<Mutex<UpkeepOptions>>,
}

/// The recorder's thread.
pub struct RecorderThread {
    handle: JoinHandle<Ledger>,
    upkeep: upkeep::UpkeepThread,
    sender: Sender<Message>,
    wanted: Option<UnboundedReceiver<Wanted>>,
}

/// What to record where.
pub struct RecorderOptions<'a> {
    /// The storage.
    pub storage: Arc<dyn Storage>,
    /// The capture's directory.
    pub capture: &'a Path,
    /// `_capture.json`, where there is none yet.
    pub meta: CaptureMeta,
    /// This process.
    pub recorder: RecorderMeta,
    /// When to checkpoint and rotate.
    pub writer: WriterOptions,
    /// What is kept.
    pub keep: Keep,
    /// Which exchanges are recorded.
    pub sampling: Sampling,
    /// Bytes captured and not yet on disk.
    pub memory_budget: u64,
    /// Over the budget, wait instead of giving copies up.
    pub block: bool,
    /// What is done beside recording.
    pub upkeep: UpkeepOptions,
    /// The file system must keep this many bytes free: below, exchanges are dropped
    /// (`disk_watermark`) until there is room again. 0 = no watermark.
    pub min_free: u64,
}

/// Opens the capture (recovering what a crash left) and starts the recorder's thread.
///
/// # Errors
/// [`CaptureError`]: nothing is recorded, and nothing should be served as if it were.
pub fn start(
    options: RecorderOptions<'_>,
) -> Result<(Arc<Recorder>, RecorderThread, Vec<Recovered>), CaptureError> {
    let id = Ulid::from_string(&options.recorder.recorder)
        .map_err(|e| CaptureError::damaged(options.capture, format!("recorder id: {e}")))?;
    let key = options.writer.encryption.clone();
    let (writer, recovered) = CaptureWriter::open(
        options.storage.clone(),
        options.capture,
        options.meta,
        options.recorder,
        options.writer,
    )?;
    let (sender, receiver): (Sender<Message>, Receiver<Message>) = channel();
    let next = Arc::new(AtomicU64::new(0));
    let budget = Budget::new(options.memory_budget, options.block);
    let state = Arc::new(State::default());
    let (want, wanted) = unbounded_channel();
    let upkeep_options = Arc::new(Mutex::new(options.upkeep));
    let recorder = Recorder {
        sender: sender.clone(),
        next: next.clone(),
        budget: budget.clone(),
        state: state.clone(),
        upkeep: upkeep_options.clone(),
    };
    let upkeep = upkeep::start(
        options.storage,
        options.capture,
        upkeep_options,
        state.clone(),
        budget.clone(),
        key,
    )
    .map_err(CaptureError::io("start the upkeep of", options.capture))?;
    let mut run = thread::Thread::new(writer, receiver, next, id, state, budget, want);
    run.keep = options.keep;
    run.min_free = options.min_free;
    run.sampling = options.sampling;
    let handle = std::thread::Builder::new()
        .name("recorder".to_owned())
        .spawn(move || run.run())
        .map_err(CaptureError::io("start the recorder of", options.capture))?;
    Ok((
        Arc::new(recorder),
        RecorderThread {
            handle,
            upkeep,
            sender,
            wanted: Some(wanted),
        },
        recovered,
    ))
}

impl Recorder {
    /// Exchanges accepted.
    pub fn accepted(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// Bytes captured and not yet on disk.
    pub fn held(&self) -> u64 {
        self.budget.held()
    }

    /// The budget for them.
    pub fn limit(&self) -> u64 {
        self.budget.limit()
    }

    /// Records otherwise from the next exchange on.
    pub fn reload(&self, new: Reload) {
        let mut upkeep = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        upkeep.clone_from(&new.upkeep);
        let _ = self.sender.send(Message::Reload(Box::new(new)));
    }

    /// What the recorder says of itself.
    pub fn state(&self) -> &State {
        &self.state
    }

    fn learn(&self, route: String, of: Option<Wanted>, answer: Value) {
        let _ = self
            .sender
            .send(Message::Learned(Box::new(Learned { route, of, answer })));
    }
}

impl Tap for Recorder {
    fn accept(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    fn take(&self, taken: Taken) {
        // The receiver outlives every proxy task; where it does not, nobody counts any more.
        let _ = self.sender.send(Message::Taken(Box::new(taken)));
    }

    fn give_up(&self, reason: &'static str) {
        let _ = self.sender.send(Message::GivenUp(reason));
    }

    fn budget(&self) -> Option<&Arc<Budget>> {
        Some(&self.budget)
    }
}

impl RecorderThread {
    /// The models whose metadata the recorder would like to know; for [`inquire`]. Once only.
    pub fn take_wanted(&mut self) -> Option<UnboundedReceiver<Wanted>> {
        self.wanted.take()
    }

    /// Writes what is left, seals, and returns the final books.
    ///
    /// Call it when the proxy has ended: what is taken later is lost.
    pub fn stop(self) -> Ledger {
        let _ = self.sender.send(Message::Stop);
        self.upkeep.stop();
        self.handle.join().unwrap_or_default()
    }
}

/// Copies nothing: for measuring the proxy alone.
#[derive(Default)]
pub struct NoRecorder(AtomicU64);

impl Tap for NoRecorder {
    fn accept(&self) -> u64 {
        self.0.fetch_add(1, Relaxed)
    }
    fn take(&self, _: Taken) {}
    fn give_up(&self, _: &'static str) {}
    fn budget(&self) -> Option<&Arc<Budget>> {
        None
    }
}
