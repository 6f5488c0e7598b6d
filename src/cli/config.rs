//! `inferdiff.toml`: the flags of `record`, in a file.
//!
//! One schema: the keys of `[record]` are the flags' names, and what they mean, their defaults and
//! their errors are the flags'. A flag that is given on the command line wins over the file. Lists
//! and tables repeat a flag (`keep-header = ["a", "b"]`; `[record.tensor]` with `name = "drop"`).

use std::path::{Path, PathBuf};

use clap::{ArgAction, Command};
use toml::{Table, Value};

use super::Failure;

const SECTION: &str = "record";

/// The file that `arguments` of `record` name by `--config`.
fn file_of(arguments: &[String]) -> Option<PathBuf> {
    let mut all = arguments.iter();
    while let Some(argument) = all.next() {
        if argument == "--config" {
            return all.next().map(PathBuf::from);
        }
        if let Some(path) = argument.strip_prefix("--config=") {
            return Some(path.into());
        }
    }
    None
}

/// The arguments (program and command first) with those of the file behind them, if `--config`
/// names one. `command`: the `record` command.
///
/// # Errors
/// The file cannot be read or says what no flag says.
pub fn expand(arguments: Vec<String>, command: &Command) -> Result<Vec<String>, Failure> {
    if arguments.get(1).map(String::as_str) != Some(SECTION) {
        return Ok(arguments);
    }
    let Some(path) = file_of(&arguments) else {
        return Ok(arguments);
    };
    let text = std::fs::read_to_string(&path)
        .map_err(|e| Failure::usage(format!("--config {}: {e}", path.display())))?;
    let mut all = arguments;
    for (key, flags) in flags(&text, &path, command)? {
        let given = |a: &String| *a == format!("--{key}") || a.starts_with(&format!("--{key}="));
        if !all.iter().any(given) {
            all.extend(flags);
        }
    }
    Ok(all)
}

/// The flags that the file stands for, by key.
pub fn flags(
    text: &str,
    path: &Path,
    command: &Command,
) -> Result<Vec<(String, Vec<String>)>, Failure> {
    let fail = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let mut table: Table = text.parse().map_err(|e| fail(format!("{e}")))?;
    let section = match table.remove(SECTION) {
        Some(Value::Table(section)) => section,
        Some(_) => return Err(fail("`record` must be a table: [record]".to_owned())),
        None => Table::new(),
    };
    if let Some(other) = table.keys().next() {
        return Err(fail(format!(
            "`{other}` is not known: everything stands under [record]"
        )));
    }
    let mut out = Vec::new();
    for (key, value) in section {
        let known = command
            .get_arguments()
            .find(|a| a.get_long() == Some(key.as_str()) && key != "config");
        let Some(argument) = known else {
            let names = command.get_arguments().filter_map(clap::Arg::get_long);
            let near = names.max_by(|a, b| {
                strsim::jaro_winkler(a, &key).total_cmp(&strsim::jaro_winkler(b, &key))
            });
            return Err(fail(format!(
                "[record] has no key `{key}`; did you mean `{}`?",
                near.unwrap_or_default()
            )));
        };
        let switch = matches!(argument.get_action(), ArgAction::SetTrue);
        let flags = spell(&key, &value, switch)
            .ok_or_else(|| fail(format!("`{key}` cannot be {}", value.type_str())))?;
        out.push((key, flags));
    }
    Ok(out)
}

/// The value as flags; `None` where no flag can say it.
fn spell(key: &str, value: &Value, switch: bool) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(s) => Some(s.clone()),
        Value::Integer(n) => Some(n.to_string()),
        Value::Float(n) => Some(n.to_string()),
        _ => None,
    };
    let flag = |text: String| format!("--{key}={text}");
    match value {
        Value::Boolean(on) if switch => Some(on.then(|| format!("--{key}")).into_iter().collect()),
        _ if switch => None,
        Value::Array(all) => all.iter().map(|v| text(v).map(flag)).collect(),
        Value::Table(all) => {
            let pairs = all.iter();
            pairs
                .map(|(name, v)| text(v).map(|v| flag(format!("{name}={v}"))))
                .collect()
        }
        one => text(one).map(|t| vec![flag(t)]),
    }
}

/// The keys whose values differ between two sets of flags.
pub fn changed(old: &[(String, Vec<String>)], new: &[(String, Vec<String>)]) -> Vec<String> {
    let value = |all: &[(String, Vec<String>)], key: &str| {
        all.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone())
    };
    let keys: std::collections::BTreeSet<&String> =
        old.iter().chain(new).map(|(key, _)| key).collect();
    keys.into_iter()
        .filter(|key| value(old, key) != value(new, key))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn command() -> Command {
        Command::new("record").args([
            Arg::new("listen").long("listen"),
            Arg::new("no-merge")
                .long("no-merge")
                .action(ArgAction::SetTrue),
            Arg::new("tensor").long("tensor").action(ArgAction::Append),
            Arg::new("config").long("config"),
        ])
    }

    fn of(text: &str) -> Result<Vec<String>, String> {
        let flags = flags(text, Path::new("f.toml"), &command());
        flags
            .map(|f| f.into_iter().flat_map(|(_, v)| v).collect())
            .map_err(|f| f.message)
    }

    #[test]
    fn keys_are_flags() {
        let text = "[record]\nlisten = \"a:1\"\nno-merge = true\n[record.tensor]\nx = \"drop\"\n";
        let expected = ["--listen=a:1", "--no-merge", "--tensor=x=drop"];
        assert_eq!(of(text).unwrap(), expected);
        assert_eq!(of("[record]\nno-merge = false").unwrap(), [""; 0]);
        assert_eq!(
            of("[record]\ntensor = [\"a=keep\", \"b=drop\"]")
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn what_no_flag_says_is_an_error_with_the_nearest_that_does() {
        assert!(
            of("[record]\nlisen = 1")
                .unwrap_err()
                .contains("did you mean `listen`")
        );
        assert!(
            of("[replay]\nx = 1")
                .unwrap_err()
                .contains("`replay` is not known")
        );
        assert!(
            of("[record]\nno-merge = 3")
                .unwrap_err()
                .contains("cannot be integer")
        );
        assert!(
            of("[record]\nconfig = \"x\"")
                .unwrap_err()
                .contains("no key `config`")
        );
        assert!(of("[record").unwrap_err().starts_with("f.toml: "));
    }

    #[test]
    fn the_command_line_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inferdiff.toml");
        std::fs::write(&path, "[record]\nlisten = \"a:1\"\nno-merge = true\n").unwrap();
        let config = format!("--config={}", path.display());
        let given = ["inferdiff", "record", "--listen", "b:2", &config].map(str::to_owned);
        let all = expand(given.to_vec(), &command()).unwrap();
        assert!(
            all.contains(&"--no-merge".to_owned()) && !all.contains(&"--listen=a:1".to_owned())
        );
    }

    #[test]
    fn what_changed_is_named() {
        let set = |k: &str, v: &str| (k.to_owned(), vec![v.to_owned()]);
        let (old, new) = (
            [set("a", "1"), set("b", "1")],
            [set("b", "2"), set("c", "1")],
        );
        assert_eq!(changed(&old, &new), ["a", "b", "c"]);
    }
}
