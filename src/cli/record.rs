//! `inferdiff record`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches, ValueEnum};
use inferdiff_schemas::capture::{
    CaptureMeta, Ledger, RecorderMeta, Retention, SyncPolicy, WriterOptions,
};
use inferdiff_schemas::run::evidence::ModelIdentity;
use inferdiff_schemas::secret::read_secret;
use inferdiff_schemas::storage::{Disk, Fault, Faulty, Storage};
use inferdiff_schemas::wire::{BodyPolicy, Keep, TensorPolicy, TensorRules};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use ulid::Ulid;

use super::{Ended, Failure, config, now};
use crate::admin::{self, Watched};
use crate::handover::{self, Giver, Taken};
use crate::proxy::{Acceptor, ProxyOptions, Tap, Upstream, serve};
use crate::recorder::{
    NoRecorder, Recorder, RecorderOptions, Reload, Sampling, UpkeepOptions, inquire, start,
};

/// Stand before an inference endpoint and record what crosses, untouched, to Parquet.
#[derive(Args)]
pub struct RecordArgs {
    /// Read flags from this file ([record] in inferdiff.toml); flags given here win. SIGHUP reads it
    /// again.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check flags and file, and end.
    #[arg(long)]
    check_config: bool,
    /// Address to listen on; port 0 picks one; `systemd`: the socket of the .socket unit that
    /// started this process.
    #[arg(long, value_name = "ADDR")]
    listen: Listen,
    /// Unix socket of rolling restarts: takes the listening sockets from the instance that is there,
    /// lets it drain, and hands them on to the next one.
    #[arg(long, value_name = "PATH")]
    handover: Option<PathBuf>,
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
    /// What happens over that budget.
    #[arg(long, value_enum, default_value_t = Pressure::Drop)]
    on_pressure: Pressure,
    /// Address of /metrics, /healthz and /readyz; `off` for none.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    admin: String,
    /// Do not ask the upstream's metadata routes (GET /v2, /v2/models/M, /v1/models/M/metadata).
    #[arg(long)]
    no_metadata: bool,
    /// A request head must be whole after this many seconds.
    #[arg(long, value_name = "S", default_value_t = 60)]
    head_timeout: u64,
    /// A kept-alive client connection may be idle for this many seconds.
    #[arg(long, value_name = "S", default_value_t = 75)]
    idle_timeout: u64,
    /// A kept-alive upstream connection is used again only within this many milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 4000)]
    pool_idle: u64,
    /// Write a checkpoint when the oldest exchange in memory is this old, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    flush_age: u64,
    /// Write a checkpoint when this much is in memory.
    #[arg(long, value_name = "MiB", default_value_t = 32)]
    flush_bytes: u64,
    /// When what is written is made durable.
    #[arg(long, value_enum, default_value_t = Sync::Checkpoint)]
    sync: Sync,
    /// Seal a segment at this size.
    #[arg(long, value_name = "MiB", default_value_t = 256)]
    segment_size: u64,
    /// Seal a segment at this age.
    #[arg(long, value_name = "S", default_value_t = 3600)]
    segment_age: u64,
    /// Seal a segment at this many row groups (checkpoints); 32 at most.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=32))]
    segment_row_groups: u64,
    /// Remove the oldest sealed segments when their youngest exchange is older than this.
    #[arg(long, value_name = "HOURS")]
    retain_age: Option<u64>,
    /// Remove the oldest sealed segments while the capture is larger than this.
    #[arg(long, value_name = "MiB")]
    retain_size: Option<u64>,
    /// Drop (and count) exchanges while the file system has less than this free; 0 = never.
    #[arg(long, value_name = "MiB", default_value_t = 256)]
    min_free: u64,
    /// Do not merge small sealed segments in the background.
    #[arg(long)]
    no_merge: bool,
    /// Background merging reads and writes at most this much in a second.
    #[arg(long, value_name = "MiB", default_value_t = 32)]
    merge_rate: u64,
    /// Time between two rounds of background merging and retention.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    upkeep_interval: u64,
    /// Make the storage fail, for tests: write=enospc,after=1000000,times=3.
    #[arg(long, value_name = "FAULT", hide = true)]
    storage_fault: Vec<Fault>,
    /// Make the storage slow, for tests.
    #[arg(long, value_name = "MB/S", hide = true)]
    storage_rate: Option<u64>,
    /// Throw away what segments are given, for measurements.
    #[arg(long, hide = true)]
    storage_discard: bool,
    /// Which raw bodies are kept beside tensors.
    #[arg(long, value_enum, default_value_t = Bodies::Undecoded)]
    bodies: Bodies,
    /// Record this share of the exchanges, in (0, 1]; sequences whole or not at all.
    #[arg(long, value_name = "RATE", default_value_t = 1.0, value_parser = rate)]
    sample_rate: f64,
    /// The request header whose value decides which exchanges are sampled.
    #[arg(long, value_name = "HEADER")]
    sample_by: Option<String>,
    /// Keep this header too; may be repeated. Credentials and cookies are never kept.
    #[arg(long, value_name = "NAME")]
    keep_header: Vec<String>,
    /// Keep this query key; may be repeated. The default keeps none.
    #[arg(long, value_name = "KEY")]
    keep_query: Vec<String>,
    /// What becomes of a tensor's data: NAME=keep|hash|drop, `*` in NAME for anything; the most
    /// specific NAME decides. May be repeated.
    #[arg(long, value_name = "NAME=POLICY", value_parser = tensor_rule)]
    tensor: Vec<(String, TensorPolicy)>,
    /// The secret of hashed tensors: a file of at least 16 bytes that only its owner may read.
    #[arg(long, value_name = "FILE")]
    hash_key: Option<PathBuf>,
    /// Encrypt segments, footer and every column, with the key in this file: 16 or 32 random bytes
    /// that only its owner may read.
    #[arg(long, value_name = "FILE")]
    encryption_key: Option<PathBuf>,
    /// In-flight exchanges may take this many seconds at shutdown.
    #[arg(long, value_name = "S", default_value_t = 30)]
    drain_timeout: u64,
    /// At shutdown an idle client connection may still send a request for this long.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    idle_grace: u64,
    /// A client's FIN while the answer is pending is half a close, not a cancellation.
    #[arg(long)]
    half_close: bool,
    /// Forward only (for measurements).
    #[arg(long, hide = true)]
    no_record: bool,
}

/// Where the listening socket comes from.
#[derive(Clone, Copy)]
enum Listen {
    Address(SocketAddr),
    Systemd,
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "systemd" {
            return Ok(Self::Systemd);
        }
        text.parse()
            .map(Self::Address)
            .map_err(|_| "it must be an address like 127.0.0.1:9000, or `systemd`".to_owned())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pressure {
    /// Copies are given up and counted; production never waits.
    Drop,
    /// Production waits until the disk has caught up: nothing is lost, everything may be delayed.
    Block,
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

/// The command with its flags, for the file that names them.
pub fn command() -> Command {
    RecordArgs::augment_args(Command::new("record"))
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate <= 1.0 => Ok(rate),
        _ => Err("it must be above 0 and at most 1".to_owned()),
    }
}

fn tensor_rule(text: &str) -> Result<(String, TensorPolicy), String> {
    let policy = |name| match name {
        "keep" => Some(TensorPolicy::Keep),
        "hash" => Some(TensorPolicy::Hash),
        "drop" => Some(TensorPolicy::Drop),
        _ => None,
    };
    text.rsplit_once('=')
        .and_then(|(name, p)| Some((name.to_owned(), policy(p)?)))
        .ok_or_else(|| "it must be NAME=keep, NAME=hash or NAME=drop".to_owned())
}

/// The secret in a file that only its owner may read.
fn secret(path: &Path) -> Result<Vec<u8>, Failure> {
    let fail = |why: String| Failure::usage(format!("--hash-key {}: {why}", path.display()));
    let key = read_secret(path).map_err(fail)?;
    if key.len() < 16 {
        return Err(fail(format!(
            "it holds {} bytes and must hold at least 16 random ones",
            key.len()
        )));
    }
    Ok(key)
}

/// What may be kept.
fn keep(args: &RecordArgs) -> Result<Keep, Failure> {
    let mut keep = Keep {
        bodies: match args.bodies {
            Bodies::Undecoded => BodyPolicy::Undecoded,
            Bodies::All => BodyPolicy::All,
            Bodies::None => BodyPolicy::None,
        },
        query_keys: args.keep_query.clone(),
        ..Keep::default()
    };
    for name in &args.keep_header {
        keep.header(name)
            .map_err(|why| Failure::usage(format!("--keep-header: {why}")))?;
    }
    let key = args.hash_key.as_deref().map(secret).transpose()?;
    keep.tensors = TensorRules::new(args.tensor.clone(), key.as_deref())
        .map_err(|why| Failure::usage(format!("--tensor: {why} with --hash-key")))?;
    Ok(keep)
}

fn sampling(args: &RecordArgs) -> Sampling {
    Sampling {
        rate: args.sample_rate,
        by: args.sample_by.clone(),
    }
}

fn upkeep(args: &RecordArgs) -> UpkeepOptions {
    UpkeepOptions {
        every: Duration::from_millis(args.upkeep_interval),
        merge: !args.no_merge,
        rate: args.merge_rate.saturating_mul(1 << 20),
        retention: Retention {
            max_age: args
                .retain_age
                .map(|h| Duration::from_secs(h.saturating_mul(3600))),
            max_bytes: args.retain_size.map(|m| m.saturating_mul(1 << 20)),
        },
    }
}

fn reload(args: &RecordArgs) -> Result<Reload, Failure> {
    Ok(Reload {
        keep: keep(args)?,
        sampling: sampling(args),
        min_free: args.min_free.saturating_mul(1 << 20),
        flush_bytes: args.flush_bytes << 20,
        flush_age: Duration::from_millis(args.flush_age),
        upkeep: upkeep(args),
    })
}

/// Reads the file again at every SIGHUP: what can change changes, the rest is said.
async fn reload_at_sighup(mut hangup: Signal, path: PathBuf, recorder: Arc<Recorder>) {
    let flags = || {
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
        config::flags(&text, &path, &command())
    };
    let mut known = flags().unwrap_or_default();
    while hangup.recv().await.is_some() {
        let read = flags().and_then(|new| {
            let all = config::expand(super::arguments(), &command())?;
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

/// Runs `record` until SIGTERM or SIGINT.
pub fn run(args: RecordArgs) -> Ended {
    let upstream = Upstream::parse(&args.upstream, args.upstream_ca.as_deref())
        .map_err(|why| Failure::usage(format!("--upstream {why}")))?;
    let recorder = recorder_meta(&args)?;
    let mut options = ProxyOptions::new(upstream.clone());
    options.drain_timeout = Duration::from_secs(args.drain_timeout);
    options.half_close = args.half_close;
    options.head_timeout = Duration::from_secs(args.head_timeout);
    options.idle_timeout = Duration::from_secs(args.idle_timeout);
    options.pool_idle = Duration::from_millis(args.pool_idle);
    options.idle_grace = Duration::from_millis(args.idle_grace);
    if let (Some(certificates), Some(key)) = (&args.tls_cert, &args.tls_key) {
        options.tls = Some(Acceptor::load(certificates, key).map_err(Failure::usage)?);
    }
    if args.check_config {
        recorder_options(&args, recorder)?;
        super::print("the configuration is fine\n")?;
        return Ok(0);
    }
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::usage)?;
    // The port first: a capture must not be touched by a recorder that cannot serve.
    let guard = runtime.enter();
    let (listener, admin, taken) = sockets(&args)?;
    let address = listener.local_addr().map_err(Failure::usage)?;
    let say = |text: &str| {
        let _ = writeln!(std::io::stderr(), "{text}");
    };
    let shared = [Some(&listener), admin.as_ref().map(|(admin, _)| admin)];
    let shared = shared
        .into_iter()
        .flatten()
        .map(|socket| socket.as_fd().try_clone_to_owned())
        .collect::<Result<Vec<_>, _>>()
        .map_err(Failure::usage)?;
    // Before anyone can know that we run: a signal that comes early must drain, not kill.
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::usage)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::usage)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Failure::usage)?;
    drop(guard);
    let mut recording = None;
    if !args.no_record {
        let (tap, thread, recovered) = start(recorder_options(&args, recorder)?)
            .map_err(|e| Failure::usage(format!("cannot record: {e}")))?;
        for r in recovered {
            say(&format!(
                "recovered segment {}: {} rows, {} bytes cut, {}",
                r.segment, r.rows, r.cut_bytes, r.action
            ));
        }
        recording = Some((tap, thread));
    }
    let tap: Arc<dyn Tap> = match &recording {
        Some((tap, _)) => tap.clone(),
        None => Arc::new(NoRecorder::default()),
    };
    let wanted = match &mut recording {
        Some((_, thread)) if !args.no_metadata => thread.take_wanted(),
        _ => None,
    };
    let recorder = recording.as_ref().map(|(tap, _)| tap.clone());
    if let Some((_, address)) = &admin {
        say(&format!("admin on http://{address}"));
    }
    say(&format!(
        "listening on {address} -> {upstream}, capturing to {}",
        args.capture.display()
    ));
    let (handover, config) = (args.handover.clone(), args.config.clone());
    let local = tokio::task::LocalSet::new();
    let ended = local.block_on(&runtime, async move {
        let draining = Rc::new(Cell::new(false));
        if let Some((listener, _)) = admin {
            let watched = Watched {
                meter: options.meter.clone(),
                recorder: recorder.clone(),
                upstream: upstream.clone(),
                draining: draining.clone(),
            };
            tokio::task::spawn_local(admin::serve(listener, watched));
        }
        let reloaded = recorder.clone();
        tokio::task::spawn_local(async move {
            match (config, reloaded) {
                (Some(path), Some(recorder)) => reload_at_sighup(hangup, path, recorder).await,
                _ => {
                    while hangup.recv().await.is_some() {
                        tracing::warn!("SIGHUP: there is no --config to read again");
                    }
                }
            }
        });
        if let (Some(wanted), Some(recorder)) = (wanted, recorder) {
            tokio::task::spawn_local(inquire(upstream, wanted, recorder));
        }
        let giver = match &handover {
            Some(path) => Some(Giver::bind(path, shared)?),
            None => None,
        };
        if let Some(taken) = taken {
            // From here on this process accepts; where the old one has gone, it has drained.
            let _ = taken.ready();
        }
        let stop = async move {
            let given = async {
                match &giver {
                    Some(giver) => giver.given().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = given => {}
            }
            draining.set(true);
        };
        Ok::<_, std::io::Error>(serve(listener, options, tap, stop).await)
    });
    // The proxy has ended and every exchange has said how; now the books can be closed.
    let ledger = recording
        .map(|(_, thread)| thread.stop())
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

/// The soft limit of descriptors is 1024 almost everywhere, for programs that use select(2); two are
/// needed for each exchange in flight. The hard one is what the administrator allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(e) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit of open files stays as it is: {e}");
    }
}

type Admin = Option<(TcpListener, SocketAddr)>;

/// The proxy's and the admin's sockets: from the running instance, from systemd, or new.
fn sockets(args: &RecordArgs) -> Result<(TcpListener, Admin, Option<Taken>), Failure> {
    let taken = match &args.handover {
        Some(path) => handover::take(path)
            .map_err(|e| Failure::usage(format!("--handover {}: {e}", path.display())))?,
        None => None,
    };
    let adopt = |socket: std::net::TcpListener| {
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket)
    };
    if let Some(mut taken) = taken {
        let clone = taken.listener.try_clone();
        let listener = clone.and_then(adopt).map_err(Failure::usage)?;
        let address = listener.local_addr().map_err(Failure::usage)?;
        if let Listen::Address(asked) = args.listen
            && asked.port() != 0
            && asked != address
        {
            return Err(Failure::usage(format!(
                "--listen {asked}: the running instance listens on {address}; hand over to the \
                 same address, or stop it first"
            )));
        }
        let admin = match taken.admin.take() {
            Some(socket) if args.admin != "off" => {
                let admin = adopt(socket).map_err(Failure::usage)?;
                let address = admin.local_addr().map_err(Failure::usage)?;
                Some((admin, address))
            }
            _ => admin_listener(&args.admin)?,
        };
        return Ok((listener, admin, Some(taken)));
    }
    let listener = match args.listen {
        Listen::Systemd => handover::from_systemd()
            .and_then(adopt)
            .map_err(|e| Failure::usage(format!("--listen systemd: {e}")))?,
        Listen::Address(address) => bind(address).map_err(|e| {
            Failure::usage(format!(
                "cannot listen on {address}: {e}; choose another --listen"
            ))
        })?,
    };
    Ok((listener, admin_listener(&args.admin)?, None))
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// The admin address, bound; `None` where it is off.
fn admin_listener(address: &str) -> Result<Admin, Failure> {
    if address == "off" {
        return Ok(None);
    }
    let fail = |e: String| Failure::usage(format!("--admin {address}: {e}"));
    let parsed: SocketAddr = address
        .parse()
        .map_err(|_| fail("it must be an address like 127.0.0.1:9464, or `off`".to_owned()))?;
    let listener = bind(parsed).map_err(|e| fail(e.to_string()))?;
    let bound = listener.local_addr().map_err(|e| fail(e.to_string()))?;
    Ok(Some((listener, bound)))
}

fn closing(ledger: &Ledger) -> String {
    let list = |counts: &BTreeMap<String, u64>| {
        let all: Vec<_> = counts.iter().map(|(why, n)| format!("{n} {why}")).collect();
        all.join(", ")
    };
    let dropped = if ledger.dropped.is_empty() {
        "0".to_owned()
    } else {
        list(&ledger.dropped)
    };
    let mut text = format!(
        "accepted {}, recorded {}, dropped {dropped}",
        ledger.accepted, ledger.recorded
    );
    if !ledger.bodies_given_up.is_empty() {
        text += &format!("; bodies not copied: {}", list(&ledger.bodies_given_up));
    }
    text
}

fn recorder_options(
    args: &RecordArgs,
    recorder: RecorderMeta,
) -> Result<RecorderOptions<'_>, Failure> {
    let keep = keep(args)?;
    let kept = BTreeMap::from([
        ("request_headers".to_owned(), keep.request_headers.clone()),
        ("response_headers".to_owned(), keep.response_headers.clone()),
        ("query_keys".to_owned(), keep.query_keys.clone()),
    ]);
    Ok(RecorderOptions {
        storage: storage(args),
        capture: &args.capture,
        meta: CaptureMeta {
            upstream: recorder.upstream.clone(),
            keep: kept,
            sample_rate: args.sample_rate,
            ..CaptureMeta::new(recorder.started.clone())
        },
        recorder,
        writer: WriterOptions {
            flush_bytes: args.flush_bytes << 20,
            flush_age: Duration::from_millis(args.flush_age),
            encryption: super::encryption_key(args.encryption_key.as_deref())?,
            sync: match args.sync {
                Sync::Checkpoint => SyncPolicy::Checkpoint,
                Sync::Seal => SyncPolicy::Seal,
            },
            max_row_groups: usize::try_from(args.segment_row_groups).unwrap_or(1),
            max_segment_bytes: args.segment_size.saturating_mul(1 << 20),
            max_segment_age: Duration::from_secs(args.segment_age),
        },
        keep,
        sampling: sampling(args),
        memory_budget: args.memory_budget << 20,
        block: args.on_pressure == Pressure::Block,
        upkeep: upkeep(args),
        min_free: args.min_free.saturating_mul(1 << 20),
    })
}

/// The disk, with the faults that were asked for.
fn storage(args: &RecordArgs) -> Arc<dyn Storage> {
    if args.storage_fault.is_empty() && args.storage_rate.is_none() && !args.storage_discard {
        return Arc::new(Disk);
    }
    let faulty = Faulty::new(Arc::new(Disk));
    args.storage_fault
        .iter()
        .cloned()
        .for_each(|f| faulty.arm(f));
    if args.storage_discard {
        faulty.discard();
    }
    faulty.throttle(args.storage_rate.map(|mb| mb.saturating_mul(1_000_000)));
    Arc::new(faulty)
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
