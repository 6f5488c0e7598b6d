//! `captures recover|merge|delete`: what changes a capture, under its upkeep lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use inferdiff_schemas::Exchange;
use inferdiff_schemas::capture::{MergeOptions, Step, Upkeep};
use inferdiff_schemas::storage::Disk;
use serde_json::json;

use super::CaptureArgs;
use super::filter::FilterArgs;
use crate::cli::{Ended, Failure, encryption_key, print, print_json};

/// What to recover.
#[derive(Args)]
pub struct RecoverArgs {
    #[command(flatten)]
    of: CaptureArgs,
    #[command(flatten)]
    lock: LockArgs,
}

/// What to merge.
#[derive(Args)]
pub struct MergeArgs {
    #[command(flatten)]
    of: CaptureArgs,
    #[command(flatten)]
    lock: LockArgs,
    /// A merged segment has at most this many MiB.
    #[arg(long, value_name = "MiB", default_value_t = 256)]
    max_size: u64,
    /// Neighbours that are merged at once, at least.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(2..))]
    fan_in: u64,
    /// Only neighbours of about one size, as a recorder does in the background.
    #[arg(long)]
    tiered: bool,
    /// Read and write at most this much in a second.
    #[arg(long, value_name = "MiB")]
    rate: Option<u64>,
}

/// What to delete.
#[derive(Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    of: CaptureArgs,
    #[command(flatten)]
    lock: LockArgs,
    /// Delete the exchanges with this id: the client's request id, or the exchange's. Repeatable.
    #[arg(long, value_name = "ID", required = true)]
    request_id: Vec<String>,
    #[command(flatten)]
    only: FilterArgs,
}

/// How long to wait for others.
#[derive(Args)]
struct LockArgs {
    /// Wait this many seconds for another process that is changing the capture.
    #[arg(long, value_name = "S", default_value_t = 60)]
    wait: u64,
}

fn lock(of: &CaptureArgs, args: &LockArgs) -> Result<Upkeep, Failure> {
    let path = &of.capture;
    let key = encryption_key(of.encryption_key.as_deref())?;
    let until = Instant::now() + Duration::from_secs(args.wait);
    loop {
        if let Some(upkeep) = Upkeep::lock(Arc::new(Disk), path).map_err(Failure::usage)? {
            return Ok(upkeep.with_key(key));
        }
        if Instant::now() >= until {
            return Err(Failure::usage(format!(
                "another process is merging or deleting in {}: try again when it has ended, or \
                 wait longer with --wait",
                path.display()
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Lets `rate` MiB a second through.
fn pace(rate: Option<u64>) -> impl FnMut(Step) -> bool {
    let started = Instant::now();
    let mut moved = 0u64;
    move |step| {
        moved += step.moved;
        if let Some(rate) = rate {
            let micros = moved.saturating_mul(1_000_000) / (rate.max(1) << 20);
            let due = Duration::from_micros(micros);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
        true
    }
}

/// `captures recover`.
pub fn recover(args: &RecoverArgs) -> Ended {
    let upkeep = lock(&args.of, &args.lock)?;
    let recovered = upkeep.recover().map_err(Failure::usage)?;
    if args.of.json {
        print_json(&json!({ "recovered": recovered }))?;
        return Ok(0);
    }
    let mut text = String::new();
    for r in &recovered {
        text += &format!(
            "segment {}  {} rows  {} bytes cut  {}\n",
            r.segment, r.rows, r.cut_bytes, r.action
        );
    }
    if recovered.is_empty() {
        text += "nothing to recover\n";
    }
    print(&text)?;
    Ok(0)
}

/// `captures merge`.
pub fn merge(args: &MergeArgs) -> Ended {
    let upkeep = lock(&args.of, &args.lock)?;
    upkeep.recover().map_err(Failure::usage)?;
    let options = MergeOptions {
        fan_in: usize::try_from(args.fan_in).unwrap_or(usize::MAX),
        max_bytes: args.max_size.saturating_mul(1 << 20),
        any_size: !args.tiered,
    };
    let merged = upkeep
        .merge(&options, &mut pace(args.rate))
        .map_err(Failure::usage)?;
    if args.of.json {
        print_json(&merged)?;
    } else {
        let mut text = format!(
            "{} segments ({} bytes) became {}\n",
            merged.replaced, merged.bytes, merged.written
        );
        for id in &merged.damaged {
            text += &format!("segment {id} is damaged and stays as it is: `captures verify`\n");
        }
        print(&text)?;
    }
    Ok(u8::from(!merged.damaged.is_empty()))
}

/// `captures delete`: exit code 1 where something that matches is still there.
pub fn delete(args: &DeleteArgs) -> Ended {
    args.only.check()?;
    let upkeep = lock(&args.of, &args.lock)?;
    upkeep.recover().map_err(Failure::usage)?;
    let matches = |e: &Exchange| {
        let id = |id: &String| *id == e.id || e.client_request_id.as_ref() == Some(id);
        args.request_id.iter().any(id) && args.only.matches(e)
    };
    let deleted = upkeep
        .delete(&matches, &mut |_| true)
        .map_err(Failure::usage)?;
    if args.of.json {
        print_json(&deleted)?;
    } else {
        let mut text = format!(
            "{} exchanges ({} rows) deleted from {} segments\n",
            deleted.exchanges, deleted.rows, deleted.segments
        );
        if deleted.growing > 0 {
            text += &format!(
                "{} rows are in segments that a recorder is still writing: delete again when they \
                 are sealed\n",
                deleted.growing
            );
        }
        for id in &deleted.damaged {
            text += &format!("segment {id} is damaged and stays as it is: `captures verify`\n");
        }
        print(&text)?;
    }
    Ok(u8::from(deleted.growing > 0 || !deleted.damaged.is_empty()))
}
