//! The run's directory: new, or of an interrupted equal run, and of one process at a time.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::{Manifest, RUN_FORMAT};
use inferdiff_schemas::run::{RunFileError, read_json, write_json};

use super::RunError;

/// Held while a process works on the run; a kill releases it.
#[derive(Debug)]
pub struct Held {
    _lock: File,
    /// The directory was not there before.
    is_new: bool,
}

impl Held {
    /// Leaves the directory as it was found, where nothing of a run is in it yet.
    pub(super) fn give_up(self, layout: &RunLayout) {
        if layout.manifest().exists() {
            return;
        }
        // What cannot be removed does no harm: a directory of hidden files counts as empty.
        let _ = std::fs::remove_file(layout.lock());
        if self.is_new {
            let _ = std::fs::remove_dir(layout.root());
        }
    }
}

/// Takes the directory for this process.
pub(super) fn hold(layout: &RunLayout) -> Result<Held, RunError> {
    let fail = |path: &Path, e: &std::io::Error| RunFileError {
        action: "write",
        path: path.to_owned(),
        why: e.to_string(),
        missing: false,
    };
    let root = layout.root();
    let strange = std::fs::read_dir(root).is_ok_and(|entries| {
        let ours = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
        !layout.manifest().exists() && entries.flatten().any(|e| !ours(&e.file_name()))
    });
    if strange {
        return Err(RunError::NoRun {
            path: root.to_owned(),
        });
    }
    let is_new = !root.exists();
    std::fs::create_dir_all(root).map_err(|e| fail(root, &e))?;
    let path = layout.lock();
    let lock = File::create(&path).map_err(|e| fail(&path, &e))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(RunError::Busy {
                path: root.to_owned(),
            });
        }
        Err(TryLockError::Error(e)) => return Err(fail(&path, &e).into()),
    }
    // Another gave the directory up between our opening of the lock and our taking of it.
    if lock.metadata().is_ok_and(|m| m.nlink() == 0) {
        return Err(RunError::Busy {
            path: root.to_owned(),
        });
    }
    Ok(Held {
        _lock: lock,
        is_new,
    })
}

/// Clears away what a killed process was writing (`.name.pid`), where this one writes nothing; a file of
/// the run never begins with a dot.
pub(super) fn sweep(layout: &RunLayout) {
    sweep_below(layout.root(), 0);
}

fn sweep_below(folder: &Path, depth: usize) {
    // run/stages/<name>/comparisons/<file>
    const DEEPEST: usize = 3;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
        if is_dir && depth < DEEPEST {
            sweep_below(&path, depth + 1);
        } else if !is_dir && is_half_written(&name.to_string_lossy()) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn is_half_written(name: &str) -> bool {
    let parts = name.strip_prefix('.').and_then(|n| n.rsplit_once('.'));
    parts.is_some_and(|(_, pid)| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
}

/// Writes the manifest, or takes the one of an interrupted run that replays the same.
pub(super) fn commit(layout: &RunLayout, new: Manifest) -> Result<Manifest, RunError> {
    let other = |differs: String| RunError::OtherRun {
        path: layout.root().to_owned(),
        differs,
    };
    // The version first: a newer file need not parse as ours.
    let old: serde_json::Value = match read_json(&layout.manifest()) {
        Ok(old) => old,
        Err(e) if e.missing => {
            write_json(&layout.manifest(), &new)?;
            return Ok(new);
        }
        Err(e) => return Err(e.into()),
    };
    let format = old["format"].as_u64().unwrap_or(0);
    let version = old["version"].as_str().unwrap_or("unknown");
    if format != u64::from(RUN_FORMAT) || version != new.version {
        return Err(other(format!(
            "it was made by inferdiff {version}, run format {format}; this is {} with format {RUN_FORMAT}",
            new.version
        )));
    }
    let old: Manifest = serde_json::from_value(old).map_err(|e| RunFileError {
        action: "read",
        path: layout.manifest(),
        why: e.to_string(),
        missing: false,
    })?;
    let differs = differences(&old, &new);
    if !differs.is_empty() {
        return Err(other(format!("what differs: {}", differs.join(", "))));
    }
    // Metrics and labels only judge, limits only stop: they may change between attempts.
    write_json(&layout.manifest(), &new)?;
    Ok(new)
}

fn differences(old: &Manifest, new: &Manifest) -> Vec<String> {
    let mut differs = Vec::new();
    let mut check = |same: bool, what: &str| {
        if !same {
            differs.push(what.to_owned());
        }
    };
    check(
        old.capture_digest == new.capture_digest,
        &format!("the capture (it was {})", old.capture.display()),
    );
    let taken = |m: &Manifest| (m.filter.clone(), m.sample, m.seed, m.limit);
    check(taken(old) == taken(new), "--where, --sample or --limit");
    let every = |m: &Manifest| m.commit_every;
    check(every(old) == every(new), "--commit-every");
    let chosen = |m: &Manifest| (taken(m), m.capture_digest.clone(), every(m));
    if chosen(old) == chosen(new) {
        check(old.chunks == new.chunks, "the exchanges");
    }
    check(old.models == new.models, "the model files");
    check(old.ladder.stages == new.ladder.stages, "the stages");
    check(
        old.ladder.tolerance == new.ladder.tolerance,
        "the tolerances",
    );
    check(old.keep_outputs == new.keep_outputs, "--keep-outputs");
    differs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_killed_process_of_ours_left_is_swept_and_a_refused_run_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let layout = RunLayout::new(dir.path().join("run"));
        std::fs::create_dir_all(layout.stage("all")).unwrap();
        let ours = layout.stage("all").join(".comparisons.parquet.4711");
        let theirs = layout.root().join(".profile");
        for path in [&ours, &theirs, &layout.lock(), &layout.manifest()] {
            std::fs::write(path, "").unwrap();
        }
        sweep(&layout);
        assert!(!ours.exists() && theirs.exists() && layout.lock().exists());

        let refused = RunLayout::new(dir.path().join("refused"));
        let held = hold(&refused).unwrap();
        assert!(matches!(hold(&refused), Err(RunError::Busy { .. })));
        held.give_up(&refused);
        assert!(!refused.root().exists());
    }
}
