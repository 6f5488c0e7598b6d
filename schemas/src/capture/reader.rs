//! Reading captures, sealed and growing segments alike.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use ulid::Ulid;

use super::footers::Footers;
use super::meta::read_json;
use super::rows::{Batches, Projection, Rows};
use super::upkeep::journal;
use super::upkeep::removed::{self, Removed};
use super::{
    CaptureError, CaptureKey, CaptureMeta, FORMAT_VERSION, Layout, Ledger, RecorderMeta, SpanDigest,
};
use crate::Exchange;
use crate::storage::{Entry, ReadFile, Storage};

/// One readable segment. Its file stays open: what replaces or removes it does not disturb readers.
#[derive(Clone)]
pub struct Segment {
    /// The segment.
    pub id: Ulid,
    /// File.
    pub path: PathBuf,
    /// Final: nobody writes to it any more.
    pub sealed: bool,
    /// Rows as of the footer that was read.
    pub rows: u64,
    /// Row groups as of the footer that was read.
    pub row_groups: usize,
    /// Bytes as of the footer that was read.
    pub bytes: u64,
    /// The recorder process that wrote the rows.
    pub recorder: Ulid,
    /// The books as of the footer that was read.
    pub ledger: Ledger,
    /// Arrival of its youngest row, ns since the Unix epoch; `None` where the footer does not say.
    pub youngest_ns: Option<i64>,
    /// Its footer and its columns are encrypted.
    pub is_encrypted: bool,
    groups: Arc<[Group]>,
    footers: Arc<Footers>,
    pub(super) file: Arc<dyn ReadFile>,
}

/// What is known of a row group without its metadata.
#[derive(Clone, Copy)]
struct Group {
    rows: u64,
    /// Of its pages before compression.
    bytes: u64,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment")
            .field("path", &self.path)
            .field("sealed", &self.sealed)
            .field("rows", &self.rows)
            .field("row_groups", &self.row_groups)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Bytes of row groups that are read together.
const TOGETHER: u64 = 4 << 20;

impl Segment {
    /// Rows of one row group; 0 where it has no such row group.
    pub fn rows_of(&self, row_group: usize) -> u64 {
        self.groups.get(row_group).map_or(0, |g| g.rows)
    }

    /// Bytes of the pages of one row group before compression; 0 where it has no such row group.
    pub fn uncompressed_bytes(&self, row_group: usize) -> u64 {
        self.groups.get(row_group).map_or(0, |g| g.bytes)
    }

    /// Row groups and schema, as of the footer that was read.
    ///
    /// # Errors
    /// [`CaptureError::Damaged`] where that footer is not there any more, storage errors.
    pub fn metadata(&self) -> Result<Arc<ParquetMetaData>, CaptureError> {
        Ok(Arc::clone(&self.footers.of(self)?.metadata))
    }

    /// Digests of its row groups.
    ///
    /// # Errors
    /// Those of [`Self::metadata`].
    pub fn digests(&self) -> Result<Vec<SpanDigest>, CaptureError> {
        Ok(self.footers.of(self)?.note.digests.clone())
    }

    #[cfg(test)]
    pub(super) fn with_footers_of(&self, other: &Self) -> Self {
        Self {
            footers: Arc::clone(&other.footers),
            ..self.clone()
        }
    }

    /// The rows of neighbouring row groups, a few at a time: about 1 MiB, so that memory does not grow
    /// with the row groups. Payloads share the bytes that were read. Of several row groups the short
    /// column chunks are all read at once: see [`Self::spans`].
    ///
    /// # Errors
    /// [`CaptureError::Damaged`] where a page does not decode, storage errors.
    pub fn stream(
        &self,
        row_groups: Range<usize>,
        projection: Projection,
    ) -> Result<Rows, CaptureError> {
        self.batches(row_groups, projection).map(Rows::of)
    }

    /// As [`Self::stream`], before they are decoded.
    ///
    /// # Errors
    /// As [`Self::stream`].
    pub fn batches(
        &self,
        row_groups: Range<usize>,
        projection: Projection,
    ) -> Result<Batches, CaptureError> {
        Batches::open(self, row_groups, projection)
    }

    /// The range in parts that are worth reading in one [`Self::stream`] each: one row group, or several
    /// small ones, because to begin costs as much as to read a hundred rows.
    pub fn spans(&self, row_groups: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let mut left = row_groups;
        std::iter::from_fn(move || {
            let mut bytes = 0;
            let small = left.clone().take_while(|&group| {
                bytes += self.uncompressed_bytes(group);
                bytes <= TOGETHER
            });
            let count = small.count().max(1).min(left.len());
            let span = left.start..left.start + count;
            left.start = span.end;
            (count > 0).then_some(span)
        })
    }
}

/// A capture, opened for reading. What is written later is not seen.
pub struct Capture {
    footers: Arc<Footers>,
    storage: Arc<dyn Storage>,
    layout: Layout,
    meta: CaptureMeta,
    recorders: Vec<RecorderMeta>,
    removed: BTreeMap<Ulid, Removed>,
    segments: Vec<Segment>,
    unreadable: Vec<CaptureError>,
    foreign: Vec<String>,
}

/// Readable segments, and why others are not.
type Found = (Vec<Segment>, Vec<CaptureError>);

/// The names that say which segments a capture has.
fn names(entries: &[Entry]) -> impl Iterator<Item = &str> {
    let name = |e: &'_ Entry| !e.name.ends_with(".tmp");
    entries
        .iter()
        .filter(move |e| name(e))
        .map(|e| e.name.as_str())
}

impl Capture {
    /// Opens a capture and reads the footers of its segments. Damaged segments do not hide the
    /// others: they are listed by [`Self::unreadable`].
    ///
    /// # Errors
    /// [`CaptureError::NotACapture`], [`CaptureError::TooNew`], and storage errors.
    pub fn open(storage: Arc<dyn Storage>, dir: &Path) -> Result<Self, CaptureError> {
        Self::open_with_key(storage, dir, None)
    }

    /// Opens a capture of which segments may be encrypted with `key`.
    ///
    /// # Errors
    /// Those of [`Self::open`]; [`CaptureError::NoKey`] and [`CaptureError::WrongKey`] where a
    /// segment is encrypted otherwise: what cannot be read must not be left out in silence.
    pub fn open_with_key(
        storage: Arc<dyn Storage>,
        dir: &Path,
        key: Option<&CaptureKey>,
    ) -> Result<Self, CaptureError> {
        let layout = Layout::new(dir);
        let meta = read_meta(storage.as_ref(), &layout)?;
        let mut capture = Self {
            footers: Arc::new(Footers::new(key.cloned())),
            storage,
            layout,
            meta,
            recorders: Vec::new(),
            removed: BTreeMap::new(),
            segments: Vec::new(),
            unreadable: Vec::new(),
            foreign: Vec::new(),
        };
        capture.read_stable()?;
        Ok(capture)
    }

    /// `_capture.json`.
    pub fn meta(&self) -> &CaptureMeta {
        &self.meta
    }

    /// `_recorders/*.json`, oldest first.
    pub fn recorders(&self) -> &[RecorderMeta] {
        &self.recorders
    }

    /// What left of each recorder's exchanges after they were recorded.
    pub(super) fn removed(&self) -> &BTreeMap<Ulid, Removed> {
        &self.removed
    }

    /// Readable segments, oldest first.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Files that could not be read, and why.
    pub fn unreadable(&self) -> &[CaptureError] {
        &self.unreadable
    }

    /// Names in the folder that are not a capture's.
    pub fn foreign(&self) -> &[String] {
        &self.foreign
    }

    /// Where it lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The rows of one row group.
    ///
    /// # Errors
    /// [`CaptureError::Damaged`] where a page does not decode, storage errors.
    pub fn read(
        &self,
        segment: &Segment,
        row_group: usize,
        projection: Projection,
    ) -> Result<Vec<Exchange>, CaptureError> {
        let mut out = Vec::new();
        for rows in segment.stream(row_group..row_group + 1, projection)? {
            out.append(&mut rows?);
        }
        Ok(out)
    }

    /// The segment of that id.
    ///
    /// # Errors
    /// [`CaptureError::Gone`].
    pub fn segment(&self, id: &str) -> Result<&Segment, CaptureError> {
        let found = self.segments.iter().find(|s| s.id.to_string() == id);
        found.ok_or_else(|| CaptureError::Gone {
            path: self.layout.root().to_owned(),
            segment: id.to_owned(),
        })
    }

    fn read_recorders(&mut self) -> Result<(), CaptureError> {
        self.recorders.clear();
        self.removed.clear();
        let folder = self.layout.recorders();
        let entries = match self.storage.list(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(CaptureError::io("list", &folder)(e)),
        };
        for entry in &entries {
            let Some(id) = Layout::parse_recorder(&entry.name) else {
                continue;
            };
            match read_json(self.storage.as_ref(), &folder.join(&entry.name)) {
                Ok(meta) => self.recorders.push(meta),
                Err(e) => self.unreadable.push(e),
            }
            match removed::read(self.storage.as_ref(), &self.layout, id) {
                Ok(removed) => self.removed.extend([(id, removed)]),
                Err(e) => self.unreadable.push(e),
            }
        }
        Ok(())
    }

    /// Reads books and footers that belong together.
    ///
    /// Upkeep may replace segments while they are listed, and a directory is not listed in one
    /// instant: what vanished, or a listing that no longer holds afterwards, is read again.
    fn read_stable(&mut self) -> Result<(), CaptureError> {
        let mut before = self.list()?;
        for _ in 0..5 {
            (self.segments, self.unreadable) = self.read_listed(&before)?;
            let vanished = self.unreadable.iter().any(CaptureError::is_not_found);
            let strangers = before.iter().filter(|e| !Layout::is_known(&e.name));
            self.foreign = strangers.map(|e| e.name.clone()).collect();
            self.read_recorders()?;
            let after = self.list()?;
            if !vanished && names(&before).eq(names(&after)) {
                break;
            }
            before = after;
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<Entry>, CaptureError> {
        let root = self.layout.root();
        self.storage
            .list(root)
            .map_err(CaptureError::io("list", root))
    }

    fn read_listed(&self, entries: &[Entry]) -> Result<Found, CaptureError> {
        let root = self.layout.root();
        let (mut segments, mut unreadable) = (Vec::new(), Vec::new());
        let (mut replaced, mut decided) = (BTreeSet::new(), BTreeSet::new());
        for id in entries
            .iter()
            .filter_map(|e| Layout::parse_journal(&e.name))
        {
            match journal::read(self.storage.as_ref(), &self.layout, id) {
                Ok(journal) => {
                    replaced.extend(journal.replaces());
                    decided.extend(journal.by());
                }
                Err(e) => unreadable.push(e),
            }
        }
        for entry in entries.iter().filter(|e| !e.is_dir) {
            let name = entry.name.as_str();
            let read = if let Some(id) = Layout::parse_sealed(name) {
                if replaced.contains(&id) {
                    continue;
                }
                self.read_segment(id, self.layout.sealed(id), true)
            } else if let Some(id) = Layout::parse_open(name) {
                self.read_segment(id, self.layout.open(id), false)
            } else if let Some(id) =
                Layout::parse_replacement(name).filter(|id| decided.contains(id))
            {
                self.read_segment(id, root.join(name), true)
            } else {
                if name.ends_with(".parquet") {
                    let why = "not a segment of a capture: its name is no ULID; move it elsewhere";
                    unreadable.push(CaptureError::damaged(root.join(name), why));
                }
                continue;
            };
            match read {
                Ok((segment, damage)) => {
                    segments.extend(segment);
                    unreadable.extend(damage);
                }
                Err(e) if e.needs_key() => return Err(e),
                Err(e) => unreadable.push(e),
            }
        }
        // Both names of one segment, where it got its final one during the listing.
        segments.sort_by_key(|s: &Segment| s.id);
        segments.dedup_by_key(|s| s.id);
        Ok((segments, unreadable))
    }

    /// The segment (`None`: a growing one without a checkpoint yet), and what of it is damaged.
    fn read_segment(
        &self,
        id: Ulid,
        mut path: PathBuf,
        mut sealed: bool,
    ) -> Result<(Option<Segment>, Option<CaptureError>), CaptureError> {
        let mut opened = self.storage.open(&path);
        if path != self.layout.sealed(id)
            && opened
                .as_ref()
                .is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
        {
            // It got its final name between the listing and now.
            (path, sealed) = (self.layout.sealed(id), true);
            opened = self.storage.open(&path);
        }
        let file: Arc<dyn ReadFile> = opened.map_err(CaptureError::io("open", &path))?.into();
        let last = self.footers.find(&file, &path, id)?;
        let Some(footer) = last else {
            if sealed {
                let why = "no footer in it names this segment";
                return Err(CaptureError::damaged(path, why));
            }
            return Ok((None, None));
        };
        let damage = (sealed && footer.end != file.len()).then(|| {
            let why = format!(
                "it does not end with a footer that names this segment; what it held at its \
                 checkpoint at byte {} is readable",
                footer.end
            );
            CaptureError::damaged(&path, why)
        });
        if footer.note.format > FORMAT_VERSION {
            let writer = footer.metadata.file_metadata().created_by();
            return Err(CaptureError::too_new(path, footer.note.format, writer));
        }
        let groups = footer.metadata.row_groups();
        let segment = Segment {
            id,
            sealed,
            rows: u64::try_from(footer.metadata.file_metadata().num_rows()).unwrap_or(0),
            row_groups: groups.len(),
            bytes: footer.end,
            is_encrypted: groups
                .iter()
                .flat_map(RowGroupMetaData::columns)
                .any(|c| c.crypto_metadata().is_some()),
            groups: groups
                .iter()
                .map(|g| Group {
                    rows: g.num_rows().unsigned_abs(),
                    bytes: g.total_byte_size().unsigned_abs(),
                })
                .collect(),
            recorder: footer.note.recorder,
            ledger: footer.note.ledger.clone(),
            youngest_ns: youngest_ns(&footer.metadata),
            footers: Arc::clone(&self.footers),
            file,
            path,
        };
        self.footers.hold_first(id, footer);
        Ok((Some(segment), damage))
    }
}

/// The latest arrival that the bounds of the row groups tell.
fn youngest_ns(metadata: &ParquetMetaData) -> Option<i64> {
    let columns = metadata.file_metadata().schema_descr().columns();
    let leaf = columns.iter().position(|c| c.name() == "arrived_at")?;
    let each =
        metadata
            .row_groups()
            .iter()
            .filter_map(|g| match g.columns().get(leaf)?.statistics()? {
                Statistics::Int64(s) => s.max_opt().copied(),
                _ => None,
            });
    each.max()
}

pub(super) fn read_meta(
    storage: &dyn Storage,
    layout: &Layout,
) -> Result<CaptureMeta, CaptureError> {
    let path = layout.meta();
    let value: serde_json::Value = match read_json(storage, &path) {
        Err(CaptureError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            let why = "there is no `_capture.json` in it (or no such directory)".to_owned();
            return Err(CaptureError::NotACapture {
                path: layout.root().to_owned(),
                why,
            });
        }
        other => other?,
    };
    // The version first: a newer file need not parse as ours.
    let found = value
        .get("format")
        .and_then(serde_json::Value::as_u64)
        .unwrap_or(0);
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    if found > FORMAT_VERSION {
        let writer = value.get("version").and_then(serde_json::Value::as_str);
        return Err(CaptureError::too_new(path, found, writer));
    }
    serde_json::from_value(value).map_err(|e| CaptureError::damaged(path, e))
}
