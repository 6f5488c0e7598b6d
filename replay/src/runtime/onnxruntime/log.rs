//! What a session logs while it is created: the only witness of what the optimiser did.

use std::sync::{Arc, Mutex, PoisonError};

use inferdiff_schemas::run::evidence::Pass;
use ort::logging::{LogLevel, LoggerFunction};

/// A runaway logger must not eat the memory of a long run.
const MOST_LINES: usize = 10_000;

/// Begins every line that tells of a pass. All passes are told at level Info, those that changed
/// nothing included.
const PASS: &str = "GraphTransformer ";
/// Begins the line of the static memory plan; it comes with the memory pattern only.
const MEMORY: &str = "[Memory] SessionStateInitializer statically allocates ";
/// Begins the line of a constant that an optimisation made superfluous.
const REMOVED: &str = "Removing initializer ";

/// Lines of one session's log.
#[derive(Clone, Default)]
pub(super) struct SessionLog(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    /// Of the kinds above, in order.
    told: Vec<String>,
    /// Warnings and errors, each once, in order.
    warnings: Vec<String>,
}

impl SessionLog {
    /// The function that ONNX Runtime calls.
    pub fn function(&self) -> LoggerFunction {
        let lines = self.0.clone();
        Arc::new(
            move |level: LogLevel, _: &str, _: &str, _: &str, message: &str| {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.hear(level, message);
            },
        )
    }

    /// Passes in the order they ran.
    pub fn passes(&self) -> Vec<Pass> {
        self.with(|l| l.told.iter().filter_map(|line| parse_pass(line)).collect())
    }

    /// The static memory plan, in the library's words.
    pub fn memory_plan(&self) -> Option<String> {
        self.with(|l| l.told.iter().find(|line| line.starts_with(MEMORY)).cloned())
    }

    /// Constants that the optimisation removed, sorted.
    pub fn removed(&self) -> Vec<String> {
        let mut removed: Vec<String> = self.with(|l| {
            let lines = l.told.iter().filter(|line| line.starts_with(REMOVED));
            lines.cloned().collect()
        });
        removed.sort();
        removed
    }

    /// Warnings and errors, each once.
    pub fn warnings(&self) -> Vec<String> {
        self.with(|l| l.warnings.clone())
    }

    /// Forgets the warnings so far.
    pub fn forget_warnings(&self) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.warnings.clear();
    }

    fn with<T>(&self, read: impl FnOnce(&Lines) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Lines {
    fn hear(&mut self, level: LogLevel, message: &str) {
        let message = message.trim_end();
        if level >= LogLevel::Warning {
            let known = self.warnings.iter().any(|w| w == message);
            if !known && self.warnings.len() < MOST_LINES {
                self.warnings.push(message.to_owned());
            }
        } else if [PASS, MEMORY, REMOVED]
            .iter()
            .any(|p| message.starts_with(p))
            && self.told.len() < MOST_LINES
        {
            self.told.push(message.to_owned());
        }
    }
}

/// `GraphTransformer ConvActivationFusion modified: 1 with status: OK`
fn parse_pass(line: &str) -> Option<Pass> {
    let (name, rest) = line.strip_prefix(PASS)?.split_once(" modified: ")?;
    Some(Pass {
        name: name.to_owned(),
        hit: rest.starts_with('1'),
        count: None,
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

    #[test]
    fn warnings_are_kept_once_and_what_tells_nothing_is_not_kept() {
        let log = SessionLog::default();
        let hear = log.function();
        for _ in 0..3 {
            hear(LogLevel::Warning, "", "", "", "a constant is odd\n");
            hear(
                LogLevel::Info,
                "",
                "",
                "",
                "Session successfully initialized.",
            );
        }
        hear(
            LogLevel::Info,
            "",
            "",
            "",
            &format!("{MEMORY}1280 bytes for Device:[]\n"),
        );
        assert_eq!(log.warnings(), ["a constant is odd"]);
        assert_eq!(log.with(|l| l.told.len()), 1);
        assert!(log.memory_plan().unwrap().contains("1280 bytes"));
    }
}
