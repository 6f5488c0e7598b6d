//! The flags of `inferdiff record`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Command, ValueEnum};
use inferdiff_schemas::storage::Fault;
use inferdiff_schemas::wire::TensorPolicy;

/// Stand before an inference endpoint and record what crosses, untouched, to Parquet.
#[derive(Args)]
pub struct RecordArgs {
    /// Read flags from this file ([record] in inferdiff.toml); flags given here win. SIGHUP reads it
    /// again.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Check flags and file, and end.
    #[arg(long)]
    pub(super) check_config: bool,
    /// Address to listen on; port 0 picks one; `systemd`: the socket of the .socket unit that
    /// started this process.
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Listen,
    /// Unix socket of rolling restarts: takes the listening sockets from the instance that is there,
    /// lets it drain, and hands them on to the next one.
    #[arg(long, value_name = "PATH")]
    pub(super) handover: Option<PathBuf>,
    /// Where requests go: http://host:port or https://host:port.
    #[arg(long, value_name = "URL")]
    pub(super) upstream: String,
    /// Trust these certificates (PEM) for an https upstream instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub(super) upstream_ca: Option<PathBuf>,
    /// Serve TLS with this certificate chain (PEM); needs --tls-key.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,
    /// The key of --tls-cert (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
    /// The capture's directory; created where it is not there, added to where it is.
    #[arg(long, value_name = "DIR")]
    pub(super) capture: PathBuf,
    /// Something that a proxy cannot see, kept with the recorder; may be repeated.
    #[arg(long = "note", value_name = "KEY=VALUE")]
    pub(super) notes: Vec<String>,
    /// The model file that the upstream serves: its digest is kept.
    #[arg(long, value_name = "PATH")]
    pub(super) model_file: Option<PathBuf>,
    /// Memory for everything captured and not yet on disk; over it, copies are given up and
    /// counted.
    #[arg(long, value_name = "MiB", default_value_t = 256)]
    pub(super) memory_budget: u64,
    /// What happens over that budget.
    #[arg(long, value_enum, default_value_t = Pressure::Drop)]
    pub(super) on_pressure: Pressure,
    /// Address of /metrics, /healthz and /readyz; `off` for none.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(super) admin: String,
    /// Do not ask the upstream's metadata routes (GET /v2, /v2/models/M, /v1/models/M/metadata).
    #[arg(long)]
    pub(super) no_metadata: bool,
    /// A request head must be whole after this many seconds.
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub(super) head_timeout: u64,
    /// A kept-alive client connection may be idle for this many seconds.
    #[arg(long, value_name = "S", default_value_t = 75)]
    pub(super) idle_timeout: u64,
    /// A kept-alive upstream connection is used again only within this many milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 4000)]
    pub(super) pool_idle: u64,
    /// Write a checkpoint when the oldest exchange in memory is this old, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub(super) flush_age: u64,
    /// Write a checkpoint when this much is in memory.
    #[arg(long, value_name = "MiB", default_value_t = 32)]
    pub(super) flush_bytes: u64,
    /// When what is written is made durable.
    #[arg(long, value_enum, default_value_t = Sync::Checkpoint)]
    pub(super) sync: Sync,
    /// Seal a segment at this size.
    #[arg(long, value_name = "MiB", default_value_t = 256)]
    pub(super) segment_size: u64,
    /// Seal a segment at this age.
    #[arg(long, value_name = "S", default_value_t = 3600)]
    pub(super) segment_age: u64,
    /// Seal a segment at this many row groups (checkpoints); 32 at most.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=32))]
    pub(super) segment_row_groups: u64,
    /// Remove the oldest sealed segments when their youngest exchange is older than this.
    #[arg(long, value_name = "HOURS")]
    pub(super) retain_age: Option<u64>,
    /// Remove the oldest sealed segments while the capture is larger than this.
    #[arg(long, value_name = "MiB")]
    pub(super) retain_size: Option<u64>,
    /// Drop (and count) exchanges while the file system has less than this free; 0 = never.
    #[arg(long, value_name = "MiB", default_value_t = 256)]
    pub(super) min_free: u64,
    /// Do not merge small sealed segments in the background.
    #[arg(long)]
    pub(super) no_merge: bool,
    /// Background merging reads and writes at most this much in a second.
    #[arg(long, value_name = "MiB", default_value_t = 32)]
    pub(super) merge_rate: u64,
    /// Time between two rounds of background merging and retention.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub(super) upkeep_interval: u64,
    /// Make the storage fail, for tests: write=enospc,after=1000000,times=3.
    #[arg(long, value_name = "FAULT", hide = true)]
    pub(super) storage_fault: Vec<Fault>,
    /// Make the storage slow, for tests.
    #[arg(long, value_name = "MB/S", hide = true)]
    pub(super) storage_rate: Option<u64>,
    /// Throw away what segments are given, for measurements.
    #[arg(long, hide = true)]
    pub(super) storage_discard: bool,
    /// Which raw bodies are kept beside tensors.
    #[arg(long, value_enum, default_value_t = Bodies::Undecoded)]
    pub(super) bodies: Bodies,
    /// Record this share of the exchanges, in (0, 1]; sequences whole or not at all.
    #[arg(long, value_name = "RATE", default_value_t = 1.0, value_parser = rate)]
    pub(super) sample_rate: f64,
    /// The request header whose value decides which exchanges are sampled.
    #[arg(long, value_name = "HEADER")]
    pub(super) sample_by: Option<String>,
    /// Keep this header too; may be repeated. Credentials and cookies are never kept.
    #[arg(long, value_name = "NAME")]
    pub(super) keep_header: Vec<String>,
    /// Keep this query key; may be repeated. The default keeps none.
    #[arg(long, value_name = "KEY")]
    pub(super) keep_query: Vec<String>,
    /// What becomes of a tensor's data: NAME=keep|hash|drop, `*` in NAME for anything; the most
    /// specific NAME decides. May be repeated.
    #[arg(long, value_name = "NAME=POLICY", value_parser = tensor_rule)]
    pub(super) tensor: Vec<(String, TensorPolicy)>,
    /// The secret of hashed tensors: a file of at least 16 bytes that only its owner may read.
    #[arg(long, value_name = "FILE")]
    pub(super) hash_key: Option<PathBuf>,
    /// Encrypt segments, footer and every column, with the key in this file: 16 or 32 random bytes
    /// that only its owner may read.
    #[arg(long, value_name = "FILE")]
    pub(super) encryption_key: Option<PathBuf>,
    /// In-flight exchanges may take this many seconds at shutdown.
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub(super) drain_timeout: u64,
    /// At shutdown an idle client connection may still send a request for this long.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub(super) idle_grace: u64,
    /// A client's FIN while the answer is pending is half a close, not a cancellation.
    #[arg(long)]
    pub(super) half_close: bool,
    /// Forward only (for measurements).
    #[arg(long, hide = true)]
    pub(super) no_record: bool,
}

/// Where the listening socket comes from.
#[derive(Clone, Copy)]
pub(super) enum Listen {
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
pub(super) enum Pressure {
    /// Copies are given up and counted; production never waits.
    Drop,
    /// Production waits until the disk has caught up: nothing is lost, everything may be delayed.
    Block,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Sync {
    /// At every checkpoint.
    Checkpoint,
    /// When a segment is sealed.
    Seal,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Bodies {
    /// Where decoding failed.
    Undecoded,
    /// Always.
    All,
    /// Never.
    None,
}

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
