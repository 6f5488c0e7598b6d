//! The one writer of a recorder process: buffers, checkpoints, rotates, keeps the books.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ulid::Ulid;

use super::buffer::Buffer;
use super::meta::write_json;
use super::recovery::Recovered;
use super::segment::Segment;
use super::turns::{MOST_GENTLE, Turns};
use super::{CaptureError, CaptureKey, CaptureMeta, Layout, Ledger, RecorderMeta, Upkeep};
use crate::Exchange;
use crate::storage::{Storage, WriteFile};

/// When written rows are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// `fdatasync` at every checkpoint.
    #[default]
    Checkpoint,
    /// Only when a segment is sealed: a power cut may lose the growing segment, a kill does not.
    Seal,
}

/// When the writer checkpoints and rotates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterOptions {
    /// Checkpoint at this many buffered bytes. Default 32 MiB.
    pub flush_bytes: u64,
    /// Checkpoint when the oldest buffered exchange is this old. Default 1 s.
    pub flush_age: Duration,
    /// Seal at this many row groups; every footer repeats all earlier ones. Default and most: 32;
    /// fewer where tiny row groups would let footers outgrow the write bound.
    pub max_row_groups: usize,
    /// Seal at this many bytes. Default 256 MiB.
    pub max_segment_bytes: u64,
    /// Seal at this age. Default 1 h.
    pub max_segment_age: Duration,
    /// When rows are made durable.
    pub sync: SyncPolicy,
    /// Encrypt segments with this key: each checkpoint is then a segment of its own, and merging
    /// makes large ones of them. Default none.
    pub encryption: Option<CaptureKey>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            flush_bytes: 32 << 20,
            flush_age: Duration::from_secs(1),
            max_row_groups: 32,
            max_segment_bytes: 256 << 20,
            max_segment_age: Duration::from_secs(3600),
            sync: SyncPolicy::Checkpoint,
            encryption: None,
        }
    }
}

/// Writes the exchanges of one recorder process into a capture.
pub struct CaptureWriter {
    storage: Arc<dyn Storage>,
    layout: Layout,
    recorder: Ulid,
    capture: CaptureMeta,
    meta: RecorderMeta,
    options: WriterOptions,
    segment: Option<Segment>,
    /// The segment begun last: the next one sorts behind it whatever the clock does.
    last_segment: Ulid,
    /// Segments whose writer failed and that could not be cut and sealed yet: they hold rows that
    /// were counted as dropped, so they stay locked until they are cut.
    broken: Vec<Segment>,
    /// Exchanges of the growing segment that no sync has made durable yet.
    unsynced: u64,
    buffer: Buffer,
    oldest: Option<Instant>,
    gentle: bool,
    /// Kept for its lock: while it lives, recovery leaves this recorder alone.
    _lock: Box<dyn WriteFile>,
}

impl CaptureWriter {
    /// Opens a capture for one recorder process: creates the directory, writes `_capture.json` if
    /// there is none, recovers what crashed recorders left, registers the recorder.
    ///
    /// # Errors
    /// [`CaptureError::TooNew`] for a capture of a newer format, [`CaptureError::Io`] and
    /// [`CaptureError::Damaged`] otherwise.
    pub fn open(
        storage: Arc<dyn Storage>,
        dir: &Path,
        meta: CaptureMeta,
        recorder: RecorderMeta,
        options: WriterOptions,
    ) -> Result<(Self, Vec<Recovered>), CaptureError> {
        let layout = Layout::new(dir);
        let id = Ulid::from_string(&recorder.recorder)
            .map_err(|e| CaptureError::damaged(dir, format!("recorder id: {e}")))?;
        establish(storage.as_ref(), &layout, &meta)?;
        // Where another process is at it, it recovers what there is.
        let upkeep = Upkeep::lock_known(storage.clone(), layout.clone())?;
        let recovered = match upkeep {
            Some(upkeep) => upkeep.with_key(options.encryption.clone()).recover()?,
            None => Vec::new(),
        };
        let lock = register(storage.as_ref(), &layout, id, &recorder)?;
        let writer = Self {
            storage,
            layout,
            recorder: id,
            capture: meta,
            meta: recorder,
            options,
            segment: None,
            last_segment: Ulid::nil(),
            broken: Vec::new(),
            unsynced: 0,
            buffer: Buffer::default(),
            oldest: None,
            gentle: false,
            _lock: lock,
        };
        Ok((writer, recovered))
    }

    /// Keeps what the upstream's metadata `route` answered in `_capture.json`.
    ///
    /// # Errors
    /// The file cannot be read or replaced.
    pub fn learn_upstream(
        &self,
        route: &str,
        answer: serde_json::Value,
    ) -> Result<(), CaptureError> {
        let storage = self.storage.as_ref();
        let mut meta = super::reader::read_meta(storage, &self.layout)?;
        if meta.upstream_metadata.get(route) == Some(&answer) {
            return Ok(());
        }
        meta.upstream_metadata.insert(route.to_owned(), answer);
        write_json(storage, &self.layout.meta(), &meta)
    }

    /// Changes when checkpoints are due: bytes buffered, age of the oldest exchange.
    pub fn set_flush(&mut self, bytes: u64, age: Duration) {
        self.options.flush_bytes = bytes;
        self.options.flush_age = age;
    }

    /// Whether a checkpoint gives others the core many times, for a quarter of the time that its oldest
    /// exchange has waited (and a quarter of a second at most): so that whoever serves need not wait for
    /// its end. Encrypted segments encode a row group in one go. Default: it does not.
    pub fn be_gentle(&mut self, gentle: bool) {
        self.gentle = gentle;
    }

    /// Bytes that can still be written to the capture's file system.
    ///
    /// # Errors
    /// It does not tell.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        self.storage.free_bytes(self.layout.root())
    }

    /// Buffers an exchange until the next checkpoint.
    pub fn append(&mut self, exchange: Exchange) {
        self.oldest.get_or_insert_with(Instant::now);
        self.buffer.push(exchange);
    }

    /// Bytes that the empty places of the buffer hold: under load it keeps what it has grown to.
    pub fn kept_bytes(&self) -> u64 {
        self.buffer.spare()
    }

    /// Exchanges buffered.
    pub fn buffered(&self) -> usize {
        self.buffer.exchanges().len()
    }

    /// True when a checkpoint is due by bytes or age, or the segment must be sealed by its age. A
    /// checkpoint of nothing buffered writes nothing.
    pub fn due(&self, now: Instant) -> bool {
        self.buffer.weight >= self.options.flush_bytes
            || self.next_due().is_some_and(|due| due <= now)
            || self.segment.as_ref().is_some_and(|s| {
                now.saturating_duration_since(s.opened) >= self.options.max_segment_age
            })
    }

    /// When the next checkpoint is due by age.
    pub fn next_due(&self) -> Option<Instant> {
        self.oldest.map(|oldest| oldest + self.options.flush_age)
    }

    /// Writes everything buffered as one row group with a complete footer, and rotates the segment
    /// where it is full. Moves the exchanges from `in_flight` to `recorded`.
    ///
    /// # Errors
    /// A storage error: the exchanges are then counted as dropped by its reason
    /// ([`CaptureError::drop_reason`]), the segment ends at its last checkpoint, and the next
    /// checkpoint begins a new one. A folder that has vanished is made again.
    pub fn checkpoint(&mut self, ledger: &mut Ledger) -> Result<(), CaptureError> {
        self.mend();
        if self.buffered() == 0 {
            return self.rotate(false, ledger);
        }
        // Where it fills before its time the next will be as large: to grow it anew each time is to
        // copy all of it, and to touch twice as much memory.
        let full = self.buffer.weight >= self.options.flush_bytes;
        let mut buffer = std::mem::take(&mut self.buffer);
        let waited = self.oldest.take().map_or(Duration::ZERO, |o| o.elapsed());
        let ended = buffer.ended;
        let mut after = ledger.clone();
        after.in_flight = after.in_flight.saturating_sub(ended);
        after.recorded += ended;
        let turns = match self.gentle {
            true => Turns::within(MOST_GENTLE.min(waited / 4)),
            false => Turns::NONE,
        };
        let written = self.write(&buffer, &after, turns);
        buffer.clear(full, turns);
        self.buffer = buffer;
        match written {
            Ok(()) => {
                *ledger = after;
                if self.options.sync == SyncPolicy::Seal {
                    self.unsynced += ended;
                }
                self.rotate(false, ledger)
            }
            Err(e) => {
                ledger.in_flight = ledger.in_flight.saturating_sub(ended);
                ledger.drop(e.drop_reason(), ended);
                if let Some(segment) = self.segment.take() {
                    self.broken.push(segment);
                    self.unsynced = 0;
                    self.mend();
                }
                Err(e)
            }
        }
    }

    fn write(
        &mut self,
        buffer: &Buffer,
        ledger: &Ledger,
        turns: Turns,
    ) -> Result<(), CaptureError> {
        if self.segment.as_ref().is_some_and(|s| !s.is_linked()) {
            // Removed under us, with everything in it; what comes now need not follow.
            self.segment = None;
        }
        let segment = match self.segment.take() {
            Some(segment) => segment,
            None => match self.begin() {
                Err(e) if e.is_not_found() => {
                    self.reestablish()?;
                    self.begin()?
                }
                // A recovering neighbour took the empty file for an abandoned one.
                Err(e) if e.already_exists() => self.begin()?,
                begun => begun?,
            },
        };
        let segment = self.segment.insert(segment);
        segment.checkpoint(buffer, ledger, turns)?;
        segment.commit(self.options.sync == SyncPolicy::Checkpoint)
    }

    fn begin(&mut self) -> Result<Segment, CaptureError> {
        self.last_segment = behind(self.last_segment, Ulid::generate());
        self.unsynced = 0;
        Segment::create(
            self.storage.as_ref(),
            &self.layout,
            self.recorder,
            self.last_segment,
            self.options.encryption.as_ref(),
        )
    }

    /// Makes the capture's folder again, after it has vanished.
    fn reestablish(&mut self) -> Result<(), CaptureError> {
        let storage = self.storage.as_ref();
        establish(storage, &self.layout, &self.capture)?;
        match register(storage, &self.layout, self.recorder, &self.meta) {
            Ok(lock) => self._lock = lock,
            // Only part of it had gone.
            Err(e) if e.already_exists() => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    fn rotate(&mut self, force: bool, ledger: &mut Ledger) -> Result<(), CaptureError> {
        let full = self.segment.as_ref().is_some_and(|s| {
            force
                || s.ended
                || s.row_groups >= self.options.max_row_groups
                || s.footers_outgrow_data()
                || s.durable >= self.options.max_segment_bytes
                || s.opened.elapsed() >= self.options.max_segment_age
        });
        let Some(mut segment) = self.segment.take_if(|_| full) else {
            return Ok(());
        };
        let unsynced = std::mem::take(&mut self.unsynced);
        if unsynced > 0
            && let Err(e) = segment.sync()
        {
            // No sync has ever succeeded, so nothing in the file may be trusted.
            ledger.recorded = ledger.recorded.saturating_sub(unsynced);
            ledger.drop(e.drop_reason(), unsynced);
            let _ = segment.discard(self.storage.as_ref());
            return Err(e);
        }
        let sealed = segment.seal(self.storage.as_ref(), &self.layout);
        if sealed.is_err() {
            self.broken.push(segment);
        }
        sealed
    }

    /// Cuts and seals segments that resisted before.
    fn mend(&mut self) {
        /// Each holds a descriptor; what is let go is left to recovery.
        const MOST: usize = 64;
        let (storage, layout) = (self.storage.as_ref(), &self.layout);
        self.broken.retain_mut(|s| {
            // Not found: it was renamed, and only the directory could not be synced.
            s.abandon(storage, layout).is_err_and(|e| !e.is_not_found())
        });
        let excess = self.broken.len().saturating_sub(MOST);
        self.broken.drain(..excess);
    }

    /// Last checkpoint, seal, final books.
    ///
    /// # Errors
    /// The first storage error; the books are written as far as the storage lets them.
    pub fn close(mut self, ledger: &mut Ledger, stopped: String) -> Result<(), CaptureError> {
        let last = self.checkpoint(ledger);
        let sealed = self.rotate(true, ledger);
        self.meta.ledger = ledger.clone();
        self.meta.stopped = Some(stopped);
        let path = self.layout.recorder(self.recorder);
        let books = write_json(self.storage.as_ref(), &path, &self.meta);
        let lock = self.layout.recorder_lock(self.recorder);
        let unlocked = self
            .storage
            .remove(&lock)
            .map_err(CaptureError::io("remove", &lock));
        last.and(sealed).and(books).and(unlocked)
    }
}

/// The id of the segment after `last`: `now`, unless the clock went backwards. Far enough apart that
/// replacements of segments find room between them.
fn behind(last: Ulid, now: Ulid) -> Ulid {
    now.max(Ulid::from(u128::from(last).saturating_add(1 << 32)))
}

/// Makes the folders of a capture, and `_capture.json` where there is none.
fn establish(
    storage: &dyn Storage,
    layout: &Layout,
    meta: &CaptureMeta,
) -> Result<(), CaptureError> {
    let folder = layout.recorders();
    storage
        .create_dir(&folder)
        .map_err(CaptureError::io("create", &folder))?;
    match super::reader::read_meta(storage, layout) {
        Ok(_) => Ok(()),
        Err(CaptureError::NotACapture { .. }) => write_json(storage, &layout.meta(), meta),
        Err(e) => Err(e),
    }
}

/// Takes the lock that says that the recorder lives, and opens its books.
fn register(
    storage: &dyn Storage,
    layout: &Layout,
    id: Ulid,
    recorder: &RecorderMeta,
) -> Result<Box<dyn WriteFile>, CaptureError> {
    let path = layout.recorder_lock(id);
    let lock = storage
        .create(&path)
        .map_err(CaptureError::io("create", &path))?;
    write_json(storage, &layout.recorder(id), recorder)?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_keep_their_order_when_the_clock_goes_backwards() {
        let early = Ulid::from_parts(1_000, 5);
        let late = Ulid::from_parts(2_000, 5);
        assert_eq!(behind(early, late), late);
        let next = behind(late, early);
        assert!(next > late && behind(next, early) > next);
        assert!(u128::from(next) - u128::from(late) >= 1 << 32);
    }
}
