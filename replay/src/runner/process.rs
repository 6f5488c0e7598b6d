//! One process of a stage: started, listened to, stopped where it hangs.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::Limits;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::orchestrate::{Launch, RunError};
use super::{StageMessage, Task};

/// Opening a stage may build an engine; longer than this it never ends.
const LONGEST_OUTSIDE: Duration = Duration::from_secs(3600);
/// A process tells where it is ten times a second; one that does not is stopped or locked up whole.
const LONGEST_SILENCE: Duration = Duration::from_secs(120);

/// How a process of a stage ended.
pub(super) enum Ended {
    /// It did what it was asked.
    Finished,
    /// It died, or was stopped because it hung.
    Died(Death),
}

/// What is known of a death.
pub(super) struct Death {
    /// In words.
    pub how: String,
    /// The chunk that it was in.
    pub chunk: Option<String>,
    /// Exchanges of the chunk that it may have died of, in the order of their replay, where known.
    pub in_flight: Vec<String>,
    /// A chunk was committed before.
    pub committed: bool,
}

/// What a stage's processes have in common.
pub(super) struct Stages<'a> {
    pub launch: &'a Launch,
    pub layout: &'a RunLayout,
    pub stage: &'a str,
    pub limits: Limits,
    pub progress: &'a mut dyn FnMut(u64),
}

impl Stages<'_> {
    /// Runs one process to its end.
    ///
    /// # Errors
    /// It cannot be started, or a file of the run cannot be written.
    pub fn once(&mut self, task: &Task) -> Result<Ended, RunError> {
        let start = |e: std::io::Error| RunError::Start {
            stage: self.stage.to_owned(),
            why: e.to_string(),
        };
        // What it writes for itself is removed here: it may be killed, and what it started with it.
        let folder = tempfile::Builder::new()
            .prefix("inferdiff-stage-")
            .tempdir()
            .map_err(start)?;
        let mut command = self.command(task);
        command.env("TMPDIR", folder.path());
        let mut child = command.spawn().map_err(start)?;
        let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
        let (send, lines) = channel();
        let mut seen = Seen::default();
        let mut unheard = |_: u64| {};
        // How far a process of one exchange is, is not how far the stage is.
        let progress: &mut dyn FnMut(u64) = match task {
            Task::Chunks { .. } => self.progress,
            Task::Alone { .. } => &mut unheard,
        };
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for line in BufReader::new(stdout).lines() {
                    let Ok(line) = line else { return };
                    if send.send((Instant::now(), line)).is_err() {
                        return;
                    }
                }
            });
            let mut heard = Instant::now();
            loop {
                match lines.recv_timeout(Duration::from_secs(1)) {
                    Ok((at, line)) => {
                        heard = at;
                        match serde_json::from_str(&line) {
                            Ok(message) => seen.take(message, self.limits, progress),
                            Err(_) => {
                                tracing::debug!(stage = self.stage, line, "not a message of ours");
                            }
                        }
                    }
                    Err(RecvTimeoutError::Timeout) if heard.elapsed() > LONGEST_SILENCE => {
                        let s = LONGEST_SILENCE.as_secs();
                        seen.stopped = Some(format!("it fell silent for {s} s and was stopped"));
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                if seen.stopped.is_some() {
                    kill_group(&child);
                    return;
                }
            }
        });
        let status = end(&mut child).map_err(start)?;
        if let Some(why) = seen.broken {
            return Err(RunError::Stopped {
                stage: self.stage.to_owned(),
                why,
            });
        }
        if seen.stopped.is_none() && status.success() {
            return Ok(Ended::Finished);
        }
        Ok(Ended::Died(Death {
            how: seen
                .stopped
                .unwrap_or_else(|| describe(status, self.limits)),
            chunk: seen.chunk,
            in_flight: seen.in_flight,
            committed: seen.committed,
        }))
    }

    fn command(&self, task: &Task) -> Command {
        let mut command = Command::new(&self.launch.program);
        let environment = self.launch.environment.iter();
        command
            .envs(environment.map(|(name, value)| (name, value)))
            .args(&self.launch.args)
            .arg("--run")
            .arg(self.layout.root())
            .arg("--stage")
            .arg(self.stage);
        match task {
            Task::Chunks { careful: false } => {}
            Task::Chunks { careful: true } => {
                command.arg("--careful");
            }
            Task::Alone { chunk, id } => {
                command.args(["--chunk", chunk, "--alone", id]);
            }
        }
        // A group of its own: what the stage itself starts ends with it.
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }
}

/// What its messages said.
#[derive(Default)]
struct Seen {
    chunk: Option<String>,
    in_flight: Vec<String>,
    committed: bool,
    stopped: Option<String>,
    broken: Option<String>,
}

impl Seen {
    fn take(&mut self, message: StageMessage, limits: Limits, progress: &mut dyn FnMut(u64)) {
        match message {
            StageMessage::Begin { chunk } => {
                self.chunk = Some(chunk);
                self.in_flight.clear();
            }
            StageMessage::At { id } => self.in_flight.push(id),
            StageMessage::Done { exchanges } => {
                (self.chunk, self.committed) = (None, true);
                self.in_flight.clear();
                progress(exchanges);
            }
            StageMessage::Broken { why } => self.broken = Some(why),
            StageMessage::Pulse { at, ms, done } => {
                progress(done);
                let still = Duration::from_millis(ms);
                match at {
                    Some(id) if still.as_secs_f64() > limits.exchange_seconds => {
                        self.in_flight = vec![id];
                        self.stopped = Some(format!(
                            "it ran longer than {} s and was stopped",
                            limits.exchange_seconds
                        ));
                    }
                    None if still > LONGEST_OUTSIDE => {
                        self.stopped = Some(format!(
                            "it did nothing for {} s outside of any exchange and was stopped",
                            LONGEST_OUTSIDE.as_secs()
                        ));
                    }
                    _ => {}
                }
            }
        }
    }
}

fn group(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

fn kill_group(child: &Child) {
    if let Some(group) = group(child) {
        // It may be gone already.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Waits for the process and ends what it left behind. The group is killed before the process is
/// reaped: afterwards its number may be another's.
fn end(child: &mut Child) -> std::io::Result<ExitStatus> {
    if let Some(pid) = group(child) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), options).is_err_and(|e| e == rustix::io::Errno::INTR) {}
    }
    kill_group(child);
    child.wait()
}

fn describe(status: ExitStatus, limits: Limits) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => {
            let name = match signal {
                4 => " (SIGILL)",
                6 => " (SIGABRT)",
                7 => " (SIGBUS)",
                8 => " (SIGFPE)",
                9 => " (SIGKILL: from outside, often because memory ran out)",
                11 => " (SIGSEGV)",
                _ => "",
            };
            format!("signal {signal}{name}")
        }
        (None, None) => "unknown end".to_owned(),
    };
    match limits.memory_bytes {
        Some(bytes) => format!("{how}, under a memory limit of {bytes} bytes"),
        None => how,
    }
}
