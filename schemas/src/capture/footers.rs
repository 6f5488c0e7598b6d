//! The footers of a capture's segments, of which one at a time is in memory.
//!
//! What Parquet's metadata takes in memory is about 32 KiB a row group, and a recorder of little
//! traffic makes one each second: a day of it, all held, would be gigabytes.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ulid::Ulid;

use super::encrypted::{self, is_encrypted};
use super::{CaptureError, CaptureKey, Footer, Segment, find_last, footer};
use crate::storage::ReadFile;

/// Reads footers, and keeps the one that was needed last: segments are read one after another, each a
/// few row groups at a time.
pub(super) struct Footers {
    key: Option<CaptureKey>,
    /// With its segment. A growing one has had others, which end elsewhere.
    last: Mutex<Option<(Ulid, Arc<Footer>)>>,
}

impl Footers {
    pub fn new(key: Option<CaptureKey>) -> Self {
        let last = Mutex::new(None);
        Self { key, last }
    }

    /// The last footer of a file that names the segment; `None` where there is none.
    ///
    /// # Errors
    /// [`CaptureError::NoKey`], [`CaptureError::WrongKey`], storage errors.
    pub fn find(
        &self,
        file: &Arc<dyn ReadFile>,
        path: &Path,
        segment: Ulid,
    ) -> Result<Option<Footer>, CaptureError> {
        let read = || CaptureError::io("read", path);
        if is_encrypted(file.as_ref()).map_err(read())? {
            encrypted::footer(file, path, segment, self.key.as_ref())
        } else {
            find_last(file.as_ref(), Some(segment)).map_err(read())
        }
    }

    /// Holds what was just read, unless something is held already: who reads a capture begins with its
    /// first segment.
    pub fn hold_first(&self, segment: Ulid, footer: Footer) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get_or_insert_with(|| (segment, Arc::new(footer)));
    }

    /// The footer that was found when the segment was opened.
    ///
    /// # Errors
    /// [`CaptureError::Damaged`] where that footer is not there any more, storage errors.
    pub fn of(&self, segment: &Segment) -> Result<Arc<Footer>, CaptureError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it =
            |(id, footer): &&(Ulid, Arc<Footer>)| *id == segment.id && footer.end == segment.bytes;
        if let Some((_, known)) = last.as_ref().filter(is_it) {
            return Ok(Arc::clone(known));
        }
        let again = match segment.is_encrypted {
            true => self.find(&segment.file, &segment.path, segment.id)?,
            // A file that grows has a later footer by now.
            false => footer::at(segment.file.as_ref(), segment.bytes, Some(segment.id))
                .map_err(CaptureError::io("read", &segment.path))?,
        };
        let Some(again) = again.filter(|footer| footer.end == segment.bytes) else {
            let why = "its footer is not the one any more that it was opened with";
            return Err(CaptureError::damaged(&segment.path, why));
        };
        let again = Arc::new(again);
        *last = Some((segment.id, Arc::clone(&again)));
        Ok(again)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Capture, CaptureMeta, CaptureWriter, Ledger, Projection, RecorderMeta, WriterOptions,
    };
    use super::*;
    use crate::Exchange;
    use crate::storage::Disk;

    struct Recorder {
        writer: CaptureWriter,
        ledger: Ledger,
        next: u64,
    }

    impl Recorder {
        fn new(dir: &Path) -> Self {
            let (meta, own) = (CaptureMeta::new(""), RecorderMeta::new(Ulid::nil(), ""));
            let options = WriterOptions {
                max_row_groups: 3,
                ..WriterOptions::default()
            };
            let opened = CaptureWriter::open(Arc::new(Disk), dir, meta, own, options);
            Self {
                writer: opened.unwrap().0,
                ledger: Ledger::default(),
                next: 0,
            }
        }

        fn row_groups(&mut self, count: u64) {
            for _ in 0..count {
                self.ledger.accepted += 1;
                self.ledger.in_flight += 1;
                self.writer.append(Exchange::new(Ulid::nil(), self.next));
                self.writer.checkpoint(&mut self.ledger).unwrap();
                self.next += 1;
            }
        }
    }

    fn rows(segment: &Segment) -> Vec<u64> {
        let all = segment.stream(0..segment.row_groups, Projection::Keys);
        let all = all.unwrap().flat_map(Result::unwrap);
        all.map(|e| e.seq).collect()
    }

    #[test]
    fn one_segment_at_a_time_is_held_and_a_growing_one_stays_as_it_was_opened() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(dir.path());
        recorder.row_groups(7);
        let capture = Capture::open(Arc::new(Disk), dir.path()).unwrap();
        let [first, second, growing] = capture.segments() else {
            panic!("{:?}", capture.segments());
        };
        assert_eq!((first.row_groups, growing.row_groups), (3, 1));
        // The one that is read first is there already; it goes when another is needed.
        let held = Arc::downgrade(&first.metadata().unwrap());
        assert!(held.upgrade().is_some());
        assert_eq!(rows(second), [3, 4, 5]);
        assert!(held.upgrade().is_none());
        recorder.row_groups(1);
        assert_eq!(rows(growing), [6]);
        assert_eq!(rows(first), [0, 1, 2]);
        assert_eq!(rows(growing), [6]);
    }

    #[test]
    fn what_is_held_of_an_earlier_state_does_not_stand_for_a_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(dir.path());
        recorder.row_groups(1);
        let earlier = Capture::open(Arc::new(Disk), dir.path()).unwrap();
        recorder.row_groups(2);
        let later = Capture::open(Arc::new(Disk), dir.path()).unwrap();
        let (before, after) = (&earlier.segments()[0], &later.segments()[0]);
        // As where a capture is listed again while it is opened.
        let shared = earlier.segments()[0].with_footers_of(after);
        assert_eq!(shared.metadata().unwrap().num_row_groups(), 1);
        assert_eq!(rows(after), [0, 1, 2]);
        assert_eq!(rows(before), [0]);
        assert_eq!(after.digests().unwrap().len(), 3);
        assert_eq!(shared.digests().unwrap().len(), 1);
    }

    #[test]
    fn a_footer_that_is_overwritten_under_a_reader_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        Recorder::new(dir.path()).row_groups(6);
        let capture = Capture::open(Arc::new(Disk), dir.path()).unwrap();
        let last = &capture.segments()[1];
        let bytes = std::fs::read(&last.path).unwrap();
        let zeros = vec![0; 64];
        let file = std::fs::OpenOptions::new().write(true).open(&last.path);
        let end = bytes.len() as u64 - 64;
        std::os::unix::fs::FileExt::write_all_at(&file.unwrap(), &zeros, end).unwrap();
        let why = last.stream(0..1, Projection::Keys).err().unwrap();
        assert!(matches!(why, CaptureError::Damaged { .. }), "{why}");
        assert!(
            why.to_string().contains("its footer is not the one"),
            "{why}"
        );
        assert_eq!(rows(&capture.segments()[0]), [0, 1, 2]);
    }
}
