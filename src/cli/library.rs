//! Finding the ONNX Runtime library. Only here is the environment asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use inferdiff_replay::runtime::NAMED;

use super::Failure;

/// The libraries of stages that name none, and of those that call one by name.
#[derive(Debug, Default)]
pub struct Libraries {
    pub unnamed: Option<PathBuf>,
    pub named: BTreeMap<String, PathBuf>,
}

/// Libraries as given (`FILE`, or `NAME=FILE` for one that ladders call by name), else where they
/// are usually found.
///
/// # Errors
/// A name that no library has, two libraries for one name.
pub fn find_all(given: &[PathBuf]) -> Result<Libraries, Failure> {
    let mut unnamed = None;
    let mut named = BTreeMap::new();
    for one in given {
        let text = one.to_string_lossy();
        let before = match text.split_once('=') {
            Some((name, path)) if NAMED.iter().any(|(n, _)| *n == name) => {
                named.insert(name.to_owned(), PathBuf::from(path)).is_some()
            }
            _ => unnamed.replace(one.clone()).is_some(),
        };
        if before {
            return Err(Failure::usage(format!(
                "--library {text}: there is another before it; a library that ladders call by name \
                 is NAME=FILE (names: {})",
                NAMED.map(|(name, _)| name).join(", ")
            )));
        }
    }
    for (name, _) in NAMED {
        if let (false, Some(path)) = (named.contains_key(name), usual(name)) {
            named.insert(name.to_owned(), path);
        }
    }
    Ok(Libraries {
        unnamed: find(unnamed.as_deref()),
        named,
    })
}

/// `INFERDIFF_ONNXRUNTIME_OPENVINO`, else `.venvs/openvino`; for other names alike.
fn usual(name: &str) -> Option<PathBuf> {
    let short = name.strip_prefix("onnxruntime-")?;
    let variable = format!("INFERDIFF_ONNXRUNTIME_{}", short.to_uppercase());
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    in_environment(&Path::new(".venvs").join(short))
}

/// The library given, else `INFERDIFF_ONNXRUNTIME`, else the one inside the `onnxruntime` Python
/// package of `.venv`, of the active virtual environment, or of `python3`.
fn find(given: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = given {
        return Some(path.to_owned());
    }
    if let Some(path) = std::env::var_os("INFERDIFF_ONNXRUNTIME") {
        return Some(path.into());
    }
    let local = PathBuf::from(".venv");
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let environments = std::iter::once(local).chain(active);
    environments
        .into_iter()
        .find_map(|e| in_environment(&e))
        .or_else(in_python)
}

fn in_environment(environment: &Path) -> Option<PathBuf> {
    let lib = std::fs::read_dir(environment.join("lib")).ok()?;
    lib.flatten()
        .find_map(|python| in_package(&python.path().join("site-packages/onnxruntime")))
}

fn in_python() -> Option<PathBuf> {
    let code = "import importlib.util as u; print(u.find_spec('onnxruntime').submodule_search_locations[0])";
    let out = Command::new("python3").args(["-c", code]).output().ok()?;
    let package = String::from_utf8(out.stdout).ok()?;
    out.status
        .success()
        .then(|| in_package(Path::new(package.trim())))?
}

fn in_package(package: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(package.join("capi")).ok()?;
    let named = |p: &PathBuf| {
        p.file_name()
            .and_then(|n| n.to_str())
            .is_some_and(|n| n.starts_with("libonnxruntime.so"))
    };
    files.flatten().map(|f| f.path()).filter(named).max()
}
