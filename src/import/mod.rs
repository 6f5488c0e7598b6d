//! `captures import`: arrays that were saved elsewhere become a capture, so that the training side
//! needs no server.
//!
//! `files → samples → checks → exchanges → Capture`. A sample that does not look like the first
//! one is named and left out, never bent into shape.

mod npz;
mod numpy;
mod parquet;
mod perf_analyzer;
mod polygraphy;
mod roles;
mod write;

use std::path::{Path, PathBuf};

use inferdiff_schemas::{Datatype, Tensor, TensorError};
use serde::Serialize;

pub use roles::Roles;
pub use write::{Imported, Origin, import};

/// How the arrays were saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A folder of `.npz` or `.npy` files (or one file), a request each. The arrays of
    /// `NAME.npz` are its tensors; `ID/TENSOR.npy` and `ID.npy` (one tensor) work too.
    Numpy,
    /// A Parquet file (or a folder of them), a request per row, a tensor per column.
    Parquet,
    /// JSON of Polygraphy's `--save-inputs` or `--save-outputs`.
    Polygraphy,
    /// perf_analyzer's `--input-data` JSON.
    PerfAnalyzer,
}

/// One request as it was saved.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its name: the file's, the id column's; `None` where the format has none.
    pub id: Option<String>,
    /// Where it stands, for messages.
    pub place: String,
    /// Arrays in their order.
    pub tensors: Vec<Tensor>,
    /// Arrays that the format itself says are answers.
    pub answers: Vec<Tensor>,
}

impl Sample {
    /// A sample of which the format does not say which arrays are answers.
    fn new(id: Option<String>, place: impl Into<String>, tensors: Vec<Tensor>) -> Self {
        Self {
            id,
            place: place.into(),
            tensors,
            answers: Vec::new(),
        }
    }
}

/// Why something cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file that cannot be read or is not what its name says.
    #[error("{place}: {why}")]
    File {
        /// File, and where in it.
        place: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// The capture cannot be written.
    #[error(transparent)]
    Capture(#[from] inferdiff_schemas::capture::CaptureError),
}

impl ImportError {
    fn new(place: impl Into<String>, why: impl ToString) -> Self {
        Self::File {
            place: place.into(),
            why: why.to_string(),
        }
    }

    fn at(path: &Path, why: impl ToString) -> Self {
        Self::new(path.display().to_string(), why)
    }
}

impl From<TensorError> for ImportError {
    fn from(e: TensorError) -> Self {
        Self::new("an array", e)
    }
}

/// Samples one after another; an error is about one sample, and the next may be fine.
pub type Samples = Box<dyn Iterator<Item = Result<Sample, ImportError>>>;

/// The format that the path shows.
///
/// # Errors
/// It shows none.
pub fn format_of(path: &Path) -> Result<Format, ImportError> {
    let files = files(path)?;
    let ends = |e: &str| files.iter().any(|f| f.extension().is_some_and(|x| x == e));
    if ends("npz") || ends("npy") {
        return Ok(Format::Numpy);
    }
    if ends("parquet") {
        return Ok(Format::Parquet);
    }
    let json = files
        .iter()
        .find(|f| f.extension().is_some_and(|x| x == "json"));
    if let Some(file) = json {
        let text = std::fs::read_to_string(file).map_err(|e| ImportError::at(file, e))?;
        return Ok(if text.contains("polygraphy_class") {
            Format::Polygraphy
        } else {
            Format::PerfAnalyzer
        });
    }
    Err(ImportError::at(
        path,
        "no .npz, .npy, .parquet or .json file is there; name the format with --format",
    ))
}

/// The samples of a path.
///
/// # Errors
/// [`ImportError`]: nothing there that can be read as that format.
pub fn samples(path: &Path, format: Format, roles: &Roles) -> Result<Samples, ImportError> {
    match format {
        Format::Numpy => npz::samples(path),
        Format::Parquet => parquet::samples(path, roles),
        Format::Polygraphy => polygraphy::samples(path),
        Format::PerfAnalyzer => perf_analyzer::samples(path, roles),
    }
}

/// The file itself, or every file below a folder, in natural order (`a2` before `a10`).
fn files(path: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let fail = |e| ImportError::at(path, e);
    if !std::fs::metadata(path).map_err(fail)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let (mut found, mut folders) = (Vec::new(), vec![path.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| ImportError::at(&folder, e))? {
            let entry = entry.map_err(|e| ImportError::at(&folder, e))?;
            // A link to a folder could lead back: only real folders are entered.
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort_by_cached_key(|p| natural(&p.to_string_lossy()));
    Ok(found)
}

/// Text with its numbers padded, so that byte order is the order a person expects.
fn natural(text: &str) -> String {
    let mut key = String::with_capacity(text.len() + 20);
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let tail = &rest[at..];
        let end = tail
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(tail.len());
        key += &rest[..at];
        let number = tail[..end].trim_start_matches('0');
        key += &format!("{number:0>20}");
        rest = &tail[end..];
    }
    key + rest
}

/// BYTES data of these elements.
fn bytes_data<'a>(elements: impl Iterator<Item = &'a [u8]>) -> Result<Vec<u8>, String> {
    let mut data = Vec::new();
    for e in elements {
        let length = u32::try_from(e.len()).map_err(|_| "an element is over 4 GiB".to_owned())?;
        data.extend_from_slice(&length.to_le_bytes());
        data.extend_from_slice(e);
    }
    Ok(data)
}

/// Dimensions as a tensor has them.
fn dimension(d: u64) -> Result<i64, String> {
    i64::try_from(d).map_err(|_| format!("dimension {d} is too large"))
}

/// The datatype of that protocol name.
///
/// # Errors
/// No datatype has it.
pub fn datatype(name: &str) -> Result<Datatype, String> {
    Datatype::from_name(&name.to_uppercase()).ok_or_else(|| {
        let known: Vec<_> = Datatype::ALL.iter().map(|d| d.name()).collect();
        format!("datatype `{name}`: there are {}", known.join(", "))
    })
}
