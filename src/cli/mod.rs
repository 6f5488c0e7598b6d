//! The command line: one file per command. Results go to stdout, progress and logs to stderr.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use inferdiff_schemas::capture::CaptureKey;

mod align;
#[cfg(feature = "replay")]
mod amount;
mod captures;
mod config;
#[cfg(feature = "replay")]
mod doctor;
#[cfg(feature = "replay")]
mod interpreter;
#[cfg(feature = "replay")]
mod judge;
#[cfg(feature = "replay")]
mod labels;
#[cfg(feature = "replay")]
mod ladder;
#[cfg(feature = "replay")]
mod library;
#[cfg(feature = "replay")]
mod models;
#[cfg(feature = "replay")]
mod progress;
mod record;
#[cfg(feature = "replay")]
mod replay;
#[cfg(feature = "replay")]
mod repro;
#[cfg(feature = "replay")]
mod runtimes;
#[cfg(feature = "replay")]
mod serve;
#[cfg(feature = "replay")]
mod shapes;
#[cfg(feature = "replay")]
mod stage;

/// Records inference traffic and finds the optimisation stage that changes the answers.
#[derive(Parser)]
#[command(version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Record(Box<record::RecordArgs>),
    #[command(subcommand)]
    Captures(captures::CapturesCommand),
    Align(align::AlignArgs),
    #[cfg(feature = "replay")]
    Replay(Box<replay::ReplayArgs>),
    #[cfg(feature = "replay")]
    Judge(Box<judge::JudgeArgs>),
    #[cfg(feature = "replay")]
    Repro(repro::ReproArgs),
    #[cfg(feature = "replay")]
    Serve(serve::ServeArgs),
    #[cfg(feature = "replay")]
    Shapes(shapes::ShapesArgs),
    #[cfg(feature = "replay")]
    #[command(subcommand)]
    Ladder(ladder::LadderCommand),
    #[cfg(feature = "replay")]
    Doctor(doctor::DoctorArgs),
    #[cfg(feature = "replay")]
    #[command(name = "__stage", hide = true)]
    Stage(stage::StageArgs),
}

/// What a command could not do: one sentence, and the exit code that goes with it.
#[derive(Debug)]
pub struct Failure {
    /// What, where, why and what to do.
    pub message: String,
    /// Exit code; 2 = usage or configuration.
    pub code: u8,
}

impl Failure {
    fn usage(e: impl ToString) -> Self {
        Self {
            message: e.to_string(),
            code: 2,
        }
    }
}

/// The exit code of a command that did what it was asked, or why it could not.
pub type Ended = Result<u8, Failure>;

/// The arguments as they were given.
fn arguments() -> Vec<String> {
    let all = std::env::args_os();
    all.map(|a| a.to_string_lossy().into_owned()).collect()
}

/// The arguments, with those of `record`'s file. Usage errors end the process, as clap does.
fn parse() -> Result<Cli, Failure> {
    // Unless a file is named, nothing of them is touched (paths need not be UTF-8).
    let given = arguments();
    let all = config::expand(given.clone(), &record::command())?;
    Ok(if all == given {
        Cli::parse()
    } else {
        Cli::parse_from(all)
    })
}

/// Parses the arguments, runs the command, turns its end into an exit code.
pub fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "inferdiff: {}", failure.message);
            return ExitCode::from(failure.code);
        }
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("INFERDIFF_LOG")
                // ort repeats its sessions' logs, which evidence has parsed already.
                .unwrap_or_else(|_| "warn,ort=off".into()),
        )
        .init();
    raise_descriptor_limit(1 << 16);
    let ended = match cli.command {
        Command::Record(args) => record::run(*args),
        Command::Captures(command) => captures::run(command),
        Command::Align(args) => align::run(&args),
        #[cfg(feature = "replay")]
        Command::Replay(args) => replay::run(&args),
        #[cfg(feature = "replay")]
        Command::Judge(args) => judge::run(&args),
        #[cfg(feature = "replay")]
        Command::Repro(args) => repro::run(&args),
        #[cfg(feature = "replay")]
        Command::Serve(args) => serve::run(&args),
        #[cfg(feature = "replay")]
        Command::Shapes(args) => shapes::run(&args),
        #[cfg(feature = "replay")]
        Command::Ladder(command) => ladder::run(command),
        #[cfg(feature = "replay")]
        Command::Doctor(args) => doctor::run(&args),
        #[cfg(feature = "replay")]
        Command::Stage(args) => stage::run(&args),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // Nobody is left to tell where even stderr is gone.
            let _ = writeln!(std::io::stderr(), "inferdiff: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// The soft limit of descriptors is 1024 almost everywhere, for programs that use select(2); two are
/// needed for each exchange that is recorded at the time, and one for each segment of a capture that is
/// read. The hard one is what the administrator allows; `most`, because what is started from here inherits
/// it, and old programs close each descriptor that there may be.
fn raise_descriptor_limit(most: u64) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    limit.current = limit.current.map(|soft| soft.max(hard.min(most)));
    if let Err(e) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit of open files stays as it is: {e}");
    }
}

/// The key of an encrypted capture, where a file is named.
fn encryption_key(file: Option<&Path>) -> Result<Option<CaptureKey>, Failure> {
    let key = file.map(CaptureKey::read).transpose();
    key.map_err(|e| Failure::usage(format!("--encryption-key: {e}")))
}

/// Writes to stdout; a closed pipe (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::usage(format!("cannot write to stdout: {e}")))
        }
        _ => Ok(()),
    }
}

/// Pretty JSON to stdout.
fn print_json<T: serde::Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::usage)?;
    print(&format!("{text}\n"))
}

/// Now, RFC 3339, UTC, to the second.
fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}
