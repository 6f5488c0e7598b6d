//! Footers that name themselves.
//!
//! A payload may itself be a Parquet file, so "the last footer that parses" is not enough: every
//! footer we write says which segment it belongs to and at which offset it begins, and only one
//! that tells the truth about both is ours.

use std::sync::Arc;

use parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema};
use parquet::file::metadata::{KeyValue, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use ulid::Ulid;

use super::extent::lies_before;
use super::schema::{COLUMNS, STORED};
use super::span::SpanDigest;
use super::{FORMAT_VERSION, Ledger};
use crate::columns::footer;
use crate::storage::ReadFile;
use crate::xxh3::hash64;

const FORMAT: &str = "inferdiff.format";
const RECORDER: &str = "inferdiff.recorder";
const SEGMENT: &str = "inferdiff.segment";
const OFFSET: &str = "inferdiff.footer_offset";
const LEDGER: &str = "inferdiff.ledger";
const DIGESTS: &str = "inferdiff.row_group_xxh3";
/// XXH3-64 of the footer's own bytes, this value read as [`UNSIGNED`].
const SELF: &str = "inferdiff.footer_xxh3";
const UNSIGNED: &str = "0000000000000000";

/// No honest footer comes near this; a length beyond it is payload that looks like a footer.
const MAX_FOOTER: u64 = 64 << 20;
/// Length (4 bytes) and magic (4 bytes) that end a Parquet file.
const TAIL: u64 = 8;
const MAGIC: &[u8; 4] = b"PAR1";

/// What a footer of ours says beside the row groups.
#[derive(Debug, Clone, PartialEq)]
pub struct FooterNote {
    /// Format version of the capture.
    pub format: u32,
    /// The recorder process that wrote the rows.
    pub recorder: Ulid,
    /// The segment.
    pub segment: Ulid,
    /// The books as of this checkpoint.
    pub ledger: Ledger,
    /// Digests of the file's bytes from the end of the previous footer (or the file's start) to the
    /// start of the footer that first listed the row group.
    pub digests: Vec<SpanDigest>,
}

/// A footer found in a file.
#[derive(Debug, Clone)]
pub struct Footer {
    /// Row groups and schema.
    pub metadata: Arc<ParquetMetaData>,
    /// What it says of itself.
    pub note: FooterNote,
    /// First byte of the footer.
    pub start: u64,
    /// One past its last byte: the length of the file as of that checkpoint.
    pub end: u64,
}

/// The bytes of a complete footer that begins at file offset `start`.
pub(super) fn write(
    row_groups: &[RowGroupMetaData],
    note: &FooterNote,
    start: u64,
) -> Result<Vec<u8>, parquet::errors::ParquetError> {
    let mut pairs = pairs(note);
    pairs.push(KeyValue::new(OFFSET.to_owned(), start.to_string()));
    pairs.push(KeyValue::new(SELF.to_owned(), UNSIGNED.to_owned()));
    let mut out = footer(row_groups, &COLUMNS, pairs)?;
    let signature = format!("{:016x}", hash64(&out));
    let at = signature_at(&out).expect("the pair was put into this footer just above");
    out[at..at + signature.len()].copy_from_slice(signature.as_bytes());
    Ok(out)
}

/// What every footer says beside the row groups.
pub(super) fn pairs(note: &FooterNote) -> Vec<KeyValue> {
    let ledger = serde_json::to_string(&note.ledger)
        .expect("a ledger is counters and strings, which always serialise");
    let digests: Vec<String> = note.digests.iter().map(SpanDigest::text).collect();
    vec![
        KeyValue::new(
            ARROW_SCHEMA_META_KEY.to_owned(),
            encode_arrow_schema(&STORED),
        ),
        KeyValue::new(FORMAT.to_owned(), note.format.to_string()),
        KeyValue::new(RECORDER.to_owned(), note.recorder.to_string()),
        KeyValue::new(SEGMENT.to_owned(), note.segment.to_string()),
        KeyValue::new(LEDGER.to_owned(), ledger),
        KeyValue::new(DIGESTS.to_owned(), digests.join(",")),
    ]
}

/// Where the value of [`SELF`] stands in a serialised footer.
fn signature_at(footer: &[u8]) -> Option<usize> {
    // Thrift's compact protocol puts a field header and the value's length between key and value.
    let between = [0x18, 16];
    let at = memchr::memmem::rfind(footer, SELF.as_bytes())? + SELF.len();
    let value = at + between.len();
    let there = footer.get(at..value)? == between && value + UNSIGNED.len() <= footer.len();
    there.then_some(value)
}

/// True when the footer's bytes are those that were written.
fn is_authentic(footer: &[u8]) -> bool {
    let Some(at) = signature_at(footer) else {
        return false;
    };
    let mut unsigned = footer.to_vec();
    let said = &footer[at..at + UNSIGNED.len()];
    unsigned[at..at + UNSIGNED.len()].copy_from_slice(UNSIGNED.as_bytes());
    // As text: the same number in other letters is not what we wrote.
    said == format!("{:016x}", hash64(&unsigned)).as_bytes()
}

/// Parses the footer that ends at `end`, if it is one of ours and belongs to `segment`
/// (`None`: any segment).
pub(super) fn at(
    file: &dyn ReadFile,
    end: u64,
    segment: Option<Ulid>,
) -> std::io::Result<Option<Footer>> {
    if end < TAIL + 4 {
        return Ok(None);
    }
    let mut tail = [0u8; 8];
    file.read_exact_at(&mut tail, end - TAIL)?;
    let (length, magic) = tail.split_at(4);
    let length = u64::from(u32::from_le_bytes(
        length.try_into().expect("split at 4 of 8"),
    ));
    if magic != MAGIC || length > MAX_FOOTER || length + TAIL + 4 > end {
        return Ok(None);
    }
    let start = end - TAIL - length;
    let mut bytes = vec![0; usize::try_from(length + TAIL).expect("capped at 64 MiB")];
    file.read_exact_at(&mut bytes, start)?;
    // Payloads are other people's and disks flip bits: what was not written as it stands here is
    // not even parsed.
    if !is_authentic(&bytes) {
        return Ok(None);
    }
    let thrift = &bytes[..bytes.len() - 8];
    let Ok(metadata) = ParquetMetaDataReader::decode_metadata(thrift) else {
        return Ok(None);
    };
    let get = |key| value_of(&metadata, key);
    let offset = get(OFFSET).and_then(|offset| offset.parse::<u64>().ok());
    let (Some(note), Some(offset)) = (note_of(&metadata), offset) else {
        return Ok(None);
    };
    let ours = offset == start
        && segment.is_none_or(|s| s == note.segment)
        && lies_before(&metadata, start);
    Ok(ours.then(|| Footer {
        metadata: Arc::new(metadata),
        note,
        start,
        end,
    }))
}

fn value_of<'a>(metadata: &'a ParquetMetaData, key: &str) -> Option<&'a str> {
    let pairs = metadata.file_metadata().key_value_metadata()?;
    let pair = pairs.iter().find(|kv| kv.key == key)?;
    pair.value.as_deref()
}

/// What a footer says beside the row groups, where it is one of ours.
pub(super) fn note_of(metadata: &ParquetMetaData) -> Option<FooterNote> {
    let get = |key: &str| value_of(metadata, key);
    let digests = get(DIGESTS)?
        .split(',')
        .filter(|s| !s.is_empty())
        .map(SpanDigest::parse)
        .collect::<Option<Vec<_>>>()?;
    Some(FooterNote {
        format: get(FORMAT)?.parse().ok()?,
        recorder: Ulid::from_string(get(RECORDER)?).ok()?,
        segment: Ulid::from_string(get(SEGMENT)?).ok()?,
        ledger: serde_json::from_str(get(LEDGER)?).ok()?,
        digests,
    })
}

/// The last footer of `segment` in the file, searching backwards in windows: the file is never
/// loaded whole.
///
/// # Errors
/// Any I/O error.
pub fn find_last(file: &dyn ReadFile, segment: Option<Ulid>) -> std::io::Result<Option<Footer>> {
    find_last_before(file, file.len(), segment)
}

/// The last footer of `segment` that ends at `to` or before.
pub(super) fn find_last_before(
    file: &dyn ReadFile,
    mut to: u64,
    segment: Option<Ulid>,
) -> std::io::Result<Option<Footer>> {
    const WINDOW: u64 = 1 << 20;
    let mut window = Vec::new();
    while to >= TAIL + 4 {
        let from = to.saturating_sub(WINDOW);
        window.resize(
            usize::try_from(to - from).expect("a window is at most 1 MiB"),
            0,
        );
        file.read_exact_at(&mut window, from)?;
        for at_in_window in memchr::memmem::rfind_iter(&window, MAGIC) {
            let end = from + at_in_window as u64 + MAGIC.len() as u64;
            if let Some(footer) = at(file, end, segment)? {
                return Ok(Some(footer));
            }
        }
        if from == 0 {
            break;
        }
        // Windows overlap by three bytes so that a magic across their border is seen once.
        to = from + MAGIC.len() as u64 - 1;
    }
    Ok(None)
}

impl FooterNote {
    pub(super) fn new(recorder: Ulid, segment: Ulid) -> Self {
        Self {
            format: FORMAT_VERSION,
            recorder,
            segment,
            ledger: Ledger::default(),
            digests: Vec::new(),
        }
    }
}
