//! What Paddle prints while it makes a predictor: the only witness of what its passes did.
//!
//! Formats of 2.6 and 3.3 (`ir_pass_manager.cc`, `pass_manager.cc`, `fuse_pass_base.cc`,
//! `print_statistics.cc`). A hit belongs to the latest "Running" line; a pass may run twice.

use inferdiff_schemas::run::evidence::Pass;

/// Which optimiser ran a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The predictor's own preparation (old IR).
    Analysis,
    /// The old IR's.
    Ir,
    /// PIR's.
    Pir,
}

/// One run of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ran {
    pub kind: Kind,
    pub name: String,
    /// How often it hit; `None` where it printed nothing, which most passes do that hit nothing.
    pub hits: Option<u64>,
}

/// A log, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PassLog {
    pub passes: Vec<Ran>,
    /// Warnings and errors, each once, without time and place.
    pub warnings: Vec<String>,
}

const RUNNING: [(&str, Kind); 3] = [
    ("--- Running analysis [", Kind::Analysis),
    ("--- Running IR pass [", Kind::Ir),
    ("--- Running PIR pass [", Kind::Pir),
];

impl PassLog {
    /// Reads a log.
    pub fn parse(text: &str) -> Self {
        let mut log = Self::default();
        // Notes such as "fused 2 conv2d" count only where the pass printed no "detected".
        let mut noted = false;
        for line in text.lines() {
            let line = without_colour(line);
            let running = RUNNING.iter().find_map(|(mark, kind)| {
                let (name, _) = line.split_once(mark)?.1.split_once(']')?;
                Some((*kind, name))
            });
            if let Some((kind, name)) = running {
                let name = name.to_owned();
                log.passes.push(Ran {
                    kind,
                    name,
                    hits: None,
                });
                noted = false;
            } else if let Some(complaint) = complaint(&line) {
                if !log.warnings.iter().any(|w| w == complaint) {
                    log.warnings.push(complaint.to_owned());
                }
            } else if let Some(last) = log.passes.last_mut() {
                if let Some(n) = detected(&line) {
                    let before = if noted { 0 } else { last.hits.unwrap_or(0) };
                    last.hits = Some(before + n);
                    noted = false;
                } else if let Some(n) = note(&line)
                    && (noted || last.hits.is_none())
                {
                    last.hits = Some(last.hits.unwrap_or(0) + n);
                    noted = true;
                }
            }
        }
        log
    }

    /// As evidence keeps them.
    pub fn evidence(&self) -> Vec<Pass> {
        let pass = |ran: &Ran| Pass {
            name: ran.name.clone(),
            hit: ran.hit(),
            count: ran.hits,
        };
        self.passes.iter().map(pass).collect()
    }

    /// It ran at least once.
    pub fn ran(&self, name: &str) -> bool {
        self.passes.iter().any(|p| p.name == name)
    }
}

impl Ran {
    /// It says that it changed the graph.
    pub fn hit(&self) -> bool {
        self.hits.is_some_and(|n| n > 0)
    }
}

/// The line without its escape sequences (`ESC [ … m`).
fn without_colour(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out
}

/// `… ---  detected 2 subgraphs`, `… --- detected [2] subgraphs!`, `… --- detected [17, 36] subgraphs!`
/// (17 of 36).
fn detected(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("--- ")?;
    let rest = rest.trim_start().strip_prefix("detected ")?;
    if !rest.contains("subgraphs") {
        return None;
    }
    number(rest.trim_start_matches('['))
}

/// `---    fused 2 fused_conv2d with relu activation`, `---    enabled FC MKL-DNN for 1 fc ops`.
fn note(line: &str) -> Option<u64> {
    let words = line.strip_prefix("---")?.split_whitespace();
    words.into_iter().find_map(|w| w.parse().ok())
}

fn number(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}

/// The words of a warning or an error of glog: severity, month and day, time, thread, place, words.
fn complaint(line: &str) -> Option<&str> {
    let severe = line.starts_with(['W', 'E', 'F']);
    let dated = line.get(1..5)?.bytes().all(|b| b.is_ascii_digit());
    if !(severe && dated) {
        return None;
    }
    line.split_once("] ").map(|(_, words)| words.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name and hits of the passes that hit.
    fn hits(text: &str) -> Vec<(String, u64)> {
        let log = PassLog::parse(text);
        let hit = log.passes.into_iter().filter(Ran::hit);
        hit.map(|p| (p.name, p.hits.unwrap_or(0))).collect()
    }

    fn expected(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
        pairs.iter().map(|(n, h)| ((*n).to_owned(), *h)).collect()
    }

    #[test]
    fn lines_of_both_generations_are_read_with_their_colours() {
        let text = "\u{1b}[32m--- Running IR pass [conv_activation_mkldnn_fuse_pass]\u{1b}[0m\n\
            I1126 02:23:07.031109  1367 fuse_pass_base.cc:59] ---  detected 2 subgraphs\n\
            \u{1b}[37m---    fused 2 fused_conv2d with relu activation\u{1b}[0m\n\
            \u{1b}[32m--- Running IR pass [self_attention_fuse_pass]\u{1b}[0m\n\
            \u{1b}[37m---    fused 0 self attention (of scaled_dp_attention)\u{1b}[0m\n\
            \u{1b}[32m--- Running IR pass [cpu_bfloat16_pass]\u{1b}[0m\n\
            \u{1b}[37m---    added 3 quantize ops before bfloat16 op\u{1b}[0m\n\
            \u{1b}[37m---    added 3 dequantize ops after bfloat16 op\u{1b}[0m\n\
            \u{1b}[1m\u{1b}[35m--- Running PIR pass [constant_folding_pass]\u{1b}[0m\n\
            I1126 02:23:34.836532  4170 print_statistics.cc:44] --- detected [17, 36] subgraphs!\n\
            W1126 02:23:37.339514  4350 pattern_rewrite_driver.cc:235] did not converge\n\
            W1126 02:23:37.347112  4350 pattern_rewrite_driver.cc:235] did not converge\n";
        let wanted = [
            ("conv_activation_mkldnn_fuse_pass", 2),
            ("cpu_bfloat16_pass", 6),
            ("constant_folding_pass", 17),
        ];
        assert_eq!(hits(text), expected(&wanted));
        let log = PassLog::parse(text);
        assert_eq!(log.warnings, ["did not converge"]);
        assert_eq!(log.passes[1].hits, Some(0));
        assert_eq!(log.passes[3].kind, Kind::Pir);
    }

    /// Logs of real predictors of the digits network (`scripts/make_paddle_logs.py`).
    #[test]
    fn golden_logs_of_both_generations() {
        macro_rules! log {
            ($name:literal) => {
                include_str!(concat!("../../../tests/paddle_logs/", $name, ".log"))
            };
        }
        let count = |text: &str| {
            let log = PassLog::parse(text);
            let of = |kind| log.passes.iter().filter(|p| p.kind == kind).count();
            (of(Kind::Analysis), of(Kind::Ir), of(Kind::Pir))
        };
        assert_eq!(count(log!("2.6.2-pdmodel-off")), (7, 0, 0));
        assert_eq!(count(log!("2.6.2-pdmodel-memory")), (8, 0, 0));
        assert_eq!(count(log!("3.3.1-json-off")), (0, 0, 5));
        assert_eq!(count(log!("3.3.1-json-switch-off")), (0, 0, 10));
        assert_eq!(hits(log!("2.6.2-pdmodel-off")), []);
        let inherent = [
            ("replace_fetch_with_shadow_output_pass", 1),
            ("inplace_pass", 4),
        ];
        assert_eq!(hits(log!("3.3.1-json-off")), expected(&inherent));
        let old = [
            ("gpu_cpu_map_matmul_v2_to_mul_pass", 1),
            ("fc_fuse_pass", 1),
            ("conv_bn_fuse_pass", 2),
        ];
        assert_eq!(hits(log!("2.6.2-pdmodel-ir")), expected(&old));
        let onednn = hits(log!("3.3.1-json-onednn"));
        for wanted in [
            ("conv2d_bn_onednn_fuse_pass", 2),
            ("onednn_placement_pass", 12),
        ] {
            assert!(
                onednn.contains(&(wanted.0.to_owned(), wanted.1)),
                "{onednn:?}"
            );
        }
        let bf16 = hits(log!("2.6.2-pdmodel-bf16"));
        assert!(
            bf16.contains(&("cpu_bfloat16_placement_pass".to_owned(), 9)),
            "{bf16:?}"
        );
    }
}
