//! Finding the ONNX Runtime library. Only here is the environment asked.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library given, else `INFERDIFF_ONNXRUNTIME`, else the one inside the `onnxruntime` Python
/// package of `.venv`, of the active virtual environment, or of `python3`.
pub fn find(given: Option<&Path>) -> Option<PathBuf> {
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
