//! Changes of sealed segments, decided all at once.
//!
//! 1. Write the replacement as `_<new>.parquet.new`; sync it and the directory.
//! 2. Write `_<ulid>.journal.json`. From here on the change is decided: readers skip what it
//!    replaces and read the replacement under whichever name it has.
//! 3. Rename the replacement, sync the directory; count what was removed; unlink what is replaced,
//!    sync the directory.
//! 4. Remove the journal.
//!
//! Each part of step 3 may be done again after a crash. A replacement without a journal was never
//! decided and is deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::super::meta::{read_json, write_json};
use super::super::{CaptureError, FORMAT_VERSION, Layout, Ledger};
use super::removed;
use crate::storage::Storage;

/// Exchanges removed, by recorder and reason.
pub(super) type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// One decided change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Journal {
    format: u32,
    /// Segments that leave.
    replaces: Vec<String>,
    /// The segment that takes their place, if any row stays.
    by: Option<String>,
    /// Exchanges that leave with them.
    #[serde(default)]
    removed: Counts,
    /// Where nothing takes their place: the newest books that they held, by recorder.
    #[serde(default)]
    ledgers: BTreeMap<String, Ledger>,
}

impl Journal {
    pub(super) fn new(replaces: &[Ulid], by: Option<Ulid>) -> Self {
        Self {
            format: FORMAT_VERSION,
            replaces: replaces.iter().map(Ulid::to_string).collect(),
            by: by.map(|id| id.to_string()),
            removed: Counts::new(),
            ledgers: BTreeMap::new(),
        }
    }

    /// Counts what leaves for good.
    pub(super) fn removing(mut self, removed: Counts, ledgers: BTreeMap<String, Ledger>) -> Self {
        self.removed = removed;
        self.ledgers = ledgers;
        self
    }

    /// Segments that leave.
    pub fn replaces(&self) -> impl Iterator<Item = Ulid> {
        self.replaces
            .iter()
            .filter_map(|id| Ulid::from_string(id).ok())
    }

    /// The segment that takes their place.
    pub fn by(&self) -> Option<Ulid> {
        self.by.as_deref().and_then(|id| Ulid::from_string(id).ok())
    }
}

/// Reads a journal.
pub(in super::super) fn read(
    storage: &dyn Storage,
    layout: &Layout,
    id: Ulid,
) -> Result<Journal, CaptureError> {
    let path = layout.journal(id);
    let journal: Journal = read_json(storage, &path)?;
    if journal.format > FORMAT_VERSION {
        return Err(CaptureError::too_new(path, journal.format, None));
    }
    Ok(journal)
}

/// Decides a change and carries it out.
pub(super) fn commit(
    storage: &dyn Storage,
    layout: &Layout,
    journal: &Journal,
) -> Result<(), CaptureError> {
    let root = layout.root();
    // The replacement must have a durable name before anything says that it counts.
    storage
        .sync_dir(root)
        .map_err(CaptureError::io("sync", root))?;
    let id = Ulid::generate();
    write_json(storage, &layout.journal(id), journal)?;
    carry_out(storage, layout, id, journal)
}

/// Carries every decided change out, and deletes replacements that were never decided.
pub(in super::super) fn finish(storage: &dyn Storage, layout: &Layout) -> Result<(), CaptureError> {
    let root = layout.root();
    let list = || storage.list(root).map_err(CaptureError::io("list", root));
    for id in list()?
        .iter()
        .filter_map(|e| Layout::parse_journal(&e.name))
    {
        let journal = read(storage, layout, id)?;
        carry_out(storage, layout, id, &journal)?;
    }
    for name in list()?.iter().map(|e| &e.name) {
        if Layout::parse_replacement(name).is_some() {
            let path = root.join(name);
            storage
                .remove(&path)
                .map_err(CaptureError::io("remove", path))?;
        }
    }
    Ok(())
}

fn carry_out(
    storage: &dyn Storage,
    layout: &Layout,
    id: Ulid,
    journal: &Journal,
) -> Result<(), CaptureError> {
    let root = layout.root();
    let sync = || {
        storage
            .sync_dir(root)
            .map_err(CaptureError::io("sync", root))
    };
    if let Some(by) = journal.by() {
        let (new, sealed) = (layout.replacement(by), layout.sealed(by));
        match storage.rename(&new, &sealed) {
            Ok(()) => sync()?,
            // Renamed before a crash. Where somebody removed it, nothing may be unlinked for it.
            Err(e) if e.kind() == ErrorKind::NotFound => match storage.open(&sealed) {
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    tracing::error!("{} is gone: its sources stay", sealed.display());
                    unlink(storage, &layout.journal(id))?;
                    return sync();
                }
                found => drop(found.map_err(CaptureError::io("open", &sealed))?),
            },
            Err(e) => return Err(CaptureError::io("rename", &new)(e)),
        }
    }
    let live = live(storage, layout)?;
    let recorders: BTreeSet<&String> = journal
        .removed
        .keys()
        .chain(journal.ledgers.keys())
        .collect();
    for recorder in recorders {
        removed::count(
            storage,
            layout,
            recorder,
            &id.to_string(),
            journal.removed.get(recorder),
            journal.ledgers.get(recorder),
            &live,
        )?;
    }
    for source in journal.replaces() {
        unlink(storage, &layout.sealed(source))?;
    }
    sync()?;
    unlink(storage, &layout.journal(id))?;
    sync()
}

/// The journals that are there.
fn live(storage: &dyn Storage, layout: &Layout) -> Result<BTreeSet<String>, CaptureError> {
    let root = layout.root();
    let entries = storage.list(root).map_err(CaptureError::io("list", root))?;
    let ids = entries
        .iter()
        .filter_map(|e| Layout::parse_journal(&e.name));
    Ok(ids.map(|id| id.to_string()).collect())
}

fn unlink(storage: &dyn Storage, path: &Path) -> Result<(), CaptureError> {
    match storage.remove(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(CaptureError::io("remove", path)(e)),
        _ => Ok(()),
    }
}
