//! `inferdiff record`.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use inferdiff_schemas::capture::{CaptureMeta, Ledger, RecorderMeta, SyncPolicy, WriterOptions};
use inferdiff_schemas::run::evidence::ModelIdentity;
use inferdiff_schemas::storage::Disk;
use inferdiff_schemas::wire::{BodyPolicy, Keep};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use ulid::Ulid;

use super::{Ended, Failure, now};
use crate::proxy::{Acceptor, ProxyOptions, Tap, Upstream, serve};
use crate::recorder::{NoRecorder, RecorderOptions, start};

/// Stand before an inference endpoint and record what crosses, untouched, to Parquet.
#[derive(Args)]
pub struct RecordArgs {
    /// Address to listen on; port 0 picks one.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// Where requests go: http://host:port or https://host:port.
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// Trust these certificates (PEM) for an https upstream instead of the system's.
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<PathBuf>,
    /// Serve TLS with this certificate chain (PEM); needs --tls-key.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of --tls-cert (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The capture's directory; created where it is not there, added to where it is.
    #[arg(long, value_name = "DIR")]
    capture: PathBuf,
    /// Something that a proxy cannot see, kept with the recorder; may be repeated.
    #[arg(long = "note", value_name = "KEY=VALUE")]
    notes: Vec<String>,
    /// The model file that the upstream serves: its digest is kept.
    #[arg(long, value_name = "PATH")]
    model_file: Option<PathBuf>,
    /// Memory for everything captured and not yet on disk; over it, copies are given up and
    /// counted.
    #[arg(long, value_name = "MiB", default_value_t = 256)]
    memory_budget: u64,
    /// Write a checkpoint when the oldest exchange in memory is this old, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    flush_age: u64,
    /// Write a checkpoint when this much is in memory.
    #[arg(long, value_name = "MiB", default_value_t = 32)]
    flush_bytes: u64,
    /// When what is written is made durable.
    #[arg(long, value_enum, default_value_t = Sync::Checkpoint)]
    sync: Sync,
    /// Which raw bodies are kept beside tensors.
    #[arg(long, value_enum, default_value_t = Bodies::Undecoded)]
    bodies: Bodies,
    /// In-flight exchanges may take this many seconds at shutdown.
    #[arg(long, value_name = "S", default_value_t = 30)]
    drain_timeout: u64,
    /// A client's FIN while the answer is pending is half a close, not a cancellation.
    #[arg(long)]
    half_close: bool,
    /// Forward only (for measurements).
    #[arg(long, hide = true)]
    no_record: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sync {
    /// At every checkpoint.
    Checkpoint,
    /// When a segment is sealed.
    Seal,
}

#[derive(Clone, Copy, ValueEnum)]
enum Bodies {
    /// Where decoding failed.
    Undecoded,
    /// Always.
    All,
    /// Never.
    None,
}

/// Runs `record` until SIGTERM or SIGINT.
pub fn run(args: RecordArgs) -> Ended {
    let upstream =
        Upstream::parse(&args.upstream, args.upstream_ca.as_deref()).map_err(Failure::usage)?;
    let recorder = recorder_meta(&args)?;
    let mut options = ProxyOptions::new(upstream.clone());
    options.drain_timeout = Duration::from_secs(args.drain_timeout);
    options.half_close = args.half_close;
    if let (Some(certificates), Some(key)) = (&args.tls_cert, &args.tls_key) {
        options.tls = Some(Acceptor::load(certificates, key).map_err(Failure::usage)?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::usage)?;
    // The port first: a capture must not be touched by a recorder that cannot serve.
    let listener = runtime
        .block_on(TcpListener::bind(args.listen))
        .map_err(|e| {
            Failure::usage(format!(
                "cannot listen on {}: {e}; choose another --listen",
                args.listen
            ))
        })?;
    let address = listener.local_addr().map_err(Failure::usage)?;
    let say = |text: &str| {
        let _ = writeln!(std::io::stderr(), "{text}");
    };
    let (tap, thread): (Arc<dyn Tap>, _) = if args.no_record {
        (Arc::new(NoRecorder::default()), None)
    } else {
        let (tap, thread, recovered) = start(recorder_options(&args, recorder))
            .map_err(|e| Failure::usage(format!("cannot record: {e}")))?;
        for r in recovered {
            say(&format!(
                "recovered segment {}: {} rows, {} bytes cut, {}",
                r.segment, r.rows, r.cut_bytes, r.action
            ));
        }
        (tap, Some(thread))
    };
    say(&format!(
        "listening on {address} -> {upstream}, capturing to {}",
        args.capture.display()
    ));
    let local = tokio::task::LocalSet::new();
    let ended = local.block_on(&runtime, async move {
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        Ok::<_, std::io::Error>(serve(listener, options, tap, stop).await)
    });
    // The proxy has ended and every exchange has said how; now the books can be closed.
    let ledger = thread
        .map(crate::recorder::RecorderThread::stop)
        .unwrap_or_default();
    let ended = ended.map_err(Failure::usage)?;
    if ended.cut > 0 {
        say(&format!(
            "{} connections did not finish in time and were cut",
            ended.cut
        ));
    }
    say(&closing(&ledger));
    Ok(0)
}

fn closing(ledger: &Ledger) -> String {
    let dropped: Vec<_> = ledger
        .dropped
        .iter()
        .map(|(why, n)| format!("{n} {why}"))
        .collect();
    let dropped = if dropped.is_empty() {
        "0".to_owned()
    } else {
        dropped.join(", ")
    };
    format!(
        "accepted {}, recorded {}, dropped {dropped}",
        ledger.accepted, ledger.recorded
    )
}

fn recorder_options(args: &RecordArgs, recorder: RecorderMeta) -> RecorderOptions<'_> {
    let keep = Keep {
        bodies: match args.bodies {
            Bodies::Undecoded => BodyPolicy::Undecoded,
            Bodies::All => BodyPolicy::All,
            Bodies::None => BodyPolicy::None,
        },
        ..Keep::default()
    };
    let kept = BTreeMap::from([
        ("request_headers".to_owned(), keep.request_headers.clone()),
        ("response_headers".to_owned(), keep.response_headers.clone()),
        ("query_keys".to_owned(), keep.query_keys.clone()),
    ]);
    RecorderOptions {
        storage: Arc::new(Disk),
        capture: &args.capture,
        meta: CaptureMeta {
            upstream: recorder.upstream.clone(),
            keep: kept,
            ..CaptureMeta::new(recorder.started.clone())
        },
        recorder,
        writer: WriterOptions {
            flush_bytes: args.flush_bytes << 20,
            flush_age: Duration::from_millis(args.flush_age),
            sync: match args.sync {
                Sync::Checkpoint => SyncPolicy::Checkpoint,
                Sync::Seal => SyncPolicy::Seal,
            },
            ..WriterOptions::default()
        },
        keep,
        memory_budget: args.memory_budget << 20,
    }
}

fn recorder_meta(args: &RecordArgs) -> Result<RecorderMeta, Failure> {
    let mut notes = BTreeMap::new();
    for note in &args.notes {
        let (key, value) = note
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--note {note}: it must be KEY=VALUE")))?;
        notes.insert(key.to_owned(), value.to_owned());
    }
    Ok(RecorderMeta {
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        upstream: Some(args.upstream.clone()),
        notes,
        model_file: args.model_file.as_deref().map(identify).transpose()?,
        ..RecorderMeta::new(Ulid::generate(), now())
    })
}

fn identify(path: &Path) -> Result<ModelIdentity, Failure> {
    ModelIdentity::of(path)
        .map_err(|e| Failure::usage(format!("--model-file {}: {e}", path.display())))
}
