//! A storage in memory that forgets, at a power cut, what was never made durable.
//!
//! The model is what POSIX promises and no more: `sync` makes a file's bytes durable, not its name;
//! `sync_dir` makes names durable; a rename is atomic. Everything since is kept, lost or (bytes)
//! replaced by zeros, file by file and name by name, as the caller of [`Simulated::reboot`]
//! chooses. Directories are durable at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Entry, ReadFile, Storage, WriteFile};

/// A file system in memory. Clones share it.
#[derive(Clone, Default)]
pub struct Simulated(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: Vec<Contents>,
    /// What programs see.
    names: BTreeMap<PathBuf, usize>,
    /// What a power cut leaves for certain.
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names since the last `sync_dir` of their directory, oldest first.
    unsynced: Vec<Change>,
    folders: BTreeSet<PathBuf>,
    /// Counts power cuts: handles from before one are dead.
    boot: u64,
    /// Operations that changed something.
    operations: u64,
    power_fails_at: Option<u64>,
    off: bool,
    syncs_to_fail: u64,
}

#[derive(Default)]
struct Contents {
    data: Vec<u8>,
    durable: Vec<u8>,
    /// Cut below what is durable since the last sync.
    cut: bool,
    /// Bytes whose write-back failed: programs read them, no later sync saves them.
    lost: Vec<Range<usize>>,
    locked: bool,
}

enum Change {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

impl Change {
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, ..) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, file) => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl Contents {
    /// What is durable once `sync` has succeeded.
    fn written_back(&self) -> Vec<u8> {
        let mut data = self.data.clone();
        for range in &self.lost {
            let end = range.end.min(data.len());
            data[range.start.min(end)..end].fill(0);
        }
        data
    }

    /// What is there after a power cut.
    fn after_power_cut(&self, choose: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
        let mut all = self.written_back();
        if self.cut {
            return if choose(2) == 0 {
                self.durable.clone()
            } else {
                all
            };
        }
        let durable = self.durable.len().min(all.len());
        all.truncate(durable + choose(all.len() - durable + 1));
        if choose(3) == 0 {
            // The length went to disk, and some bytes did not.
            let from = durable + choose(all.len() - durable + 1);
            let to = from + choose(all.len() - from + 1);
            all[from..to].fill(0);
        }
        all
    }
}

fn power_cut() -> io::Error {
    io::Error::other("the power is off (simulated)")
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("{} is not there", path.display()),
    )
}

impl Simulated {
    /// An empty file system.
    pub fn new() -> Self {
        Self::default()
    }

    /// Operations that changed something so far: points at which the power can fail.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The power fails instead of the `n`th operation from now (0 = the next).
    pub fn cut_power_after(&self, n: u64) {
        let mut state = self.lock();
        state.power_fails_at = Some(state.operations + n);
    }

    /// The next `n` syncs of files fail, and what they were to save is lost whatever is synced
    /// later (Linux marks such pages clean).
    pub fn fail_syncs(&self, n: u64) {
        self.lock().syncs_to_fail = n;
    }

    /// The power comes back. `choose(n)` returns a number below `n` each time something may or may
    /// not have become durable. Locks are gone.
    pub fn reboot(&self, choose: &mut dyn FnMut(usize) -> usize) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut names = std::mem::take(&mut state.durable_names);
        for change in state.unsynced.drain(..) {
            if choose(2) == 1 {
                change.apply(&mut names);
            }
        }
        state.files = state
            .files
            .iter()
            .map(|file| {
                let data = file.after_power_cut(choose);
                Contents {
                    durable: data.clone(),
                    data,
                    ..Contents::default()
                }
            })
            .collect();
        state.names.clone_from(&names);
        state.durable_names = names;
        state.boot += 1;
        state.power_fails_at = None;
        state.off = false;
        state.syncs_to_fail = 0;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for an operation that reads.
    fn on(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.off {
            return Err(power_cut());
        }
        Ok(state)
    }

    /// The state, for an operation that changes something.
    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.on()?;
        if state.power_fails_at == Some(state.operations) {
            state.off = true;
            return Err(power_cut());
        }
        state.operations += 1;
        Ok(state)
    }

    fn handle(&self, file: usize, boot: u64) -> Box<dyn WriteFile> {
        Box::new(Handle {
            storage: self.clone(),
            file,
            boot,
        })
    }
}

struct Handle {
    storage: Simulated,
    file: usize,
    boot: u64,
}

impl Handle {
    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.storage.change()?;
        if state.boot == self.boot {
            Ok(state)
        } else {
            Err(power_cut())
        }
    }
}

impl WriteFile for Handle {
    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        self.change()?.files[self.file].data.extend_from_slice(buf);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.change()?;
        let fails = state.syncs_to_fail > 0;
        state.syncs_to_fail = state.syncs_to_fail.saturating_sub(1);
        let file = &mut state.files[self.file];
        if fails {
            let dirty = file.durable.len().min(file.data.len())..file.data.len();
            file.lost.push(dirty);
            return Err(io::Error::other("write-back failed (simulated)"));
        }
        file.durable = file.written_back();
        file.cut = false;
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.change()?;
        let file = &mut state.files[self.file];
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        file.cut |= len < file.durable.len();
        file.data.resize(len, 0);
        for range in &mut file.lost {
            range.end = range.end.min(len);
        }
        file.lost.retain(|range| range.start < range.end);
        Ok(())
    }

    fn is_linked(&self) -> io::Result<bool> {
        let state = self.storage.on()?;
        Ok(state.names.values().any(|&file| file == self.file))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.storage.lock();
        if state.boot == self.boot {
            state.files[self.file].locked = false;
        }
    }
}

/// What was in the file when it was opened; the seam's readers never read past it.
struct Opened(Vec<u8>);

impl ReadFile for Opened {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let to = from.saturating_add(buf.len());
        let bytes = self.0.get(from..to).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

impl Storage for Simulated {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let all = path.ancestors().map(Path::to_owned);
        state.folders.extend(all);
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut state = self.change()?;
        if !path.parent().is_some_and(|f| state.folders.contains(f)) {
            return Err(not_found(path));
        }
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.len();
        state.files.push(Contents {
            locked: true,
            ..Contents::default()
        });
        state.names.insert(path.to_owned(), file);
        state.unsynced.push(Change::Link(path.to_owned(), file));
        Ok(self.handle(file, state.boot))
    }

    fn open_locked(&self, path: &Path) -> io::Result<Option<Box<dyn WriteFile>>> {
        let mut state = self.on()?;
        let file = *state.names.get(path).ok_or_else(|| not_found(path))?;
        if std::mem::replace(&mut state.files[file].locked, true) {
            return Ok(None);
        }
        Ok(Some(self.handle(file, state.boot)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        let state = self.on()?;
        let file = *state.names.get(path).ok_or_else(|| not_found(path))?;
        Ok(Box::new(Opened(state.files[file].data.clone())))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let file = state.names.remove(from).ok_or_else(|| not_found(from))?;
        state.names.insert(to.to_owned(), file);
        let change = Change::Rename(from.to_owned(), to.to_owned(), file);
        state.unsynced.push(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        state.names.remove(path).ok_or_else(|| not_found(path))?;
        state.unsynced.push(Change::Unlink(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut guard = self.change()?;
        let state = &mut *guard;
        let durable = &mut state.durable_names;
        state.unsynced.retain(|change| {
            let here = change.folder() == Some(path);
            if here {
                change.apply(durable);
            }
            !here
        });
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.on()?;
        if !state.folders.contains(path) {
            return Err(not_found(path));
        }
        let entry = |found: &Path, len: usize, is_dir| Entry {
            name: found
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            len: len as u64,
            is_dir,
        };
        let below = |found: &Path| found.parent() == Some(path);
        let files = state
            .names
            .iter()
            .filter(|(found, _)| below(found))
            .map(|(found, &file)| entry(found, state.files[file].data.len(), false));
        let folders = state
            .folders
            .iter()
            .filter(|found| below(found))
            .map(|found| entry(found, 0, true));
        let mut entries: Vec<_> = files.chain(folders).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        self.on().map(|_| u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lose_all(n: usize) -> usize {
        // Of two: not applied; of a tail's length: none of it; of three: not zeroed.
        if n == 3 { 1 } else { 0 }
    }

    #[test]
    fn what_was_synced_stays_and_the_rest_may_go() {
        let disk = Simulated::new();
        let (dir, file) = (Path::new("/c"), Path::new("/c/a"));
        disk.create_dir(dir).unwrap();
        let mut handle = disk.create(file).unwrap();
        handle.write_all(b"kept").unwrap();
        handle.sync().unwrap();
        disk.reboot(&mut |n| lose_all(n));
        assert!(disk.open(file).is_err(), "its name was never synced");
        let mut handle = disk.create(file).unwrap();
        handle.write_all(b"kept").unwrap();
        handle.sync().unwrap();
        disk.sync_dir(dir).unwrap();
        handle.write_all(b"lost").unwrap();
        disk.rename(file, Path::new("/c/b")).unwrap();
        disk.reboot(&mut |n| lose_all(n));
        assert_eq!(disk.open(file).unwrap().len(), 4);
        assert!(handle.write_all(b"x").is_err(), "its process is dead");
        disk.rename(file, Path::new("/c/b")).unwrap();
        disk.reboot(&mut |n| n - 1);
        assert_eq!(disk.open(Path::new("/c/b")).unwrap().len(), 4);
    }

    #[test]
    fn bytes_whose_sync_failed_are_not_saved_by_a_later_one() {
        let disk = Simulated::new();
        disk.create_dir(Path::new("/c")).unwrap();
        let mut handle = disk.create(Path::new("/c/a")).unwrap();
        handle.write_all(b"one").unwrap();
        disk.fail_syncs(1);
        handle.sync().unwrap_err();
        handle.write_all(b"two").unwrap();
        handle.sync().unwrap();
        disk.sync_dir(Path::new("/c")).unwrap();
        disk.reboot(&mut |n| lose_all(n));
        let mut bytes = [1; 6];
        let file = disk.open(Path::new("/c/a")).unwrap();
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"\0\0\0two");
    }

    #[test]
    fn the_power_fails_where_it_was_told_to() {
        let disk = Simulated::new();
        disk.create_dir(Path::new("/c")).unwrap();
        disk.cut_power_after(1);
        let mut handle = disk.create(Path::new("/c/a")).unwrap();
        assert!(handle.write_all(b"x").is_err());
        assert!(disk.list(Path::new("/c")).is_err(), "everything is off");
        disk.reboot(&mut |n| n - 1);
        assert_eq!(disk.list(Path::new("/c")).unwrap()[0].len, 0);
    }
}
