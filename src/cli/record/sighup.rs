//! The configuration file, read again while recording.

use std::path::PathBuf;
use std::sync::Arc;

use clap::FromArgMatches;
use tokio::signal::unix::Signal;

use super::flags::{RecordArgs, command};
use super::options::reload;
use crate::cli::{Failure, arguments, config};
use crate::recorder::Recorder;

/// Flags that take effect at SIGHUP.
const RELOADED: [&str; 13] = [
    "sample-rate",
    "sample-by",
    "keep-header",
    "keep-query",
    "tensor",
    "hash-key",
    "bodies",
    "flush-bytes",
    "flush-age",
    "retain-age",
    "retain-size",
    "min-free",
    "merge-rate",
];

/// Reads the file again at every SIGHUP: what can change changes, the rest is said.
pub(super) async fn reload_at_sighup(mut hangup: Signal, path: PathBuf, recorder: Arc<Recorder>) {
    let flags = || {
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
        config::flags(&text, &path, &command())
    };
    let mut known = flags().unwrap_or_default();
    while hangup.recv().await.is_some() {
        let read = flags().and_then(|new| {
            let all = config::expand(arguments(), &command())?;
            // The program's name stays, the command's goes: the flags alone are parsed.
            let flags = all.iter().enumerate().filter(|(i, _)| *i != 1);
            let matches = command()
                .try_get_matches_from(flags.map(|(_, a)| a))
                .map_err(|e| Failure::usage(e.render()))?;
            let args = RecordArgs::from_arg_matches(&matches).map_err(Failure::usage)?;
            Ok((new, reload(&args)?))
        });
        match read {
            Ok((new, settings)) => {
                let changed = config::changed(&known, &new);
                recorder.reload(settings);
                let (now, later): (Vec<_>, Vec<_>) = changed
                    .into_iter()
                    .partition(|key| RELOADED.contains(&key.as_str()));
                tracing::warn!("{} read again; changed: {}", path.display(), list(&now));
                if !later.is_empty() {
                    tracing::warn!("changed at the next start only: {}", list(&later));
                }
                known = new;
            }
            Err(e) => tracing::error!("nothing is changed: {}", e.message),
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    names.join(", ")
}
