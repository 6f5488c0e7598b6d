//! The runtime library: one per process, whoever asks first.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::log::SessionLog;
use crate::runtime::OpenError;

/// What to do where there is no library.
const HOW: &str = "`pip install onnxruntime==1.32.0` and give the path of its \
                   onnxruntime/capi/libonnxruntime.so.* with --library";

/// Libraries that a ladder may call by the name of the Python package that brings them, and the
/// version to install.
pub const NAMED: [(&str, &str); 2] = [
    ("onnxruntime-openvino", "1.24.1"),
    ("onnxruntime-gpu", "1.31.1"),
];

/// The loaded library.
pub(super) struct Library {
    /// Canonical path.
    pub path: PathBuf,
    /// `1.32.0`, as the library says.
    pub version: String,
    pub environment: Environment,
    /// What the library says outside of sessions: why a provider could not be loaded, for one.
    pub log: SessionLog,
}

static LOADED: OnceLock<Library> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// The library to use: an explicit path wins (and must exist), else the first candidate that does.
/// A folder stands for the newest `libonnxruntime.so*` in it, so that a caller may name the `capi`
/// folder of a Python package. This crate never asks the environment: the caller brings both.
///
/// # Errors
/// [`OpenError::Unavailable`] with every place that was looked at.
pub fn locate(explicit: Option<&Path>, candidates: &[PathBuf]) -> Result<PathBuf, OpenError> {
    if let Some(path) = explicit {
        return in_place(path).ok_or_else(|| {
            OpenError::Unavailable(format!(
                "no ONNX Runtime library at {}: {HOW}",
                path.display()
            ))
        });
    }
    candidates.iter().find_map(|c| in_place(c)).ok_or_else(|| {
        let looked: Vec<_> = candidates.iter().map(|c| c.display().to_string()).collect();
        let looked = if looked.is_empty() {
            String::new()
        } else {
            format!(" (looked at {})", looked.join(", "))
        };
        OpenError::Unavailable(format!("no ONNX Runtime library was found{looked}: {HOW}"))
    })
}

/// The place of a library called by name; `None` where `said` is no name but a path.
///
/// # Errors
/// A name whose library the caller did not find.
pub(super) fn named(
    said: &Path,
    found: &BTreeMap<String, PathBuf>,
) -> Result<Option<PathBuf>, String> {
    let Some((name, version)) = NAMED.iter().find(|(name, _)| said == Path::new(name)) else {
        return Ok(None);
    };
    let place = found.get(*name).ok_or_else(|| {
        format!(
            "the library `{name}` was not found: `pip install {name}=={version}` into a virtual \
             environment of its own and give --library {name}=FOLDER/onnxruntime/capi"
        )
    })?;
    Ok(Some(place.clone()))
}

/// The absolute path of a file that can be a library.
///
/// # Errors
/// There is none, or it is something else.
pub(super) fn checked(path: &Path) -> Result<PathBuf, String> {
    let found = locate(Some(path), &[]).map_err(|e| e.to_string())?;
    let path = crate::ladder::existing("library", &found)?;
    if cfg!(target_os = "linux") {
        let mut magic = [0; 4];
        let read = File::open(&path).and_then(|mut file| file.read_exact(&mut magic));
        if read.is_err() || magic != *b"\x7fELF" {
            return Err(format!(
                "library {} is no shared library (it does not begin as ELF files do): {HOW}",
                path.display()
            ));
        }
    }
    Ok(path)
}

fn in_place(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_owned());
    }
    let files = std::fs::read_dir(path).ok()?.flatten().map(|f| f.path());
    files
        .filter(|p| file_version(p).is_some())
        .max_by_key(|p| file_version(p))
}

/// `libonnxruntime.so.1.32.0` → `[1, 32, 0]`, as numbers: 1.9 is older than 1.32.
fn file_version(path: &Path) -> Option<Vec<u32>> {
    let name = path.file_name()?.to_str()?;
    let rest = name.strip_prefix("libonnxruntime.so")?;
    Some(rest.split('.').filter_map(|n| n.parse().ok()).collect())
}

/// Loads the library, or returns it where this process has loaded the same one before.
///
/// A second library in one process would be ignored in silence by `ort`, so it is an error here.
pub(super) fn load(path: &Path) -> Result<&'static Library, OpenError> {
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = std::fs::canonicalize(path).map_err(|e| {
        OpenError::Unavailable(format!(
            "cannot load the ONNX Runtime library {}: {e}. {HOW}",
            path.display()
        ))
    })?;
    if let Some(loaded) = LOADED.get() {
        if loaded.path == path {
            return Ok(loaded);
        }
        return Err(OpenError::Failed(format!(
            "this process has loaded {} and cannot load {} beside it: one process, one library; \
             run the other stage in a process of its own",
            loaded.path.display(),
            path.display()
        )));
    }
    let unavailable = |e: &dyn std::fmt::Display| {
        OpenError::Unavailable(format!(
            "{} is no usable ONNX Runtime library (1.24 or newer): {e}. {HOW}",
            path.display()
        ))
    };
    let log = SessionLog::default();
    let environment = ort::init_from(&path)
        .map_err(|e| unavailable(&e))?
        .with_name("inferdiff")
        .with_telemetry(false)
        .with_logger(log.function())
        .build()
        .map_err(|e| unavailable(&e))?;
    environment.set_log_level(LogLevel::Warning);
    let version = version(&path).map_err(|e| unavailable(&e))?;
    Ok(LOADED.get_or_init(|| Library {
        path,
        version,
        environment,
        log,
    }))
}

/// Asks the library itself: its file name and its build's branch are only somebody's words for it.
#[expect(
    unsafe_code,
    reason = "ort keeps OrtApiBase, which alone knows the version, to itself"
)]
fn version(path: &Path) -> Result<String, libloading::Error> {
    type Base = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: ort has just loaded this very file, so this adds a reference and runs no initialiser;
    // `OrtGetApiBase` has this signature in every release and returns a static.
    unsafe {
        let library = libloading::Library::new(path)?;
        let base = library.get::<Base>(b"OrtGetApiBase\0")?();
        let version = base.as_ref().map(|base| (base.GetVersionString)());
        Ok(version.filter(|v| !v.is_null()).map_or_else(
            || "unknown".to_owned(),
            |v| CStr::from_ptr(v).to_string_lossy().into_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_path_wins_and_a_folder_gives_its_newest_library() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, "").unwrap();
            path
        };
        file("libonnxruntime_providers_shared.so");
        let old = file("libonnxruntime.so.1.9.0");
        let new = file("libonnxruntime.so.1.32.0");
        let folder = dir.path().to_owned();
        let nowhere = folder.join("nowhere");
        assert_eq!(
            locate(None, &[nowhere.clone(), folder.clone()]),
            Ok(new.clone())
        );
        assert_eq!(locate(Some(&old), std::slice::from_ref(&folder)), Ok(old));
        assert!(locate(Some(&nowhere), &[folder]).is_err());
    }

    #[test]
    fn a_name_is_looked_up_and_what_is_no_library_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("libonnxruntime.so.1.0.0");
        std::fs::write(&text, "no library").unwrap();
        let why = checked(&text).unwrap_err();
        assert!(why.contains("is no shared library"), "{why}");
        let name = Path::new("onnxruntime-openvino");
        let why = named(name, &BTreeMap::new()).unwrap_err();
        assert!(
            why.contains("pip install onnxruntime-openvino==1.24.1"),
            "{why}"
        );
        let found = BTreeMap::from([("onnxruntime-openvino".to_owned(), text.clone())]);
        assert_eq!(named(name, &found), Ok(Some(text)));
        assert_eq!(named(Path::new("./onnxruntime-openvino"), &found), Ok(None));
    }

    #[test]
    fn what_was_looked_at_and_what_to_do_are_said() {
        let why = locate(None, &["/no/such/place".into()])
            .unwrap_err()
            .to_string();
        assert!(
            why.contains("/no/such/place") && why.contains("pip install"),
            "{why}"
        );
    }
}
