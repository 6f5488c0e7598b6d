//! `inferdiff captures ls|show|verify|recover|merge|import|delete`.

mod change;
mod filter;
mod import;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use inferdiff_schemas::capture::{Capture, Projection, verify};
use inferdiff_schemas::storage::Disk;
use inferdiff_schemas::{Exchange, Tensor};
use serde_json::json;

use self::filter::FilterArgs;
use super::{Ended, Failure, encryption_key, print, print_json};

/// Look into captures and check them.
#[derive(Subcommand)]
pub enum CapturesCommand {
    /// The segments and recorders of a capture.
    Ls(CaptureArgs),
    /// Exchanges: a line each, or one whole with --id.
    Show(ShowArgs),
    /// Check every footer, digest, page and ledger. Exit code 1 where something is damaged.
    Verify(CaptureArgs),
    /// Cut segments that a killed recorder left to their last checkpoint and seal them.
    Recover(change::RecoverArgs),
    /// Merge small neighbouring segments into large ones.
    Merge(change::MergeArgs),
    /// Arrays that were saved elsewhere, as a capture. Exit code 1 where samples were left out.
    Import(Box<import::ImportArgs>),
    /// Delete exchanges by request id from all sealed segments. Exit code 1 where some are left.
    Delete(change::DeleteArgs),
}

/// A capture.
#[derive(Args)]
pub struct CaptureArgs {
    /// The capture's directory.
    capture: PathBuf,
    /// The key of an encrypted capture: the file that `record --encryption-key` was given.
    #[arg(long, value_name = "FILE")]
    encryption_key: Option<PathBuf>,
    /// JSON for machines.
    #[arg(long)]
    json: bool,
}

/// Which exchanges to show.
#[derive(Args)]
pub struct ShowArgs {
    #[command(flatten)]
    of: CaptureArgs,
    /// Only this exchange, with its tensors (exchange id or the client's request id).
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    only: FilterArgs,
    /// Leave out the first N that match.
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    /// At most this many.
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

/// Runs `captures …`.
pub fn run(command: CapturesCommand) -> Ended {
    match command {
        CapturesCommand::Ls(args) => ls(&args),
        CapturesCommand::Show(args) => show(&args),
        CapturesCommand::Verify(args) => check(&args),
        CapturesCommand::Recover(args) => change::recover(&args),
        CapturesCommand::Merge(args) => change::merge(&args),
        CapturesCommand::Import(args) => import::run(&args),
        CapturesCommand::Delete(args) => change::delete(&args),
    }
}

fn open(args: &CaptureArgs) -> Result<Capture, Failure> {
    let key = encryption_key(args.encryption_key.as_deref())?;
    Capture::open_with_key(Arc::new(Disk), &args.capture, key.as_ref()).map_err(Failure::usage)
}

fn ls(args: &CaptureArgs) -> Ended {
    let capture = open(args)?;
    let segments: Vec<_> = capture
        .segments()
        .iter()
        .map(|s| {
            json!({
                "segment": s.id.to_string(),
                "sealed": s.sealed,
                "rows": s.rows,
                "row_groups": s.row_groups,
                "bytes": s.bytes,
                "file": s.path.display().to_string(),
            })
        })
        .collect();
    let damage: Vec<_> = capture
        .unreadable()
        .iter()
        .map(ToString::to_string)
        .collect();
    if args.json {
        print_json(&json!({
            "capture": capture.meta(),
            "recorders": capture.recorders(),
            "segments": segments,
            "unreadable": damage,
        }))?;
        return Ok(u8::from(!damage.is_empty()));
    }
    let mut text = String::new();
    for s in capture.segments() {
        let state = if s.sealed { "sealed" } else { "growing" };
        text += &format!(
            "{}  {state:7}  {:>8} rows  {:>3} row groups  {:>12} bytes\n",
            s.id, s.rows, s.row_groups, s.bytes
        );
    }
    for r in capture.recorders() {
        let end = r
            .stopped
            .as_deref()
            .unwrap_or(if r.crashed { "crashed" } else { "running" });
        text += &format!(
            "recorder {}  {} .. {end}  accepted {}  recorded {}  dropped {}\n",
            r.recorder,
            r.started,
            r.ledger.accepted,
            r.ledger.recorded,
            r.ledger.dropped_total()
        );
    }
    for why in &damage {
        text += &format!("unreadable: {why}\n");
    }
    print(&text)?;
    Ok(u8::from(!damage.is_empty()))
}

fn show(args: &ShowArgs) -> Ended {
    args.only.check()?;
    let capture = open(&args.of)?;
    let projection = if args.id.is_some() {
        Projection::Full
    } else {
        Projection::Shapes
    };
    let (mut shown, mut skipped) = (Vec::new(), 0);
    'all: for segment in capture.segments() {
        for row_group in 0..segment.row_groups {
            for e in capture
                .read(segment, row_group, projection)
                .map_err(Failure::usage)?
            {
                let wanted = args
                    .id
                    .as_ref()
                    .is_none_or(|id| e.id == *id || e.client_request_id.as_ref() == Some(id));
                if !wanted || !args.only.matches(&e) {
                    continue;
                }
                if skipped < args.skip {
                    skipped += 1;
                } else if shown.len() < args.limit {
                    shown.push(e);
                } else {
                    break 'all;
                }
            }
        }
    }
    if let (Some(id), true) = (&args.id, shown.is_empty()) {
        return Err(Failure::usage(format!(
            "no exchange `{id}` in {}: `inferdiff captures show` lists them",
            args.of.capture.display()
        )));
    }
    if args.of.json {
        print_json(&shown.iter().map(to_json).collect::<Vec<_>>())?;
        return Ok(0);
    }
    let mut text = String::new();
    for e in &shown {
        let shapes = |tensors: &Option<Vec<Tensor>>| match tensors {
            None => "not decoded".to_owned(),
            Some(list) => list
                .iter()
                .map(|t| format!("{} {}{:?}", t.name, t.datatype, t.shape))
                .collect::<Vec<_>>()
                .join(", "),
        };
        text += &format!(
            "{}  {}  {} {}  {}  {}  in: {}  out: {}{}\n",
            e.id,
            e.client_request_id.as_deref().unwrap_or("-"),
            e.method,
            e.path,
            e.status.map_or_else(|| "-".to_owned(), |s| s.to_string()),
            e.outcome.name(),
            shapes(&e.inputs),
            shapes(&e.outputs),
            e.decode_error
                .as_ref()
                .map_or_else(String::new, |w| format!("  ({w})")),
        );
        if args.id.is_some() {
            text += &format!("{:#}\n", to_json(e));
        }
    }
    print(&text)?;
    Ok(0)
}

fn to_json(e: &Exchange) -> serde_json::Value {
    let tensors = |list: &Option<Vec<Tensor>>| {
        list.as_ref().map(|list| {
            list.iter()
                .map(|t| {
                    json!({
                        "name": t.name, "datatype": t.datatype.name(), "shape": t.shape,
                        "payload": t.payload.name(), "parameters": t.parameters,
                        "bytes": t.data.as_ref().map(|d| d.len()),
                    })
                })
                .collect::<Vec<_>>()
        })
    };
    json!({
        "id": e.id, "recorder": e.recorder.to_string(), "seq": e.seq,
        "arrived_at_ns": e.arrived_at_ns, "first_byte_ns": e.first_byte_ns, "end_ns": e.end_ns,
        "protocol": e.protocol, "model": e.model, "model_version": e.model_version,
        "client_request_id": e.client_request_id, "sequence_id": e.sequence_id,
        "method": e.method, "path": e.path, "query": e.query, "status": e.status,
        "outcome": e.outcome.name(), "error": e.error,
        "request_headers": e.request_headers, "response_headers": e.response_headers,
        "parameters": e.parameters, "requested_outputs": e.requested_outputs,
        "input_digest": e.input_digest.map(|d| d.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        "inputs": tensors(&e.inputs), "outputs": tensors(&e.outputs),
        "request_body_bytes": e.request_body.as_ref().map(|b| b.len()),
        "response_body_bytes": e.response_body.as_ref().map(|b| b.len()),
        "decode_error": e.decode_error, "sample_rate": e.sample_rate,
    })
}

fn check(args: &CaptureArgs) -> Ended {
    let capture = open(args)?;
    let report = verify(&capture).map_err(Failure::usage)?;
    if args.json {
        print_json(&report)?;
    } else {
        let mut text = format!(
            "{} segments, {} rows, {} exchanges\n",
            report.segments, report.rows, report.exchanges
        );
        for b in &report.recorders {
            text += &format!(
                "recorder {} ({}): accepted {} = recorded {} + dropped {} + in flight {}: {}\n",
                b.recorder,
                b.state,
                b.ledger.accepted,
                b.ledger.recorded,
                b.ledger.dropped_total(),
                b.ledger.in_flight,
                if b.balances {
                    "balances"
                } else {
                    "does NOT balance"
                }
            );
            if !b.gaps.is_empty() {
                let range = |&(a, z): &(u64, u64)| {
                    if a == z {
                        a.to_string()
                    } else {
                        format!("{a}..{z}")
                    }
                };
                let shown: Vec<_> = b.gaps.iter().take(5).map(range).collect();
                let more = if b.gaps.len() > 5 { ", …" } else { "" };
                text += &format!("  not on disk: {}{more}\n", shown.join(", "));
            }
            for (reason, n) in &b.ledger.removed {
                text += &format!("  removed since: {n} {reason}\n");
            }
        }
        for name in &report.foreign {
            text += &format!("not looked into: {name}, which is not a capture's\n");
        }
        for problem in &report.problems {
            text += &format!("problem: {problem}\n");
        }
        text += if report.ok { "whole\n" } else { "DAMAGED\n" };
        print(&text)?;
    }
    Ok(u8::from(!report.ok))
}
