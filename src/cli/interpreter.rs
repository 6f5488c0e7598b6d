//! Finding Python interpreters that have paddle or onnx. Only here is the environment asked.

use std::path::{Path, PathBuf};

/// The interpreters of stages that name none.
#[derive(Default)]
pub struct Interpreters {
    /// With paddle.
    pub paddle: Option<PathBuf>,
    /// With onnx.
    pub onnx: Option<PathBuf>,
}

/// The interpreter given, else `INFERDIFF_PYTHON`, else the first that has the package: the active
/// virtual environment's, `.venv`'s, the newest of `.venvs/paddle-*` (`scripts/setup --paddle`),
/// those of `PATH`. The one given serves paddle in any case, and onnx where it has it: one ladder may
/// need both, and few environments have both.
pub fn find(given: Option<&Path>) -> Interpreters {
    let told = given.map(Path::to_owned);
    let told = told.or_else(|| std::env::var_os("INFERDIFF_PYTHON").map(PathBuf::from));
    let with_onnx = told.clone().filter(|python| has(python, "onnx"));
    Interpreters {
        onnx: with_onnx
            .or_else(|| all("onnx").next())
            .or_else(|| told.clone()),
        paddle: told.or_else(|| all("paddle").next()),
    }
}

/// Every interpreter that has the package, in the order in which they are looked for.
pub fn all(package: &'static str) -> impl Iterator<Item = PathBuf> {
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let environments = active
        .into_iter()
        .chain([PathBuf::from(".venv")])
        .chain(prepared());
    environments
        .map(|e| e.join("bin/python"))
        .chain(in_path())
        .filter(move |python| has(python, package))
}

/// `.venvs/paddle-VERSION`, the newest first.
fn prepared() -> Vec<PathBuf> {
    let all = std::fs::read_dir(".venvs").into_iter().flatten().flatten();
    let mut found: Vec<(Vec<u32>, PathBuf)> = all
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix("paddle-")?.split('.');
            let version = version.map(str::parse).collect::<Result<_, _>>().ok()?;
            Some((version, entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

fn in_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("python3"))
        .collect()
}

/// It lies beside its packages; nothing is started.
fn has(python: &Path, package: &str) -> bool {
    let Some(prefix) = python.parent().and_then(Path::parent) else {
        return false;
    };
    let lib = std::fs::read_dir(prefix.join("lib")).into_iter().flatten();
    python.is_file()
        && lib.flatten().any(|entry| {
            ["site-packages", "dist-packages"]
                .iter()
                .any(|packages| entry.path().join(packages).join(package).is_dir())
        })
}
