//! `RecordArgs → RecorderOptions`: what the flags ask of the recorder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inferdiff_schemas::capture::{CaptureMeta, RecorderMeta, Retention, SyncPolicy, WriterOptions};
use inferdiff_schemas::run::evidence::ModelIdentity;
use inferdiff_schemas::secret::read_secret;
use inferdiff_schemas::storage::{Disk, Faulty, Storage};
use inferdiff_schemas::wire::{BodyPolicy, Keep, TensorRules};
use ulid::Ulid;

use super::flags::{Bodies, Pressure, RecordArgs, Sync};
use crate::cli::{Failure, encryption_key, now};
use crate::recorder::{RecorderOptions, Reload, Sampling, UpkeepOptions};

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
pub(super) fn keep(args: &RecordArgs) -> Result<Keep, Failure> {
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

pub(super) fn reload(args: &RecordArgs) -> Result<Reload, Failure> {
    Ok(Reload {
        keep: keep(args)?,
        sampling: sampling(args),
        min_free: args.min_free.saturating_mul(1 << 20),
        flush_bytes: args.flush_bytes << 20,
        flush_age: Duration::from_millis(args.flush_age),
        upkeep: upkeep(args),
    })
}

pub(super) fn recorder_options(
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
            encryption: encryption_key(args.encryption_key.as_deref())?,
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

pub(super) fn recorder_meta(args: &RecordArgs) -> Result<RecorderMeta, Failure> {
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
