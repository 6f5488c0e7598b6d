//! A storage that fails and slows down on request, over any other storage.
//!
//! Faults can be armed and healed while others write, so that a test (or `inferdiff record
//! --storage-fault`) sees what a real disk does: it fills up, goes away, comes back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::fault::{Fault, Operation};
use super::{Entry, ReadFile, Storage, WriteFile};

/// Passes everything on to `inner`, except what its faults say.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn Storage>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    faults: Vec<Armed>,
    throttle: Option<Throttle>,
    /// What segments are given vanishes.
    discards: bool,
}

struct Armed {
    fault: Fault,
    /// Calls (bytes, for writes) that it let pass.
    passed: u64,
    /// Calls that it made fail.
    failed: u64,
}

struct Throttle {
    bytes_per_second: u64,
    /// When everything written so far would be on such a disk.
    busy_until: Instant,
}

impl Faulty {
    /// A storage without faults over `inner`.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self {
            inner,
            shared: Arc::default(),
        }
    }

    /// Adds a fault; those that are armed already come first.
    pub fn arm(&self, fault: Fault) {
        self.lock().faults.push(Armed {
            fault,
            passed: 0,
            failed: 0,
        });
    }

    /// Takes every fault away; the throttle stays.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Writes take as long as on a disk of that speed; `None` = as fast as `inner`.
    pub fn throttle(&self, bytes_per_second: Option<u64>) {
        self.lock().throttle = bytes_per_second.map(|rate| Throttle {
            bytes_per_second: rate.max(1),
            busy_until: Instant::now(),
        });
    }

    /// What is written to segments vanishes, at no cost: recording is measured without its disk.
    pub fn discard(&self) {
        self.lock().discards = true;
    }

    /// Calls that failed because of a fault so far.
    pub fn failed(&self) -> u64 {
        self.lock().faults.iter().map(|a| a.failed).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails where an armed fault says so. `amount` is 1, or the bytes of a write.
    ///
    /// The error comes with how much of `amount` goes through before it.
    fn check(&self, on: Operation, path: &Path, amount: u64) -> Result<(), (u64, io::Error)> {
        for armed in &mut self.lock().faults {
            if !armed.fault.concerns(on, path) || armed.failed >= armed.fault.times {
                continue;
            }
            let room = armed.fault.after.saturating_sub(armed.passed);
            if amount <= room {
                armed.passed += amount;
                continue;
            }
            armed.passed += room;
            armed.failed += 1;
            return Err((room, armed.fault.error()));
        }
        Ok(())
    }

    fn call(&self, on: Operation, path: &Path) -> io::Result<()> {
        self.check(on, path, 1).map_err(|(_, e)| e)
    }

    /// Waits for the disk that the throttle imitates.
    fn pace(&self, bytes: u64) {
        let wait = {
            let mut shared = self.lock();
            let Some(throttle) = &mut shared.throttle else {
                return;
            };
            let now = Instant::now();
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(throttle.bytes_per_second);
            let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            throttle.busy_until = throttle.busy_until.max(now) + takes;
            throttle.busy_until - now
        };
        std::thread::sleep(wait);
    }

    fn write(&self, path: &Path, file: Box<dyn WriteFile>) -> Box<dyn WriteFile> {
        Box::new(FaultyWrite {
            file,
            path: path.to_owned(),
            storage: self.clone(),
        })
    }
}

struct FaultyWrite {
    file: Box<dyn WriteFile>,
    path: PathBuf,
    storage: Faulty,
}

impl WriteFile for FaultyWrite {
    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        let checked = self
            .storage
            .check(Operation::Write, &self.path, buf.len() as u64);
        let (room, failed) = match checked {
            Ok(()) => (buf.len(), None),
            // As on a full disk: what still fits is written before the rest is refused.
            Err((room, e)) => (usize::try_from(room).unwrap_or(buf.len()), Some(e)),
        };
        if self.storage.lock().discards && self.path.to_string_lossy().contains(".parquet") {
            return failed.map_or(Ok(()), Err);
        }
        self.storage.pace(room as u64);
        self.file.write_all(&buf[..room])?;
        failed.map_or(Ok(()), Err)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.storage.call(Operation::Sync, &self.path)?;
        self.file.sync()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.storage.call(Operation::Truncate, &self.path)?;
        self.file.truncate(len)
    }

    fn is_linked(&self) -> io::Result<bool> {
        self.file.is_linked()
    }
}

struct FaultyRead {
    file: Box<dyn ReadFile>,
    path: PathBuf,
    storage: Faulty,
}

impl ReadFile for FaultyRead {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.storage.call(Operation::Read, &self.path)?;
        self.file.read_exact_at(buf, offset)
    }
}

impl Storage for Faulty {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Operation::CreateDir, path)?;
        self.inner.create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.call(Operation::Create, path)?;
        Ok(self.write(path, self.inner.create(path)?))
    }

    fn open_locked(&self, path: &Path) -> io::Result<Option<Box<dyn WriteFile>>> {
        self.call(Operation::OpenLocked, path)?;
        let file = self.inner.open_locked(path)?;
        Ok(file.map(|file| self.write(path, file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        self.call(Operation::Open, path)?;
        Ok(Box::new(FaultyRead {
            file: self.inner.open(path)?,
            path: path.to_owned(),
            storage: self.clone(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Operation::Rename, from)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Operation::Remove, path)?;
        self.inner.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Operation::SyncDir, path)?;
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.call(Operation::List, path)?;
        self.inner.list(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.free_bytes(path)
    }
}
