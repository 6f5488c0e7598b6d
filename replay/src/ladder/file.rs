//! A ladder file as written: TOML → [`File`]. Unknown keys are errors: a key that does nothing would be
//! a lie.

use std::collections::BTreeMap;
use std::path::PathBuf;

use inferdiff_schemas::Datatype;
use inferdiff_schemas::run::ladder::{TensorMapping, TensorSource};
use serde::Deserialize;
use toml::Spanned;

use super::written::{Key, Keys};
use super::{hint, models, suggest};
use crate::mapping::check_axes;

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
    tolerance: BTreeMap<String, toml::Table>,
    labels: Option<Labels>,
    #[serde(default)]
    models: BTreeMap<String, models::Table>,
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
    pub tolerance: BTreeMap<String, toml::Table>,
    pub labels: Option<Labels>,
    /// By label; empty where the capture has one model.
    pub models: BTreeMap<String, models::Table>,
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
    pub inputs: Option<Mappings>,
    pub outputs: Option<Mappings>,
    /// The keys that its runtime reads.
    pub own: BTreeMap<String, Key>,
}

/// Mappings of tensors by the name that each gets.
type Mappings = BTreeMap<String, TensorMapping>;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    from: Option<Source>,
    cast: Option<String>,
    transpose: Option<Vec<usize>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "the index (from 0) or the name of a tensor")]
enum Source {
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
            models: tables.models,
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
        Ok(Self {
            inherits: keys.take("inherits")?,
            runtime: keys.take("runtime")?,
            optional: keys.take("optional")?,
            inputs: mappings(&mut keys, "inputs")?,
            outputs: mappings(&mut keys, "outputs")?,
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
            inputs: self.inputs.or(parent.inputs.clone()),
            outputs: self.outputs.or(parent.outputs.clone()),
            own,
        }
    }
}

/// The table `inputs` or `outputs`, checked.
fn mappings(keys: &mut Keys, table: &str) -> Result<Option<Mappings>, String> {
    let line = keys.0.get(table).map_or(0, |key| key.line);
    let Some(written) = keys.take::<BTreeMap<String, Mapping>>(table)? else {
        return Ok(None);
    };
    let each = written.into_iter().map(|(name, mapping)| {
        let mapped = mapping
            .checked(&name)
            .map_err(|why| format!("line {line}: `{table}.{name}`: {why}"))?;
        Ok((name, mapped))
    });
    each.collect::<Result<_, String>>().map(Some)
}

impl Mapping {
    fn checked(self, name: &str) -> Result<TensorMapping, String> {
        if self.from.is_none() && self.cast.is_none() && self.transpose.is_none() {
            return Err("it says none of `from`, `cast` and `transpose`".to_owned());
        }
        if let Some(axes) = &self.transpose {
            check_axes(axes)?;
        }
        Ok(TensorMapping {
            from: match self.from {
                Some(Source::Index(i)) => TensorSource::Index(i),
                Some(Source::Name(from)) => TensorSource::Name(from),
                None => TensorSource::Name(name.to_owned()),
            },
            cast: self.cast.as_deref().map(castable).transpose()?,
            transpose: self.transpose,
        })
    }
}

/// A datatype that a cast can give.
fn castable(name: &str) -> Result<Datatype, String> {
    match Datatype::from_name(name) {
        Some(datatype) if datatype.size().is_some() => Ok(datatype),
        Some(_) => Err(format!("cast = \"{name}\": there is no one way to do it")),
        None => {
            let known = Datatype::ALL.map(Datatype::name);
            let known = || known.into_iter().filter(|n| *n != "BYTES");
            Err(format!(
                "cast = \"{name}\" is no datatype (known: {}){}",
                known().collect::<Vec<_>>().join(", "),
                hint(name, known())
            ))
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
    fn mappings_are_read_and_what_cannot_be_is_named_with_its_line() {
        let table = |entry: &str| format!("[[stage]]\nname = \"r\"\n[stage.inputs]\nx = {entry}\n");
        let read = |entry: &str| {
            let stage = File::parse(&table(entry)).unwrap().stage.remove(0);
            stage.inputs.unwrap()["x"].clone()
        };
        assert_eq!(read("{ from = 1 }").from, TensorSource::Index(1));
        let whole = read("{ cast = \"FP16\", transpose = [1, 0] }");
        assert_eq!(whole.from, TensorSource::Name("x".into()));
        assert_eq!(whole.cast, Some(Datatype::Fp16));
        assert_eq!(whole.transpose, Some(vec![1, 0]));
        for (entry, said) in [
            ("{}", "none of `from`, `cast` and `transpose`"),
            ("{ cast = \"FP61\" }", "did you mean `FP16`?"),
            ("{ cast = \"fp16\" }", "did you mean `FP16`?"),
            ("{ cast = \"BYTES\" }", "no one way"),
            ("{ transpose = [0, 2] }", "each axis from 0 to 1 once"),
            ("{ transpos = [0] }", "did you mean `transpose`?"),
        ] {
            let told = why(&table(entry));
            assert!(told.starts_with("line 3: `inputs"), "{told}");
            assert!(told.contains(said), "{told}");
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
