//! A ladder file as written: TOML → [`File`]. Unknown keys are errors, and what is not built yet is
//! refused by name: a key that does nothing would be a lie.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::suggest;
use super::written::{Key, Keys};

/// A key that the design knows and this build does not.
type NotYet = Option<Spanned<IgnoredAny>>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    base: Option<String>,
    model: Option<PathBuf>,
    #[serde(default)]
    stage: Vec<Table>,
    #[serde(default)]
    metric: Vec<Metric>,
    #[serde(default)]
    tolerance: BTreeMap<String, Tolerance>,
    labels: Option<Labels>,
    models: NotYet,
}

/// A stage's table, each key with its place.
type Table = BTreeMap<Spanned<String>, Spanned<toml::Value>>;

#[derive(Debug, Clone, Default)]
pub(super) struct File {
    /// A built-in ladder whose stages come first.
    pub base: Option<String>,
    pub model: Option<PathBuf>,
    pub stage: Vec<Stage>,
    pub metric: Vec<Metric>,
    pub tolerance: BTreeMap<String, Tolerance>,
    pub labels: Option<Labels>,
}

/// Keys that stages of every runtime have.
pub(super) const STAGE_KEYS: [&str; 6] = [
    "name", "inherits", "runtime", "optional", "inputs", "outputs",
];

/// A stage as written: what is `None` or not in `own` is inherited.
#[derive(Debug, Clone, Default)]
pub(super) struct Stage {
    pub name: String,
    pub inherits: Option<String>,
    pub runtime: Option<String>,
    pub optional: Option<bool>,
    pub outputs: Option<BTreeMap<String, OutputMapping>>,
    /// The keys that its runtime reads.
    pub own: BTreeMap<String, Key>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutputMapping {
    pub from: OutputSource,
    cast: Option<IgnoredAny>,
    transpose: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "the index (from 0) or the name of an output")]
pub(super) enum OutputSource {
    Index(usize),
    Name(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metric {
    pub spec: String,
    pub margin: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Tolerance {
    Bounds(Bounds),
    /// By datatype, or anything else: told apart only to be refused in words.
    Other(toml::Table),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounds {
    pub rtol: Option<f64>,
    pub atol: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Labels {
    pub file: PathBuf,
    pub key: String,
}

impl File {
    /// Reads the text of a ladder.
    ///
    /// # Errors
    /// One sentence with the line, the key and the nearest known one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tables: Tables = toml::from_str(text).map_err(|e| {
            let what = suggest::with_hint(e.message());
            match e.span() {
                Some(span) => format!("line {}: {what}", line(text, span.start)),
                None => what,
            }
        })?;
        if let Some(at) = &tables.models {
            let line = line(text, at.span().start);
            return Err(format!(
                "line {line}: `models` (a stage has one model) is not supported yet"
            ));
        }
        let stage = tables.stage.into_iter();
        Ok(Self {
            base: tables.base,
            model: tables.model,
            stage: stage
                .map(|table| Stage::of(table, text))
                .collect::<Result<_, _>>()?,
            metric: tables.metric,
            tolerance: tables.tolerance,
            labels: tables.labels,
        })
    }
}

impl Stage {
    /// Tells the keys of every stage from those of its runtime.
    fn of(table: Table, text: &str) -> Result<Self, String> {
        let keys = table.into_iter().map(|(key, value)| {
            let line = line(text, key.span().start);
            let value = value.into_inner();
            (key.into_inner(), Key { line, value })
        });
        let mut keys = Keys(keys.collect());
        let name = keys.take("name")?.ok_or("a [[stage]] has no `name`")?;
        let of = |key: &str| format!("`{key}` of stage `{name}` is not supported yet");
        if let Some(inputs) = keys.0.get("inputs") {
            return Err(format!("line {}: {}", inputs.line, of("inputs")));
        }
        let at = keys.0.get("outputs").map_or(0, |key| key.line);
        let outputs: Option<BTreeMap<String, OutputMapping>> = keys.take("outputs")?;
        for (output, mapping) in outputs.iter().flatten() {
            for (key, said) in [("cast", &mapping.cast), ("transpose", &mapping.transpose)] {
                if said.is_some() {
                    return Err(format!(
                        "line {at}: {}",
                        of(&format!("outputs.{output}.{key}"))
                    ));
                }
            }
        }
        Ok(Self {
            inherits: keys.take("inherits")?,
            runtime: keys.take("runtime")?,
            optional: keys.take("optional")?,
            outputs,
            name,
            own: keys.0,
        })
    }

    /// This stage with everything that it leaves open taken from `parent`. Tables and lists are
    /// taken or replaced as a whole, so that a stage can also leave an entry out.
    pub fn over(self, parent: &Self) -> Self {
        let mut own = parent.own.clone();
        own.extend(self.own);
        Self {
            name: self.name,
            inherits: None,
            runtime: self.runtime.or(parent.runtime.clone()),
            // Whether a stage may be missing is its own affair, not its parent's.
            optional: self.optional,
            outputs: self.outputs.or(parent.outputs.clone()),
            own,
        }
    }
}

/// The line of a byte, from 1.
fn line(text: &str, byte: usize) -> usize {
    let before = text.get(..byte).unwrap_or(text);
    1 + before.matches('\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        File::parse(text).unwrap_err()
    }

    #[test]
    fn unknown_keys_are_named_with_their_line_and_the_nearest_known_one() {
        for (text, hint) in [
            ("[[stages]]\nname = \"r\"\n", "stage"),
            ("[[metric]]\nspec = \"top1\"\nmargn = 0.1\n", "margin"),
            ("[labels]\nfile = \"l\"\nkeys = \"seq\"\n", "key"),
            (
                "[[stage]]\nname = \"r\"\n[stage.outputs]\ny = { form = 0 }\n",
                "from",
            ),
        ] {
            let told = why(text);
            assert!(told.contains(&format!("did you mean `{hint}`?")), "{told}");
            assert!(told.starts_with("line "), "{told}");
        }
    }

    #[test]
    fn what_is_not_built_yet_is_refused_by_name_and_never_ignored() {
        for (text, key) in [
            ("models = [\"a\"]\n", "`models`"),
            (
                "[[stage]]\nname = \"r\"\n[stage.inputs]\nx = 0\n",
                "`inputs`",
            ),
            (
                "[[stage]]\nname = \"r\"\n[stage.outputs]\ny = { from = 0, cast = \"FP32\" }\n",
                "`outputs.y.cast`",
            ),
            (
                "[[stage]]\nname = \"r\"\n[stage.outputs]\ny = { from = 0, transpose = [1, 0] }\n",
                "`outputs.y.transpose`",
            ),
        ] {
            let told = why(text);
            assert!(
                told.contains(key) && told.contains("not supported yet"),
                "{told}"
            );
            assert!(told.starts_with("line "), "{told}");
        }
    }

    #[test]
    fn values_of_the_wrong_kind_say_what_is_wanted() {
        let told = why("[[stage]]\nname = \"r\"\n[stage.outputs]\ny = { from = -1 }\n");
        assert!(told.contains("index (from 0) or the name"), "{told}");
        let told = why("[[stage]]\nname = \"r\"\noptional = 3\n");
        assert!(told.starts_with("line 3: "), "{told}");
        assert!(why("[[stage]]\nruntime = \"recorded\"\n").contains("name"));
        assert!(why("[[stage]\n").starts_with("line 1: "));
    }
}
