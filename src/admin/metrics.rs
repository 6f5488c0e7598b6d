//! OpenMetrics text, as Prometheus reads it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Watched;
use crate::proxy::{LATENCY_BOUNDS_US, Meter};
use crate::recorder::Recorder;

/// Everything, as of now.
pub(super) fn render(watched: &Watched) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("inferdiff");
    registry.register_collector(Box::new(Now {
        meter: watched.meter.clone(),
        recorder: watched.recorder.clone(),
    }));
    let mut out = String::new();
    prometheus_client::encoding::text::encode(&mut out, &registry)?;
    Ok(out)
}

struct Now {
    meter: Arc<Meter>,
    recorder: Option<Arc<Recorder>>,
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now")
    }
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let e = &mut encoder;
        let m = &self.meter;
        counter(
            e,
            "connections",
            "Client connections accepted",
            m.connections.load(Relaxed),
        )?;
        gauge(
            e,
            "connections_open",
            "Client connections open",
            m.open.load(Relaxed),
        )?;
        let bytes = [
            ("up", m.bytes_up.load(Relaxed)),
            ("down", m.bytes_down.load(Relaxed)),
        ];
        family(
            e,
            "body_bytes",
            "Body bytes forwarded",
            bytes.map(|(d, n)| ([("direction", d)], n)),
        )?;
        latency(e, m)?;
        let Some(recorder) = &self.recorder else {
            return Ok(());
        };
        let books = recorder.state().books();
        counter(e, "accepted", "Exchanges accepted", recorder.accepted())?;
        counter(e, "recorded", "Exchanges on disk", books.recorded)?;
        let labels = books.exchanges.iter().map(|((protocol, outcome), n)| {
            ([("protocol", protocol.as_str()), ("outcome", *outcome)], *n)
        });
        family(
            e,
            "exchanges",
            "Exchanges that ended and were decoded",
            labels,
        )?;
        let undecoded = books
            .undecoded
            .iter()
            .map(|(protocol, n)| ([("protocol", protocol.as_str())], *n));
        let help = "Exchanges of which a body could not be decoded and was kept as it came";
        family(e, "undecoded", help, undecoded)?;
        let dropped = books
            .dropped
            .iter()
            .map(|(why, n)| ([("reason", why.as_str())], *n));
        family(e, "dropped", "Exchanges that were not recorded", dropped)?;
        gauge(
            e,
            "queue_bytes",
            "Bytes captured and not yet on disk",
            recorder.held(),
        )?;
        gauge(
            e,
            "queue_limit_bytes",
            "The budget for them",
            recorder.limit(),
        )?;
        let lag = ConstGauge::new(recorder.state().flush_lag().as_secs_f64());
        let help = "Age of the oldest exchange that is not on disk";
        lag.encode(e.encode_descriptor("flush_lag_seconds", help, None, MetricType::Gauge)?)?;
        let checkpoints = recorder.state().checkpoints.load(Relaxed);
        counter(e, "checkpoints", "Checkpoints written", checkpoints)?;
        let failing = u64::from(recorder.state().failing.load(Relaxed));
        gauge(
            e,
            "storage_failing",
            "1 while checkpoints fail and exchanges are dropped",
            failing,
        )
    }
}

fn counter(e: &mut DescriptorEncoder, name: &str, help: &str, n: u64) -> fmt::Result {
    ConstCounter::new(n).encode(e.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauge(e: &mut DescriptorEncoder, name: &str, help: &str, n: u64) -> fmt::Result {
    let value = ConstGauge::new(i64::try_from(n).unwrap_or(i64::MAX));
    value.encode(e.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn family<'a, const N: usize>(
    e: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = ([(&'a str, &'a str); N], u64)>,
) -> fmt::Result {
    let mut metric = e.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, n) in values {
        ConstCounter::new(n).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn latency(e: &mut DescriptorEncoder, meter: &Meter) -> fmt::Result {
    #[expect(
        clippy::cast_precision_loss,
        reason = "bounds and sums are far below 2^53"
    )]
    let seconds = |n: u64, per: f64| n as f64 / per;
    let counts: Vec<u64> = meter.latency.iter().map(|n| n.load(Relaxed)).collect();
    let bounds = LATENCY_BOUNDS_US
        .iter()
        .map(|&b| seconds(b, 1e6))
        .chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
    let help =
        "Time that the proxy added to an exchange: reading a head to forwarding it, both ways";
    let sum = seconds(meter.latency_sum_ns.load(Relaxed), 1e9);
    e.encode_descriptor("added_latency_seconds", help, None, MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
}
