//! `inferdiff record`.

mod flags;
mod options;
mod sighup;
mod sockets;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use inferdiff_schemas::capture::Ledger;
use tokio::signal::unix::{SignalKind, signal};

pub use flags::{RecordArgs, command};

use super::{Ended, Failure};
use crate::admin::{self, Watched};
use crate::handover::Giver;
use crate::proxy::{Acceptor, ProxyOptions, Tap, Upstream, serve};
use crate::recorder::{NoRecorder, inquire, start};
use options::{recorder_meta, recorder_options};
use sighup::reload_at_sighup;
use sockets::sockets;

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
    super::raise_descriptor_limit(u64::MAX);
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
