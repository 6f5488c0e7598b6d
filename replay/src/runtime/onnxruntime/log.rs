//! What a session logs while it is created: the only witness of what the optimiser did.

use std::sync::{Arc, Mutex, PoisonError};

use inferdiff_schemas::run::evidence::Pass;
use ort::logging::{LogLevel, LoggerFunction};

/// Lines of one session's log.
#[derive(Clone, Default)]
pub(super) struct SessionLog(Arc<Mutex<Vec<(LogLevel, String)>>>);

impl SessionLog {
    /// The function that ONNX Runtime calls.
    pub fn function(&self) -> LoggerFunction {
        let lines = self.0.clone();
        Arc::new(
            move |level: LogLevel, _: &str, _: &str, _: &str, message: &str| {
                let keep = level >= LogLevel::Warning || message.starts_with("GraphTransformer ");
                if keep {
                    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                    // A runaway logger must not eat the memory of a long run.
                    if lines.len() < 10_000 {
                        lines.push((level, message.to_owned()));
                    }
                }
            },
        )
    }

    /// Passes in the order they ran.
    pub fn passes(&self) -> Vec<Pass> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .filter_map(|(_, line)| parse_pass(line))
            .collect()
    }

    /// Warnings and errors, each once.
    pub fn warnings(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out: Vec<String> = Vec::new();
        for (level, line) in lines.iter() {
            if *level >= LogLevel::Warning && !out.contains(line) {
                out.push(line.clone());
            }
        }
        out
    }
}

/// `GraphTransformer ConvActivationFusion modified: 1 with status: OK`
fn parse_pass(line: &str) -> Option<Pass> {
    let (name, rest) = line
        .strip_prefix("GraphTransformer ")?
        .split_once(" modified: ")?;
    Some(Pass {
        name: name.to_owned(),
        hit: rest.starts_with('1'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_lines_are_told_from_others() {
        let pass = |l| parse_pass(l).map(|p| (p.name, p.hit));
        let hit = "GraphTransformer ConvActivationFusion modified: 1 with status: OK";
        let miss = "GraphTransformer GeluFusionL2 modified: 0 with status: OK";
        assert_eq!(pass(hit), Some(("ConvActivationFusion".into(), true)));
        assert_eq!(pass(miss), Some(("GeluFusionL2".into(), false)));
        assert_eq!(pass("Total shared scalar initializer count: 0"), None);
    }
}
