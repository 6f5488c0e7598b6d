//! Reading captures, sealed and growing segments alike.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::file::reader::{ChunkReader, Length};
use ulid::Ulid;

use super::meta::read_json;
use super::{
    CaptureError, CaptureMeta, FORMAT_VERSION, Footer, Layout, RecorderMeta, decode, find_last,
};
use crate::Exchange;
use crate::storage::{ReadFile, Storage};

/// Which columns a read touches. What is left out reads as `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projection {
    /// Neither tensors nor bodies.
    Keys,
    /// Tensors without their data, no bodies.
    Shapes,
    /// Everything.
    Full,
}

/// One readable segment.
#[derive(Debug, Clone)]
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
    /// The footer that was read.
    pub footer: Footer,
}

/// A capture, opened for reading. What is written later is not seen.
pub struct Capture {
    storage: Arc<dyn Storage>,
    layout: Layout,
    meta: CaptureMeta,
    recorders: Vec<RecorderMeta>,
    segments: Vec<Segment>,
    unreadable: Vec<CaptureError>,
}

impl Capture {
    /// Opens a capture and reads the footers of its segments. Damaged segments do not hide the
    /// others: they are listed by [`Self::unreadable`].
    ///
    /// # Errors
    /// [`CaptureError::NotACapture`], [`CaptureError::TooNew`], and storage errors.
    pub fn open(storage: Arc<dyn Storage>, dir: &Path) -> Result<Self, CaptureError> {
        let layout = Layout::new(dir);
        let meta = read_meta(storage.as_ref(), &layout)?;
        let mut capture = Self {
            storage,
            layout,
            meta,
            recorders: Vec::new(),
            segments: Vec::new(),
            unreadable: Vec::new(),
        };
        capture.read_recorders()?;
        capture.read_segments()?;
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

    /// Readable segments, oldest first.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Files that could not be read, and why.
    pub fn unreadable(&self) -> &[CaptureError] {
        &self.unreadable
    }

    /// Where it lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        self.storage.as_ref()
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
        let damaged = |e: &dyn std::fmt::Display| {
            CaptureError::damaged(&segment.path, format!("row group {row_group}: {e}"))
        };
        let file = self
            .storage
            .open(&segment.path)
            .map_err(CaptureError::io("open", &segment.path))?;
        let metadata = segment.footer.metadata.clone();
        let mask = mask(projection, metadata.file_metadata().schema_descr());
        let metadata = ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new())
            .map_err(|e| damaged(&e))?;
        let group = segment
            .footer
            .metadata
            .row_groups()
            .get(row_group)
            .ok_or_else(|| damaged(&"there is no such row group"))?;
        let rows = usize::try_from(group.num_rows()).map_err(|e| damaged(&e))?;
        let file = Chunks {
            file: Arc::from(file),
            end: segment.bytes,
        };
        let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_row_groups(vec![row_group])
            .with_projection(mask)
            .with_batch_size(rows.max(1))
            .build()
            .map_err(|e| damaged(&e))?;
        let mut out = Vec::with_capacity(rows);
        for batch in batches {
            let batch = batch.map_err(|e| damaged(&e))?;
            out.extend(decode::decode(&batch).map_err(|e| damaged(&e))?);
        }
        if out.len() != rows {
            return Err(damaged(&format!(
                "{} rows are there, {rows} were written",
                out.len()
            )));
        }
        Ok(out)
    }

    fn read_recorders(&mut self) -> Result<(), CaptureError> {
        let folder = self.layout.recorders();
        let entries = match self.storage.list(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(CaptureError::io("list", &folder)(e)),
        };
        for entry in entries.iter().filter(|e| e.name.ends_with(".json")) {
            match read_json(self.storage.as_ref(), &folder.join(&entry.name)) {
                Ok(meta) => self.recorders.push(meta),
                Err(e) => self.unreadable.push(e),
            }
        }
        Ok(())
    }

    fn read_segments(&mut self) -> Result<(), CaptureError> {
        let root = self.layout.root().to_owned();
        let entries = self
            .storage
            .list(&root)
            .map_err(CaptureError::io("list", &root))?;
        for entry in entries {
            let sealed = Layout::parse_sealed(&entry.name);
            let Some(id) = sealed.or_else(|| Layout::parse_open(&entry.name)) else {
                if entry.name.ends_with(".parquet") && !entry.is_dir {
                    let why = "not a segment of a capture: its name is no ULID; move it elsewhere";
                    self.unreadable
                        .push(CaptureError::damaged(root.join(&entry.name), why));
                }
                continue;
            };
            match self.read_segment(id, sealed.is_some()) {
                Ok(segment) => self.segments.extend(segment),
                Err(e) => self.unreadable.push(e),
            }
        }
        self.segments.sort_by_key(|s| s.id);
        Ok(())
    }

    /// `Ok(None)`: a growing segment without a checkpoint yet.
    fn read_segment(&self, id: Ulid, sealed: bool) -> Result<Option<Segment>, CaptureError> {
        let mut path = if sealed {
            self.layout.sealed(id)
        } else {
            self.layout.open(id)
        };
        let mut sealed = sealed;
        let mut opened = self.storage.open(&path);
        if !sealed
            && opened
                .as_ref()
                .is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
        {
            // Its writer sealed it between the listing and now.
            (path, sealed) = (self.layout.sealed(id), true);
            opened = self.storage.open(&path);
        }
        let file = opened.map_err(CaptureError::io("open", &path))?;
        let read = CaptureError::io("read", &path);
        let footer = if sealed {
            super::footer::at(file.as_ref(), file.len(), Some(id)).map_err(read)?
        } else {
            find_last(file.as_ref(), Some(id)).map_err(read)?
        };
        let Some(footer) = footer else {
            if sealed {
                let why = "it does not end with a footer that names this segment";
                return Err(CaptureError::damaged(path, why));
            }
            return Ok(None);
        };
        if footer.note.format > FORMAT_VERSION {
            let (found, supported) = (footer.note.format, FORMAT_VERSION);
            return Err(CaptureError::TooNew {
                path,
                found,
                supported,
            });
        }
        Ok(Some(Segment {
            id,
            sealed,
            rows: u64::try_from(footer.metadata.file_metadata().num_rows()).unwrap_or(0),
            row_groups: footer.metadata.num_row_groups(),
            bytes: footer.end,
            footer,
            path,
        }))
    }
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
        return Err(CaptureError::TooNew {
            path,
            found,
            supported: FORMAT_VERSION,
        });
    }
    serde_json::from_value(value).map_err(|e| CaptureError::damaged(path, e))
}

fn mask(
    projection: Projection,
    schema: &parquet::schema::types::SchemaDescriptor,
) -> ProjectionMask {
    let keep = |leaf: &str| match projection {
        Projection::Full => true,
        Projection::Shapes => !super::PAYLOAD_COLUMNS.contains(&leaf),
        Projection::Keys => {
            !super::PAYLOAD_COLUMNS.contains(&leaf)
                && !leaf.starts_with("inputs.")
                && !leaf.starts_with("outputs.")
        }
    };
    let leaves = schema
        .columns()
        .iter()
        .enumerate()
        .filter(|(_, column)| keep(&column.path().string()))
        .map(|(i, _)| i);
    ProjectionMask::leaves(schema, leaves)
}

/// Ranged reads of the storage as the Parquet reader wants them.
struct Chunks {
    file: Arc<dyn ReadFile>,
    end: u64,
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.end
    }
}

impl ChunkReader for Chunks {
    type T = std::io::Cursor<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        // Page headers are read through here; their length is not known before.
        let length = self.end.saturating_sub(start).min(1 << 16);
        let length = usize::try_from(length).expect("at most 64 KiB");
        Ok(std::io::Cursor::new(self.get_bytes(start, length)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let inside = start
            .checked_add(length as u64)
            .is_some_and(|end| end <= self.end);
        if !inside {
            return Err(parquet::errors::ParquetError::EOF(format!(
                "{length} bytes at {start} reach past the last checkpoint at {}",
                self.end
            )));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}
