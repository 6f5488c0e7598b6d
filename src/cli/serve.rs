//! `inferdiff serve`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use inferdiff_replay::ladder::{Given, resolve};
use inferdiff_replay::runtime::{GraphOptimization, OnnxOptions, Runtimes};
use inferdiff_schemas::run::ladder::Stage;
use tokio::signal::unix::{SignalKind, signal};

use super::{Ended, Failure, interpreter, library, runtimes};
use crate::serve::{Engine, serve};

/// Serve a model as an Open Inference Protocol v2 REST endpoint, as one stage of a ladder or with
/// the runtime's defaults.
#[derive(Args)]
pub struct ServeArgs {
    /// The model.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Address to listen on; port 0 picks one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Name in routes; default: the model file's name without its ending.
    #[arg(long)]
    model_name: Option<String>,
    /// Ladder that --stage is of.
    #[arg(long, value_name = "NAME|FILE", requires = "stage")]
    ladder: Option<String>,
    /// Serve as this stage; default: everything on, as production usually runs.
    #[arg(long, requires = "ladder")]
    stage: Option<String>,
    /// ONNX Runtime library; NAME=FILE where the stage calls it by name.
    #[arg(long, value_name = "[NAME=]FILE")]
    library: Vec<PathBuf>,
    /// Python interpreter of stages that name none and need one (runtimes `paddle`, `onnx-reference`).
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
}

/// Runs `serve` until SIGTERM or SIGINT.
pub fn run(args: &ServeArgs) -> Ended {
    let runtimes = runtimes::all(
        library::find_all(&args.library)?,
        interpreter::find(args.python.as_deref()),
    );
    let stage = stage(args, &runtimes)?;
    let name = args.model_name.clone().or_else(|| {
        args.model
            .file_stem()
            .and_then(|s| s.to_str())
            .map(str::to_owned)
    });
    let name = name.unwrap_or_else(|| "model".to_owned());
    let engine = Engine::open(name.clone(), stage, runtimes).map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::usage)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::usage)?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        let bound = |address: SocketAddr| {
            let _ = writeln!(std::io::stderr(), "serving {name} on {address}");
        };
        serve(engine, args.listen, bound, stop).await.map_err(|e| {
            Failure::usage(format!(
                "cannot listen on {}: {e}; choose another --listen",
                args.listen
            ))
        })
    })?;
    Ok(0)
}

fn stage(args: &ServeArgs, runtimes: &Runtimes) -> Result<Stage, Failure> {
    let given = Given {
        model: Some(args.model.clone()),
        ..Given::default()
    };
    let wanted = match (&args.ladder, &args.stage) {
        (Some(ladder), Some(stage)) => Some((ladder.as_str(), stage)),
        _ => None,
    };
    let ladder = resolve(
        wanted.map_or("onnxruntime-cpu", |(l, _)| l),
        &given,
        runtimes,
    )
    .map_err(Failure::usage)?;
    let Some((_, name)) = wanted else {
        // What a session with untouched options does.
        let stage = ladder
            .stages
            .into_iter()
            .next()
            .expect("a resolved ladder has a stage");
        let reference: OnnxOptions = stage.read_options().map_err(Failure::usage)?;
        let options = OnnxOptions {
            graph_optimization: GraphOptimization::All,
            prepacking: true,
            memory_optimization: true,
            threads: 0,
            deterministic: false,
            ..reference
        };
        return Ok(options.over(Stage {
            name: "production".to_owned(),
            ..stage
        }));
    };
    let names: Vec<_> = ladder.stages.iter().map(|s| s.name.clone()).collect();
    ladder
        .stages
        .into_iter()
        .find(|s| s.name == *name)
        .ok_or_else(|| {
            Failure::usage(format!(
                "the ladder has no stage `{name}`; it has {}",
                names.join(", ")
            ))
        })
}
