//! Which exchanges of a capture a command is about.

use clap::Args;
use inferdiff_schemas::Exchange;

use crate::cli::Failure;

/// Filters; an exchange must pass all that are given.
#[derive(Args, Default)]
pub struct FilterArgs {
    /// Only exchanges of this recorder process (ULID).
    #[arg(long, value_name = "ULID")]
    recorder: Option<String>,
    /// Only these sequence numbers: FIRST..LAST, both included; either may be left out.
    #[arg(long, value_name = "RANGE", value_parser = range)]
    seq: Option<(u64, u64)>,
    /// Only exchanges that arrived at this time or later (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<i64>,
    /// Only exchanges that arrived before this time (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<i64>,
    /// Only exchanges of this model.
    #[arg(long)]
    model: Option<String>,
    /// Only exchanges of this protocol.
    #[arg(long)]
    protocol: Option<String>,
    /// Only answers with this status: 200, or 5xx for a class.
    #[arg(long, value_parser = status)]
    status: Option<(u16, u16)>,
    /// Only exchanges that ended so: complete, client_cancelled, upstream_reset, …
    #[arg(long)]
    outcome: Option<String>,
}

impl FilterArgs {
    /// Refuses what can match nothing.
    pub fn check(&self) -> Result<(), Failure> {
        let known = inferdiff_schemas::Outcome::ALL.map(inferdiff_schemas::Outcome::name);
        match &self.outcome {
            Some(name) if !known.contains(&name.as_str()) => Err(Failure::usage(format!(
                "--outcome {name}: there are {}",
                known.join(", ")
            ))),
            _ => Ok(()),
        }
    }

    /// True where the exchange passes. Needs key columns only.
    pub fn matches(&self, e: &Exchange) -> bool {
        let text = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|w| found == Some(w))
        };
        text(&self.recorder, Some(&e.recorder.to_string()))
            && self.seq.is_none_or(|(a, b)| (a..=b).contains(&e.seq))
            && self.since.is_none_or(|t| e.arrived_at_ns >= t)
            && self.until.is_none_or(|t| e.arrived_at_ns < t)
            && text(&self.model, e.model.as_deref())
            && text(&self.protocol, Some(&e.protocol))
            && self
                .status
                .is_none_or(|(a, b)| e.status.is_some_and(|s| (a..=b).contains(&s)))
            && text(&self.outcome, Some(e.outcome.name()))
    }
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let number = |t: &str, open: u64| match t {
        "" => Ok(open),
        t => t.parse().map_err(|_| format!("`{t}` is no whole number")),
    };
    match text.split_once("..") {
        Some((a, b)) => Ok((number(a, 0)?, number(b, u64::MAX)?)),
        None => number(text, 0).map(|n| (n, n)),
    }
}

fn time(text: &str) -> Result<i64, String> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| "it must be like 2026-01-31T12:00:00Z".to_owned())?;
    i64::try_from(time.as_nanosecond()).map_err(|_| "it is out of range".to_owned())
}

fn status(text: &str) -> Result<(u16, u16), String> {
    let bad = || "it must be like 200 or 5xx".to_owned();
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().map_err(|_| bad())?;
        return match class {
            1..=9 => Ok((class * 100, class * 100 + 99)),
            _ => Err(bad()),
        };
    }
    let code = text.parse().map_err(|_| bad())?;
    Ok((code, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_times_and_classes_are_parsed() {
        assert_eq!(range("5"), Ok((5, 5)));
        assert_eq!(range("5..9"), Ok((5, 9)));
        assert_eq!(range("..9"), Ok((0, 9)));
        assert_eq!(range("5.."), Ok((5, u64::MAX)));
        assert!(range("a..b").is_err());
        assert_eq!(status("5xx"), Ok((500, 599)));
        assert_eq!(status("404"), Ok((404, 404)));
        assert!(status("0xx").is_err() && status("x").is_err());
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(1_000_000_000));
        assert!(time("yesterday").is_err());
    }

    #[test]
    fn every_filter_must_pass() {
        let mut e = Exchange::new(ulid::Ulid::nil(), 7);
        e.status = Some(503);
        let all = FilterArgs {
            seq: Some((7, 7)),
            status: Some((500, 599)),
            outcome: Some("complete".to_owned()),
            ..FilterArgs::default()
        };
        assert!(all.matches(&e));
        e.seq = 8;
        assert!(!all.matches(&e));
    }
}
