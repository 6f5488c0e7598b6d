//! Folders of `.npz` and `.npy` files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::DeflateDecoder;
use inferdiff_schemas::Tensor;
use rawzip::{CompressionMethod, ZipArchive};

use super::{ImportError, Sample, Samples, files, natural, numpy};

/// A request per `.npz`, per folder of `.npy` files (a tensor each), or per `.npy` that lies in
/// the folder itself (its tensor is called `input`).
///
/// # Errors
/// There is no such file.
pub(super) fn samples(path: &Path) -> Result<Samples, ImportError> {
    let root = if path.is_dir() {
        path.to_owned()
    } else {
        path.parent().unwrap_or(Path::new("")).to_owned()
    };
    // By the name of the request; a folder's arrays come together.
    let mut found: BTreeMap<(String, PathBuf), Vec<PathBuf>> = BTreeMap::new();
    for file in files(path)? {
        let key = match file.extension().and_then(|e| e.to_str()) {
            Some("npz") => file.clone(),
            Some("npy") if file.parent() == Some(&root) => file.clone(),
            Some("npy") => file.parent().unwrap_or(&root).to_owned(),
            _ => continue,
        };
        let order = natural(&key.to_string_lossy());
        found.entry((order, key)).or_default().push(file);
    }
    if found.is_empty() {
        return Err(ImportError::at(path, "no .npz and no .npy file is there"));
    }
    Ok(Box::new(found.into_iter().map(move |((_, key), files)| {
        let named = key.strip_prefix(&root).unwrap_or(&key);
        let is_file = files.first() == Some(&key);
        let named = if is_file {
            named.with_extension("")
        } else {
            named.to_owned()
        };
        let id = named.to_string_lossy().into_owned();
        let tensors = match files.as_slice() {
            [file] if file.extension().is_some_and(|e| e == "npz") => npz(file)?,
            [file] if is_file => vec![npy("input", file)?],
            files => files
                .iter()
                .map(|f| npy(&stem(f), f))
                .collect::<Result<_, _>>()?,
        };
        Ok(Sample::new(Some(id), key.display().to_string(), tensors))
    })))
}

fn stem(file: &Path) -> String {
    file.file_stem()
        .map_or_else(String::new, |s| s.to_string_lossy().into_owned())
}

fn npy(name: &str, file: &Path) -> Result<Tensor, ImportError> {
    let fail = |why: String| ImportError::at(file, why);
    let open = File::open(file).map_err(|e| fail(e.to_string()))?;
    numpy::tensor(name, BufReader::new(open)).map_err(fail)
}

/// The arrays of a `.npz` in the order in which they were saved.
fn npz(file: &Path) -> Result<Vec<Tensor>, ImportError> {
    let fail = |why: String| ImportError::at(file, why);
    let bytes = std::fs::read(file).map_err(|e| fail(e.to_string()))?;
    let archive = ZipArchive::from_slice(&bytes);
    let archive = archive.map_err(|e| fail(format!("no .npz archive: {e}")))?;
    let mut tensors = Vec::new();
    let mut entries = archive.entries();
    while let Some(header) = entries.next_entry().map_err(|e| fail(e.to_string()))? {
        let inside = String::from_utf8_lossy(header.file_path().as_ref()).into_owned();
        let name = inside.strip_suffix(".npy").unwrap_or(&inside);
        let fail = |why: String| fail(format!("`{name}`: {why}"));
        let entry = archive.get_entry(header.wayfinder());
        let entry = entry.map_err(|e| fail(e.to_string()))?;
        let data: Box<dyn Read> = match header.compression_method() {
            CompressionMethod::STORE => Box::new(entry.data()),
            CompressionMethod::DEFLATE => Box::new(DeflateDecoder::new(entry.data())),
            other => return Err(fail(format!("compression {other:?} is none of NumPy's"))),
        };
        let tensor = numpy::tensor(name, entry.verifying_reader(data)).map_err(fail)?;
        tensors.push(tensor);
    }
    Ok(tensors)
}
