//! One Python process: two pipes and a log.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use inferdiff_schemas::Tensor;
use tempfile::TempDir;

use super::death;
use super::frame::{self, Answer, Module};
use super::log::Log;
use super::shared::Shared;
use super::worker::Source;

/// A whole image fits, so that neither side waits for the other in the middle of a tensor.
const PIPE: usize = 1 << 20;
/// A process that closed its pipe is given this long to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of a question to the process.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It cannot be started at all.
    Start(String),
    /// It is dead: how, and its last words.
    Died(String),
    /// It answers, but with nonsense.
    Protocol(String),
}

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    pub log: Log,
    pub shared: Shared,
    /// Where its libraries write what they keep: it may be killed at any time, and cleans nothing up.
    _folder: TempDir,
}

impl Process {
    /// Starts an interpreter and sends it the sources. Its answer is still to be read.
    pub fn start(
        python: &Path,
        sources: &[Source],
        environment: &[(&str, String)],
    ) -> Result<Self, Trouble> {
        let start = |e: &dyn std::fmt::Display| {
            Trouble::Start(format!("cannot start {}: {e}", python.display()))
        };
        let log = Log::new().map_err(|e| start(&e))?;
        let shared = Shared::new().map_err(|e| start(&e))?;
        let folder = tempfile::Builder::new()
            .prefix("inferdiff-worker-")
            .tempdir()
            .map_err(|e| start(&e))?;
        let (main, modules) = sources
            .split_first()
            .expect("a worker has its protocol's source");
        let mut child = Command::new(python)
            .args(["-W", "ignore", "-c", main.text])
            .env("TMPDIR", folder.path())
            .envs(environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.writer().map_err(|e| start(&e))?)
            .spawn()
            .map_err(|e| start(&e))?;
        let to = child.stdin.take().expect("stdin was asked to be a pipe");
        let from = child.stdout.take().expect("stdout was asked to be a pipe");
        for end in [to.as_fd(), from.as_fd()] {
            // A smaller pipe is slower and not wrong.
            let _ = rustix::pipe::fcntl_setpipe_size(end, PIPE);
        }
        let mut process = Self {
            child,
            to,
            from,
            log,
            shared,
            _folder: folder,
        };
        let names: Vec<_> = modules
            .iter()
            .map(|m| Module {
                name: m.name,
                bytes: m.text.len(),
            })
            .collect();
        let shared = process.shared.descriptor();
        let header = serde_json::json!({"op": "start", "modules": names, "shared": shared});
        let bodies: Vec<_> = modules.iter().map(|m| m.text.as_bytes()).collect();
        process.send(header.to_string().as_bytes(), &bodies)?;
        Ok(process)
    }

    /// Sends a frame.
    pub fn send(&mut self, header: &[u8], bodies: &[&[u8]]) -> Result<(), Trouble> {
        frame::write(&mut self.to, header, bodies).map_err(|e| self.trouble(&e))
    }

    /// Reads an answer that has no tensors.
    pub fn answer(&mut self) -> Result<Vec<u8>, Trouble> {
        frame::read_header(&mut self.from).map_err(|e| self.trouble(&e))
    }

    /// Reads an answer with its tensors.
    pub fn tensors(&mut self) -> Result<Result<Vec<Tensor>, frame::Said>, Trouble> {
        let header = self.answer()?;
        let answer: Answer = serde_json::from_slice(&header)
            .map_err(|e| Trouble::Protocol(format!("the answer is no frame: {e}")))?;
        if let Some(said) = answer.error {
            return Ok(Err(said));
        }
        frame::read_tensors(&mut self.from, answer.tensors)
            .map(Ok)
            .map_err(|e| self.trouble(&e))
    }

    fn trouble(&mut self, e: &io::Error) -> Trouble {
        if e.kind() == io::ErrorKind::InvalidData {
            return Trouble::Protocol(e.to_string());
        }
        let how = self
            .end()
            .unwrap_or_else(|| format!("an unknown end ({e})"));
        Trouble::Died(format!("{how}{}", death::last_words(&self.log.text())))
    }

    /// How it ended; it is killed where it does not end by itself.
    fn end(&mut self) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(death::how(status)),
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Err(_) => return None,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        Some("closing its pipe".to_owned())
    }

    /// Its process number.
    #[cfg(test)]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It holds nothing that an orderly end would save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
