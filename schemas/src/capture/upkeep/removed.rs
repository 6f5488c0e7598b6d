//! `_recorders/<ulid>.removed.json`: what left a capture after it was recorded.
//!
//! A file of its own, because a recorder that lives writes its books and upkeep must not.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::super::meta::{read_json, write_json};
use super::super::{CaptureError, Layout, Ledger};
use crate::storage::Storage;

/// What left of one recorder's exchanges.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in super::super) struct Removed {
    /// Exchanges by reason: `retention`, `deleted`.
    pub removed: BTreeMap<String, u64>,
    /// Journals whose counts are in `removed`, as long as they are there: a journal carried out
    /// twice is counted once.
    counted: Vec<String>,
    /// The newest books that a removed segment held.
    pub ledger: Option<Ledger>,
}

/// Reads what left of a recorder; nothing where there is no such file.
pub(in super::super) fn read(
    storage: &dyn Storage,
    layout: &Layout,
    recorder: Ulid,
) -> Result<Removed, CaptureError> {
    match read_json(storage, &layout.removed(recorder)) {
        Err(e) if e.is_not_found() => Ok(Removed::default()),
        removed => removed,
    }
}

/// Adds what `journal` removes, unless it is in there. `live`: the journals that are there.
pub(super) fn count(
    storage: &dyn Storage,
    layout: &Layout,
    recorder: &str,
    journal: &str,
    reasons: Option<&BTreeMap<String, u64>>,
    ledger: Option<&Ledger>,
    live: &BTreeSet<String>,
) -> Result<(), CaptureError> {
    let path = layout.recorders().join(format!("{recorder}.removed.json"));
    let id = Ulid::from_string(recorder).map_err(|e| CaptureError::damaged(&path, e))?;
    let mut file = read(storage, layout, id)?;
    if file.counted.iter().any(|counted| counted == journal) {
        return Ok(());
    }
    for (reason, n) in reasons.into_iter().flatten() {
        *file.removed.entry(reason.clone()).or_default() += n;
    }
    if let Some(ledger) = ledger
        && file
            .ledger
            .as_ref()
            .is_none_or(|newest| newest.accepted <= ledger.accepted)
    {
        file.ledger = Some(ledger.clone());
    }
    file.counted.retain(|counted| live.contains(counted));
    file.counted.push(journal.to_owned());
    write_json(storage, &path, &file)
}
