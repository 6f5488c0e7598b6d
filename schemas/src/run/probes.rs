//! `stages/<name>/probes.json`: the same stage asked in another way.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Another way to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Probe {
    /// Each exchange twice in a row, on one predictor.
    Repeat,
    /// Each exchange on a predictor that answered nothing before, against the answer of the one that
    /// replayed the whole capture.
    Fresh,
    /// Up to so many exchanges as one request, against each alone.
    Batch(u32),
    /// The exchanges in a shuffled order, against their order in the capture.
    Order,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeat => f.write_str("repeat"),
            Self::Fresh => f.write_str("fresh"),
            Self::Batch(n) => write!(f, "batch:{n}"),
            Self::Order => f.write_str("order"),
        }
    }
}

impl From<Probe> for String {
    fn from(probe: Probe) -> Self {
        probe.to_string()
    }
}

impl TryFrom<String> for Probe {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Probe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "repeat" => Ok(Self::Repeat),
            None if text == "fresh" => Ok(Self::Fresh),
            None if text == "order" => Ok(Self::Order),
            Some(("batch", n)) => match n.parse() {
                Ok(n @ 2..=4096) => Ok(Self::Batch(n)),
                _ => Err(format!("probe `{text}`: a batch is of 2 to 4096 exchanges")),
            },
            _ => Err(format!(
                "unknown probe `{text}`; known: repeat, fresh, batch:N, order, none"
            )),
        }
    }
}

/// What is asked beside the replay itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asking {
    /// Processes that replay the reference; where it is 2 or more, a stage whose bits differ from
    /// the reference's is replayed once more.
    pub repeats: u32,
    /// Probes of every stage.
    pub probes: Vec<Probe>,
    /// Exchanges that probes ask, drawn over the whole capture.
    pub sample: u64,
    /// Seconds after which `fresh` asks no more.
    pub seconds: f64,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            repeats: 3,
            probes: vec![Probe::Repeat, Probe::Fresh, Probe::Batch(8), Probe::Order],
            sample: 64,
            seconds: 60.0,
        }
    }
}

impl Asking {
    /// Nothing beside the replay itself.
    pub fn nothing() -> Self {
        Self {
            repeats: 1,
            probes: Vec::new(),
            ..Self::default()
        }
    }
}

/// What one probe saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Which.
    pub probe: Probe,
    /// Exchanges asked in both ways.
    pub asked: u64,
    /// Exchanges of which any bit differs.
    pub differing: u64,
    /// Exchanges beyond the tolerance, or answered in one way only.
    pub beyond_tolerance: u64,
    /// Items whose largest element is another.
    pub flips: u64,
    /// Largest |difference|.
    pub max_abs: Option<f64>,
    /// `fresh` only: differing exchanges that a second new predictor answers differently from the
    /// first. They are noise and no memory of earlier requests.
    pub noisy: u64,
    /// The first differing exchange, `<recorder>-<seq>`.
    pub first: Option<String>,
    /// Exchanges of the sample that could not be asked, by reason.
    pub left_out: BTreeMap<String, u64>,
}

impl ProbeResult {
    /// Nothing seen yet.
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            asked: 0,
            differing: 0,
            beyond_tolerance: 0,
            flips: 0,
            max_abs: None,
            noisy: 0,
            first: None,
            left_out: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_read_as_they_are_written() {
        for probe in Asking::default().probes {
            let text = serde_json::to_string(&probe).unwrap();
            assert_eq!(serde_json::from_str::<Probe>(&text).unwrap(), probe);
        }
        for wrong in ["batch", "batch:1", "batch:x", "batch:9999", "again", ""] {
            assert!(wrong.parse::<Probe>().is_err(), "{wrong}");
        }
    }
}
