//! One stage's processes: started, listened to, started again where one died.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::{StageState, StageStatus};
use inferdiff_schemas::run::{read_json, write_json};

use super::orchestrate::{Launch, RunError};
use super::stage::{StageMessage, crashed_file};

/// A stage whose process keeps dying is given up after this many exchanges have killed it.
const MOST_CRASHES: usize = 16;

/// Runs a stage to its end. A process that dies is started again and told to name each exchange
/// before it replays it; the one it dies on is named and left out, the stage goes on.
pub(super) fn run(
    launch: &Launch,
    layout: &RunLayout,
    stage: &str,
    progress: &mut dyn FnMut(u64),
) -> Result<StageStatus, RunError> {
    let mut careful = false;
    let mut crashed: BTreeMap<u64, String> = BTreeMap::new();
    loop {
        let (last, died) = once(launch, layout, stage, careful, progress)?;
        let Some(how) = died else {
            return read_json(&layout.status(stage)).map_err(RunError::File);
        };
        match last {
            Some(seq) if careful && crashed.len() < MOST_CRASHES => {
                crashed.insert(seq, format!("the stage's process died on it: {how}"));
                write_json(&crashed_file(layout, stage), &crashed).map_err(RunError::File)?;
                careful = false;
            }
            // It died outside an exchange, or of too many: there is nothing more to learn.
            _ if careful => {
                let status = StageStatus {
                    state: StageState::Failed,
                    reason: Some(format!("the stage's process died: {how}")),
                    batch_axis: false,
                    open_seconds: 0.0,
                    replay_seconds: 0.0,
                };
                write_json(&layout.status(stage), &status).map_err(RunError::File)?;
                return Ok(status);
            }
            _ => careful = true,
        }
    }
}

/// One process. Returns the exchange it named last and, where it died, how.
fn once(
    launch: &Launch,
    layout: &RunLayout,
    stage: &str,
    careful: bool,
    progress: &mut dyn FnMut(u64),
) -> Result<(Option<u64>, Option<String>), RunError> {
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.args)
        .arg("--run")
        .arg(layout.root())
        .arg("--stage")
        .arg(stage);
    if careful {
        command.arg("--careful");
    }
    let start = |e: std::io::Error| RunError::Start {
        stage: stage.to_owned(),
        why: e.to_string(),
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
    let mut last = None;
    let mut done = 0;
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(StageMessage::Begin { .. }) => last = None,
            Ok(StageMessage::At { seq }) => last = Some(seq),
            Ok(StageMessage::Done { exchanges }) => {
                done += exchanges;
                progress(done);
            }
            Err(_) => tracing::debug!(stage, line, "not a message of the stage process"),
        }
    }
    let status = child.wait().map_err(start)?;
    let how = match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("exit code {code}")),
        (None, Some(signal)) => Some(format!("signal {signal}")),
        (None, None) => Some("unknown end".to_owned()),
    };
    Ok((last, how))
}
