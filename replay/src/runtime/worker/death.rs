//! How a process ended, in words.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Lines of the log that are told of.
const LINES: usize = 3;
/// Characters of a line that are told of.
const WIDTH: usize = 240;

/// `signal 11 (SIGSEGV)` or `exit code 1`.
pub(super) fn how(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(n), _) => match signal_name(n) {
            Some(name) => format!("signal {n} ({name})"),
            None => format!("signal {n}"),
        },
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

fn signal_name(n: i32) -> Option<&'static str> {
    Some(match n {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        _ => return None,
    })
}

/// The last lines of a log that say something, shortened, as one sentence; empty where there are none.
pub(super) fn last_words(log: &str) -> String {
    let telling = |line: &&str| line.chars().any(char::is_alphanumeric);
    let mut lines: Vec<_> = log.lines().map(str::trim).filter(telling).collect();
    lines.drain(..lines.len().saturating_sub(LINES));
    if lines.is_empty() {
        return String::new();
    }
    let cut = |line: &str| line.chars().take(WIDTH).collect::<String>();
    let lines: Vec<_> = lines.into_iter().map(cut).collect();
    format!("; it said last: {}", lines.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_named_and_the_last_telling_lines_kept() {
        assert_eq!(how(ExitStatus::from_raw(11)), "signal 11 (SIGSEGV)");
        assert_eq!(how(ExitStatus::from_raw(3 << 8)), "exit code 3");
        assert_eq!(
            last_words("a\n\n---\nb\nc\n  d\n----\n"),
            "; it said last: b | c | d"
        );
        assert_eq!(last_words("\n--\n"), "");
    }
}
