//! `RawExchange → wire decode → Exchange → RecordBatch → Segment`, on a thread of its own.
//!
//! Nothing here can delay, change or fail an exchange: the proxy hands copies over and goes on.

mod thread;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use inferdiff_schemas::capture::{
    CaptureError, CaptureMeta, CaptureWriter, Ledger, RecorderMeta, Recovered, WriterOptions,
};
use inferdiff_schemas::storage::Storage;
use inferdiff_schemas::wire::Keep;
use ulid::Ulid;

use crate::proxy::{Budget, Taken, Tap};

enum Message {
    Taken(Box<Taken>),
    GivenUp(&'static str),
    Stop,
}

/// The proxy's end of the recorder.
pub struct Recorder {
    sender: Sender<Message>,
    /// Also the number of accepted exchanges.
    next: Arc<AtomicU64>,
    budget: Arc<Budget>,
}

/// The recorder's thread.
pub struct RecorderThread {
    handle: JoinHandle<Ledger>,
    sender: Sender<Message>,
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
    /// Bytes captured and not yet on disk.
    pub memory_budget: u64,
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
    let (writer, recovered) = CaptureWriter::open(
        options.storage,
        options.capture,
        options.meta,
        options.recorder,
        options.writer,
    )?;
    let (sender, receiver): (Sender<Message>, Receiver<Message>) = channel();
    let next = Arc::new(AtomicU64::new(0));
    let budget = Budget::new(options.memory_budget);
    let recorder = Recorder {
        sender: sender.clone(),
        next: next.clone(),
        budget,
    };
    let run = thread::Thread::new(writer, receiver, next, id, options.keep);
    let handle = std::thread::Builder::new()
        .name("recorder".to_owned())
        .spawn(move || run.run())
        .map_err(CaptureError::io("start the recorder of", options.capture))?;
    Ok((
        Arc::new(recorder),
        RecorderThread { handle, sender },
        recovered,
    ))
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
    /// Writes what is left, seals, and returns the final books.
    ///
    /// Call it when the proxy has ended: what is taken later is lost.
    pub fn stop(self) -> Ledger {
        let _ = self.sender.send(Message::Stop);
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
