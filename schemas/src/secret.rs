//! Secrets in files that only their owner may read.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The bytes of a secret file.
///
/// # Errors
/// It cannot be read, or others than its owner may read it; a sentence without the file's name.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, String> {
    let mode = std::fs::metadata(path)
        .map_err(|e| e.to_string())?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "others may read it (mode {:o}): chmod 600",
            mode & 0o777
        ));
    }
    std::fs::read(path).map_err(|e| e.to_string())
}
