//! How far a replay is, on stderr.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use inferdiff_replay::runner::Event;

/// Bars on a terminal, a line per stage elsewhere.
pub(super) struct Progress {
    bars: Option<MultiProgress>,
    total: u64,
    stages: HashMap<String, ProgressBar>,
}

impl Progress {
    pub fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self {
            bars,
            total: 0,
            stages: HashMap::new(),
        }
    }

    pub fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => {
                let _ = bars.println(text);
            }
            None => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
        }
    }

    pub fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Planned {
                requests,
                left_out,
                stages,
            } => {
                self.total = *requests;
                let left: Vec<_> = left_out
                    .iter()
                    .map(|(why, n)| format!("{n} {why}"))
                    .collect();
                let left = if left.is_empty() {
                    "none".to_owned()
                } else {
                    left.join(", ")
                };
                let n = stages.len();
                self.line(&format!(
                    "{requests} exchanges, {n} stages; left out: {left}"
                ));
            }
            Event::Progress { stage, done } => {
                let Some(bars) = &self.bars else { return };
                let total = self.total;
                let bar = self.stages.entry((*stage).to_owned()).or_insert_with(|| {
                    let style = "{prefix:24} {bar:30} {pos}/{len} {per_sec} {eta}";
                    let bar = bars
                        .add(ProgressBar::new(total))
                        .with_prefix((*stage).to_owned());
                    bar.set_style(
                        ProgressStyle::with_template(style).expect("the template is a constant"),
                    );
                    bar.enable_steady_tick(Duration::from_millis(250));
                    bar
                });
                bar.set_position(*done);
            }
            Event::Ended { stage, status } => {
                if let Some(bar) = self.stages.remove(*stage) {
                    bar.finish_and_clear();
                }
                let why = status
                    .reason
                    .as_ref()
                    .map_or_else(String::new, |r| format!(": {r}"));
                let state = format!("{:?}", status.state).to_lowercase();
                let (open, replay) = (status.open_seconds, status.replay_seconds);
                self.line(&format!(
                    "stage {stage}: {state} (opened in {open:.2} s, replayed in {replay:.2} s){why}"
                ));
            }
        }
    }
}
