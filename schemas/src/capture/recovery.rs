//! What a killed recorder left behind.

use std::path::Path;
use std::sync::Arc;

use ulid::Ulid;

use super::encrypted::{self, is_encrypted};
use super::footer::find_last_before;
use super::meta::{TEMPORARY, read_json, write_json};
use super::upkeep::removed;
use super::{CaptureError, CaptureKey, Footer, Layout, Ledger, RecorderMeta};
use crate::storage::{ReadFile, Storage};

/// What recovery did with one abandoned segment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Recovered {
    /// The segment.
    pub segment: String,
    /// Rows that its last checkpoint had.
    pub rows: u64,
    /// Bytes after the last checkpoint, cut off.
    pub cut_bytes: u64,
    /// What was done: `sealed`, `removed` (nothing was written) or `set_aside` (bytes, but no
    /// complete checkpoint: kept as `_<ulid>.parquet.torn`).
    pub action: &'static str,
}

/// Cuts every growing segment that nobody holds back to its last checkpoint and seals it; marks
/// recorders that ended without saying so.
///
/// Segments of live recorders (locked) are left alone.
///
/// An encrypted segment has one footer, written last: it is whole or nothing. Without the key it is
/// left alone, for whoever has it.
pub(super) fn recover(
    storage: &dyn Storage,
    layout: &Layout,
    key: Option<&CaptureKey>,
) -> Result<Vec<Recovered>, CaptureError> {
    let root = layout.root();
    let entries = storage.list(root).map_err(CaptureError::io("list", root))?;
    let mut done = Vec::new();
    for segment in entries.iter().filter_map(|e| Layout::parse_open(&e.name)) {
        if let Some(recovered) = recover_segment(storage, layout, segment, key)? {
            done.push(recovered);
        }
    }
    if !done.is_empty() {
        storage
            .sync_dir(root)
            .map_err(CaptureError::io("sync", root))?;
    }
    mark_crashed(storage, layout, key)?;
    for folder in [root.to_owned(), layout.recorders()] {
        remove_temporary(storage, &folder)?;
    }
    Ok(done)
}

/// Removes JSON files whose writer died before they got their names.
fn remove_temporary(storage: &dyn Storage, folder: &Path) -> Result<(), CaptureError> {
    let entries = storage
        .list(folder)
        .map_err(CaptureError::io("list", folder))?;
    for entry in entries.iter().filter(|e| e.name.ends_with(TEMPORARY)) {
        let path = folder.join(&entry.name);
        match storage.open_locked(&path) {
            Ok(Some(_held)) => match storage.remove(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(CaptureError::io("remove", &path)(e));
                }
                _ => {}
            },
            Ok(None) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(CaptureError::io("open", &path)(e)),
        }
    }
    Ok(())
}

fn recover_segment(
    storage: &dyn Storage,
    layout: &Layout,
    segment: Ulid,
    key: Option<&CaptureKey>,
) -> Result<Option<Recovered>, CaptureError> {
    let path = layout.open(segment);
    let file = match storage.open_locked(&path) {
        Ok(Some(file)) => Some(file),
        Ok(None) => return Ok(None),
        // Sealed or removed by its owner between the listing and now.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(CaptureError::io("open", &path)(e)),
    };
    let mut file = file.expect("the arm above returned where there was none");
    let read: Arc<dyn ReadFile> = storage
        .open(&path)
        .map_err(CaptureError::io("open", &path))?
        .into();
    let length = read.len();
    let last = match last_whole(&read, &path, segment, key) {
        Err(e) if e.needs_key() => return Ok(None),
        last => last?,
    };
    let recovered = |rows, cut_bytes, action| {
        Ok(Some(Recovered {
            segment: segment.to_string(),
            rows,
            cut_bytes,
            action,
        }))
    };
    let Some(Footer { metadata, end, .. }) = last else {
        // The four bytes are the magic that opens every Parquet file.
        if length <= 4 {
            storage
                .remove(&path)
                .map_err(CaptureError::io("remove", &path))?;
            return recovered(0, length, "removed");
        }
        let torn = path.with_extension("torn");
        storage
            .rename(&path, &torn)
            .map_err(CaptureError::io("rename", &path))?;
        return recovered(0, length, "set_aside");
    };
    if end < length {
        file.truncate(end)
            .map_err(CaptureError::io("truncate", &path))?;
    }
    file.sync().map_err(CaptureError::io("sync", &path))?;
    storage
        .rename(&path, &layout.sealed(segment))
        .map_err(CaptureError::io("rename", &path))?;
    let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
    recovered(rows, length - end, "sealed")
}

/// The last checkpoint whose row group is really there: after a power cut its footer may be on disk
/// and the bytes before it not. Earlier row groups were synced before the last one was begun.
fn last_whole(
    file: &Arc<dyn ReadFile>,
    path: &Path,
    segment: Ulid,
    key: Option<&CaptureKey>,
) -> Result<Option<Footer>, CaptureError> {
    let read = || CaptureError::io("read", path);
    let holds = |footer: &Footer| {
        let newest = footer.note.digests.last();
        newest.map_or(Ok(false), |span| span.holds(file.as_ref()))
    };
    if is_encrypted(file.as_ref()).map_err(read())? {
        let footer = encrypted::footer(file, path, segment, key)?;
        return footer
            .map(|footer| Ok(holds(&footer)?.then_some(footer)))
            .transpose()
            .map(Option::flatten)
            .map_err(read());
    }
    let mut to = file.len();
    while let Some(footer) = find_last_before(file.as_ref(), to, Some(segment)).map_err(read())? {
        if holds(&footer).map_err(read())? {
            return Ok(Some(footer));
        }
        to = footer.start;
    }
    Ok(None)
}

/// A recorder without `stopped` whose lock is free has crashed: its books are those of its last
/// checkpoint.
fn mark_crashed(
    storage: &dyn Storage,
    layout: &Layout,
    key: Option<&CaptureKey>,
) -> Result<(), CaptureError> {
    let folder = layout.recorders();
    let entries = storage
        .list(&folder)
        .map_err(CaptureError::io("list", &folder))?;
    for name in entries.iter().filter_map(|e| e.name.strip_suffix(".json")) {
        let Ok(recorder) = Ulid::from_string(name) else {
            continue;
        };
        let path = layout.recorder(recorder);
        let mut meta: RecorderMeta = match read_json(storage, &path) {
            // Damage is for `verify` to tell; it must not keep a new recorder from recording.
            Err(CaptureError::Damaged { .. }) => continue,
            meta => meta?,
        };
        if meta.stopped.is_some() || meta.crashed {
            continue;
        }
        let lock = layout.recorder_lock(recorder);
        let _held = match storage.open_locked(&lock) {
            Ok(Some(held)) => Some(held),
            Ok(None) => continue,
            // A power cut may have taken the name; a live recorder always has its lock.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(CaptureError::io("open", &lock)(e)),
        };
        // It may have stopped between our first look and the lock.
        meta = read_json(storage, &path)?;
        if meta.stopped.is_some() || meta.crashed {
            continue;
        }
        match last_ledger(storage, layout, recorder, key) {
            // Its newest books may be in what cannot be read here: left to whoever has the key.
            Err(e) if e.needs_key() => continue,
            ledger => meta.ledger = ledger?.unwrap_or(meta.ledger),
        }
        meta.crashed = true;
        write_json(storage, &path, &meta)?;
        match storage.remove(&lock) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(CaptureError::io("remove", &lock)(e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The newest ledger of a recorder in any sealed segment.
fn last_ledger(
    storage: &dyn Storage,
    layout: &Layout,
    recorder: Ulid,
    key: Option<&CaptureKey>,
) -> Result<Option<Ledger>, CaptureError> {
    let root = layout.root();
    let entries = storage.list(root).map_err(CaptureError::io("list", root))?;
    // What retention removed may have held the newest books.
    let mut newest = removed::read(storage, layout, recorder)?.ledger;
    for segment in entries.iter().filter_map(|e| Layout::parse_sealed(&e.name)) {
        let Some(footer) = footer_of(storage, &layout.sealed(segment), segment, key)? else {
            continue;
        };
        let ledger = footer.note.ledger;
        if footer.note.recorder == recorder
            && newest
                .as_ref()
                .is_none_or(|n| n.accepted <= ledger.accepted)
        {
            newest = Some(ledger);
        }
    }
    Ok(newest)
}

fn footer_of(
    storage: &dyn Storage,
    path: &Path,
    segment: Ulid,
    key: Option<&CaptureKey>,
) -> Result<Option<Footer>, CaptureError> {
    let opened = storage.open(path).map_err(CaptureError::io("open", path))?;
    let file: Arc<dyn ReadFile> = opened.into();
    if is_encrypted(file.as_ref()).map_err(CaptureError::io("read", path))? {
        return encrypted::footer(&file, path, segment, key);
    }
    super::footer::at(file.as_ref(), file.len(), Some(segment))
        .map_err(CaptureError::io("read", path))
}
