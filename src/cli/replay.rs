//! `inferdiff replay`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use inferdiff_replay::filter::Condition;
use inferdiff_replay::judge::{JudgeOptions, exit_code, gravest, judge};
use inferdiff_replay::ladder::{Given, Resolved, resolve_each};
use inferdiff_replay::metric::Metric;
use inferdiff_replay::runner::{Launch, RunError, RunRequest, replay};
use inferdiff_replay::source::{COMMIT_EVERY, Selection};
use inferdiff_schemas::run::ladder::Ladder;
use inferdiff_schemas::run::layout::RunLayout;
use inferdiff_schemas::run::manifest::Limits;
use inferdiff_schemas::run::probes::Asking;
use inferdiff_schemas::run::verdicts::Verdicts;
use inferdiff_schemas::run::write_json;

use super::labels::Criteria;
use super::progress::Progress;
use super::{
    Ended, Failure, amount, interpreter, library, models, now, print, print_json, runtimes,
};

/// Replay a capture down a ladder of stages and judge each against the first.
///
/// Exit code: 0 nothing found, 1 a stage affects for the worse or may affect, 2 usage or
/// configuration, 3 inconclusive or unavailable, 4 a stage failed.
#[derive(Args)]
pub struct ReplayArgs {
    /// The capture's directory.
    pub(super) capture: PathBuf,
    /// The key of an encrypted capture. What the run keeps of it (outputs) is not encrypted.
    #[arg(long, value_name = "FILE")]
    pub(super) encryption_key: Option<PathBuf>,
    /// Model of stages that name none.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Built-in ladder or TOML file.
    #[arg(long, value_name = "NAME|FILE", default_value = "onnxruntime-cpu")]
    pub(super) ladder: String,
    #[command(flatten)]
    criteria: Criteria,
    /// ONNX Runtime library of stages that name none; NAME=FILE of those that call it by name
    /// (onnxruntime-openvino, onnxruntime-gpu).
    #[arg(long, value_name = "[NAME=]FILE")]
    library: Vec<PathBuf>,
    /// Python interpreter of stages that name none and need one (runtimes `paddle`, `onnx-reference`).
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Where everything is written; an interrupted run resumes there.
    #[arg(long, value_name = "DIR")]
    pub(super) run: PathBuf,
    /// Only exchanges that meet it; may be given several times. Keys: model, version, status (5xx too),
    /// time (RFC 3339 or date), header:NAME, protocol, outcome, client_request_id, sequence_id, seq,
    /// recorder, path, … Operators: = != < <= > >= ~ (contains).
    #[arg(long = "where", value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Only this share of them, chosen by --seed: 0.1 or 10%. Sequences are taken whole.
    #[arg(long, value_name = "SHARE")]
    sample: Option<String>,
    /// Seed of --sample.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// At most this many of those, the first ones.
    #[arg(long)]
    limit: Option<u64>,
    /// Seconds that one exchange may take on a stage; longer is a hang, an outcome of that exchange.
    #[arg(long, value_name = "SECONDS", default_value_t = 300.0)]
    exchange_timeout: f64,
    /// Address space of a stage's process: 8GiB, 500MB or bytes. Beyond it allocations fail, an outcome
    /// of that exchange. Default: what the machine gives.
    #[arg(long, value_name = "SIZE")]
    memory_limit: Option<String>,
    /// Stages beside each other, after the reference.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Exchanges that are committed together, at most (a row group of the capture is never split): what
    /// an interruption costs. Fewer where production took more than four seconds over so many.
    #[arg(long, value_name = "N", default_value_t = COMMIT_EVERY)]
    commit_every: u64,
    /// Which outputs of stages are kept; the reference's always are.
    #[arg(long, value_enum, default_value_t = Keep::Differing)]
    keep_outputs: Keep,
    /// Processes that replay the reference; its own differences are noise, and a stage whose bits
    /// differ is replayed once more to know its own. 1: no noise is measured.
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeats: u32,
    /// Other ways to ask each stage, on exchanges drawn over the capture: repeat (twice in a row),
    /// fresh (a new predictor each), batch:N (N as one request), order (shuffled); none.
    #[arg(
        long = "probe",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "repeat,fresh,batch:8,order"
    )]
    probes: Vec<String>,
    /// Exchanges that probes ask.
    #[arg(long, value_name = "N", default_value_t = 64)]
    probe_sample: u64,
    /// Seconds after which `fresh` asks no more of a stage.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    probe_seconds: f64,
    /// verdicts.json to stdout instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Keep {
    Differing,
    All,
    None,
}

/// Runs `replay`.
pub fn run(args: &ReplayArgs) -> Ended {
    asking(args)?;
    let mut progress = Progress::new();
    match resolved(args)? {
        Resolved::One(ladder) => {
            let request = request(args, *ladder, &[], args.run.clone())?;
            let verdicts = judged(args, &request, &mut progress)?;
            if args.json {
                print_json(&verdicts)?;
            } else {
                print(&args.criteria.tell(&verdicts)?)?;
            }
            Ok(exit_code(&verdicts))
        }
        Resolved::Each(each) => {
            let filter = conditions(&args.filter)?;
            for line in models::check(args, &each, &filter)? {
                progress.line(&line);
            }
            let requests = each.into_iter().map(|one| {
                let own = models::conditions(&one);
                let run = args.run.join(&one.label);
                let request = request(args, one.ladder, &own, run)?;
                Ok((one.label, request))
            });
            // Everything that can be wrong is found before the first of them runs.
            let requests = requests.collect::<Result<Vec<_>, Failure>>()?;
            let mut codes = Vec::new();
            let mut all = serde_json::Map::new();
            for (label, request) in requests {
                progress.line(&format!("model {label}"));
                let verdicts = judged(args, &request, &mut progress).map_err(|e| Failure {
                    code: e.code,
                    message: format!("model {label}: {}", e.message),
                })?;
                codes.push(exit_code(&verdicts));
                if args.json {
                    let value = serde_json::to_value(&verdicts).map_err(Failure::usage)?;
                    all.insert(label, value);
                } else {
                    print(&format!(
                        "model {label}\n{}",
                        args.criteria.tell(&verdicts)?
                    ))?;
                }
            }
            if args.json {
                print_json(&serde_json::json!({ "models": all }))?;
            }
            Ok(gravest(codes))
        }
    }
}

/// How long a stage's allocator keeps what is free before it gives it back, in milliseconds, unless the
/// user says so. By default a second: memory then grows for some ten thousand requests, until as much is
/// given back as is taken. Sooner costs page faults (docs/benchmarks.md, "Peak memory").
fn allocator() -> Vec<(String, String)> {
    let name = "MIMALLOC_PURGE_DELAY";
    match std::env::var_os(name) {
        Some(_) => Vec::new(),
        None => vec![(name.to_owned(), "200".to_owned())],
    }
}

/// Replays and judges; `verdicts.json` is written.
fn judged(
    args: &ReplayArgs,
    request: &RunRequest,
    progress: &mut Progress,
) -> Result<Verdicts, Failure> {
    let program = std::env::current_exe().map_err(Failure::usage)?;
    let launch = Launch {
        program,
        args: vec!["__stage".to_owned()],
        environment: allocator(),
    };
    let replayed = replay(request, &launch, &mut |event| progress.show(&event));
    replayed.map_err(|e| Failure {
        code: if matches!(e, RunError::Start { .. } | RunError::Stopped { .. }) {
            4
        } else {
            2
        },
        message: e.to_string(),
    })?;
    let options = JudgeOptions {
        margin: args.criteria.margin,
        cluster_by: args.criteria.cluster_by.clone(),
        slice_by: args.criteria.slice_by.clone(),
        ..JudgeOptions::default()
    };
    let verdicts = judge(&request.run, &options).map_err(Failure::usage)?;
    write_json(&RunLayout::new(&request.run).verdicts(), &verdicts).map_err(Failure::usage)?;
    Ok(verdicts)
}

/// The ladder, or one for each model.
fn resolved(args: &ReplayArgs) -> Result<Resolved, Failure> {
    let given = Given {
        model: args.model.clone(),
        metrics: args.criteria.metrics(),
        labels: args.criteria.labels()?,
    };
    let runtimes = runtimes::all(
        library::find_all(&args.library)?,
        interpreter::find(args.python.as_deref()),
    );
    resolve_each(&args.ladder, &given, &runtimes).map_err(Failure::usage)
}

fn conditions(texts: &[String]) -> Result<Vec<Condition>, Failure> {
    let filter = texts.iter().map(|text| Condition::parse(text));
    filter.collect::<Result<_, _>>().map_err(Failure::usage)
}

/// Everything that can be wrong is found here, before anything runs. An exchange must meet `own`
/// beside what the arguments say.
fn request(
    args: &ReplayArgs,
    ladder: Ladder,
    own: &[String],
    run: PathBuf,
) -> Result<RunRequest, Failure> {
    let asking = asking(args)?;
    // Production joins the ladder when the capture has been read.
    let names = ladder.stages.iter().map(|s| s.name.as_str());
    args.criteria.check_stage(names.chain(["recorded"]))?;
    for metric in &ladder.metrics {
        Metric::parse(metric).map_err(Failure::usage)?;
    }
    let mut filter = conditions(&args.filter)?;
    filter.extend(conditions(own)?);
    let sample = args.sample.as_deref().map(amount::share).transpose();
    let sample = sample.map_err(|why| Failure::usage(format!("--sample {why}")))?;
    let memory = args.memory_limit.as_deref().map(amount::bytes).transpose();
    let memory_bytes = memory.map_err(|why| Failure::usage(format!("--memory-limit {why}")))?;
    let exchange_seconds = args.exchange_timeout;
    if exchange_seconds.is_nan() || exchange_seconds <= 0.0 {
        let why = "it must be more than 0";
        return Err(Failure::usage(format!(
            "--exchange-timeout {exchange_seconds}: {why}"
        )));
    }
    let keep_outputs = match args.keep_outputs {
        Keep::Differing => "differing",
        Keep::All => "all",
        Keep::None => "none",
    };
    let limits = Limits {
        exchange_seconds,
        memory_bytes,
    };
    Ok(RunRequest {
        limits,
        asking,
        capture: args.capture.clone(),
        encryption_key: args.encryption_key.clone(),
        run,
        ladder,
        selection: Selection {
            filter,
            sample,
            seed: args.seed,
            limit: args.limit,
        },
        commit_every: args.commit_every,
        keep_outputs: keep_outputs.to_owned(),
        workers: args.workers,
        created: now(),
        environment: environment(),
    })
}

fn asking(args: &ReplayArgs) -> Result<Asking, Failure> {
    if args.commit_every == 0 {
        let why = "at least one exchange is committed at a time";
        return Err(Failure::usage(format!("--commit-every 0: {why}")));
    }
    if args.repeats == 0 {
        return Err(Failure::usage(
            "--repeats 0: the reference is replayed at least once",
        ));
    }
    if args.probe_seconds.is_nan() || args.probe_seconds <= 0.0 {
        let seconds = args.probe_seconds;
        return Err(Failure::usage(format!(
            "--probe-seconds {seconds}: it must be more than 0"
        )));
    }
    let named = args.probes.iter().filter(|p| *p != "none");
    let probes = named.map(|p| p.parse()).collect::<Result<_, String>>();
    Ok(Asking {
        repeats: args.repeats,
        probes: probes.map_err(|why| Failure::usage(format!("--probe: {why}")))?,
        sample: args.probe_sample,
        seconds: args.probe_seconds,
    })
}

/// OS and CPU of this machine.
fn environment() -> BTreeMap<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, key: &str| {
        let line = text.lines().find(|l| l.starts_with(key))?;
        let value = line[key.len()..].trim_start_matches([' ', '\t', ':', '=']);
        Some(value.trim_matches('"').to_owned())
    };
    let mut out = BTreeMap::new();
    out.insert("arch".to_owned(), std::env::consts::ARCH.to_owned());
    out.extend(line(&read("/etc/os-release"), "PRETTY_NAME").map(|v| ("os".to_owned(), v)));
    out.extend(line(&read("/proc/cpuinfo"), "model name").map(|v| ("cpu".to_owned(), v)));
    out.insert(
        "kernel".to_owned(),
        read("/proc/sys/kernel/osrelease").trim().to_owned(),
    );
    out
}
