//! Encrypted segments: Parquet modular encryption of the footer and of every column.
//!
//! <https://parquet.apache.org/docs/file-format/data-pages/encryption/>. Such a file has one footer,
//! at its end: nobody can add an encrypted footer to a file that goes on growing. So each checkpoint
//! is a small file of its own, and upkeep merges them.

use std::path::Path;
use std::sync::Arc;

use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::Result;
use parquet::file::metadata::ParquetMetaDataReader;
use ulid::Ulid;

use super::extent::lies_before;
use super::footer::{Footer, FooterNote, note_of, pairs};
use super::key::{CaptureKey, Unwrap};
use super::rows::unless_it_panics;
use super::schema::{VIEWS, properties};
use super::{CaptureError, encode};
use crate::Exchange;
use crate::storage::{Chunks, ReadFile};

/// Begins and ends a file whose footer is encrypted.
const MAGIC: &[u8; 4] = b"PARE";

/// Writes one encrypted file into memory, from where the caller moves it on piece by piece.
pub(super) struct Encrypted(ArrowWriter<Vec<u8>>);

impl Encrypted {
    pub fn new(key: &CaptureKey) -> Result<Self> {
        let properties = properties()
            .into_builder()
            .with_file_encryption_properties(key.for_new_file()?)
            .build();
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), VIEWS.clone(), options)?;
        Ok(Self(writer))
    }

    /// The bytes of one more row group.
    pub fn row_group(&mut self, exchanges: &[Exchange]) -> Result<Vec<u8>> {
        self.0.write(&encode::whole(exchanges)?)?;
        self.0.flush()?;
        self.written()
    }

    /// The bytes of the footer; nothing can follow them.
    pub fn footer(&mut self, note: &FooterNote) -> Result<Vec<u8>> {
        for pair in pairs(note) {
            self.0.append_key_value_metadata(pair);
        }
        self.0.finish()?;
        self.written()
    }

    fn written(&mut self) -> Result<Vec<u8>> {
        self.0.sync()?;
        Ok(std::mem::take(self.0.inner_mut()))
    }
}

/// True where the file begins as one with an encrypted footer does.
pub(super) fn is_encrypted(file: &dyn ReadFile) -> std::io::Result<bool> {
    let mut magic = [0; 4];
    if file.len() < magic.len() as u64 {
        return Ok(false);
    }
    file.read_exact_at(&mut magic, 0)?;
    Ok(&magic == MAGIC)
}

/// The footer of an encrypted file; `None` where it is not whole, or names another segment.
///
/// # Errors
/// [`CaptureError::NoKey`], [`CaptureError::WrongKey`], storage errors.
pub(super) fn footer(
    file: &Arc<dyn ReadFile>,
    path: &Path,
    segment: Ulid,
    key: Option<&CaptureKey>,
) -> std::result::Result<Option<Footer>, CaptureError> {
    let end = file.len();
    let mut tail = [0; 8];
    if end < 12 {
        return Ok(None);
    }
    file.read_exact_at(&mut tail, end - 8)
        .map_err(CaptureError::io("read", path))?;
    let (length, magic) = tail.split_at(4);
    if magic != MAGIC {
        return Ok(None);
    }
    let length = u32::from_le_bytes(length.try_into().expect("split at 4 of 8"));
    let Some(start) = (end - 8).checked_sub(u64::from(length)) else {
        return Ok(None);
    };
    let Some(key) = key else {
        return Err(CaptureError::NoKey {
            path: path.to_owned(),
        });
    };
    let unwrap = Unwrap::new(key);
    let chunks = Chunks::new(file.clone(), end);
    let parse = || {
        let properties = unwrap.properties()?;
        ParquetMetaDataReader::new()
            .with_decryption_properties(Some(properties))
            .parse_and_finish(&chunks)
    };
    let Ok(metadata) = unless_it_panics(parse) else {
        return unwrap.wrong_key(path).map_or(Ok(None), Err);
    };
    let note =
        note_of(&metadata).filter(|note| note.segment == segment && lies_before(&metadata, start));
    Ok(note.map(|note| Footer {
        metadata: Arc::new(metadata),
        note,
        start,
        end,
    }))
}
