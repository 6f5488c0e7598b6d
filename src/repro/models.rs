//! Copies of the models and what lies beside them.

use std::path::{Path, PathBuf};

/// Copies a model with its external data into `folder`; the path of the copy.
///
/// # Errors
/// A file that cannot be read or written.
pub(super) fn copy(model: &Path, folder: &Path) -> Result<PathBuf, String> {
    let fail = |p: &Path| {
        let p = p.display().to_string();
        move |e: std::io::Error| format!("{p}: {e}")
    };
    std::fs::create_dir_all(folder).map_err(fail(folder))?;
    let name = model
        .file_name()
        .ok_or_else(|| format!("{} is no file", model.display()))?;
    let to = folder.join(name);
    std::fs::copy(model, &to).map_err(fail(model))?;
    let name = name.to_string_lossy();
    let stem = name.strip_suffix(".onnx").unwrap_or(&name);
    // ONNX keeps external data beside the model, under the names that its writers choose.
    for data in [
        format!("{name}.data"),
        format!("{name}_data"),
        format!("{stem}.data"),
        format!("{stem}.bin"),
        format!("{stem}.weight"),
    ] {
        let from = model.with_file_name(&data);
        if from.is_file() {
            std::fs::copy(&from, folder.join(&data)).map_err(fail(&from))?;
        }
    }
    Ok(to)
}
