//! A ladder file as written: TOML → [`File`]. Unknown keys are errors, and what is not built yet is
//! refused by name: a key that does nothing would be a lie.

use std::collections::BTreeMap;
use std::path::PathBuf;

use inferdiff_schemas::run::ladder::GraphOptimization;
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::flat::Flat;
use super::suggest;

/// A key that the design knows and this build does not.
type NotYet = Option<Spanned<IgnoredAny>>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// A built-in ladder whose stages come first.
    pub base: Option<String>,
    pub model: Option<PathBuf>,
    #[serde(default)]
    pub stage: Vec<Stage>,
    #[serde(default)]
    pub metric: Vec<Metric>,
    #[serde(default)]
    pub tolerance: BTreeMap<String, Tolerance>,
    pub labels: Option<Labels>,
    models: NotYet,
}

/// A stage as written: what is `None` is inherited.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stage {
    pub name: String,
    pub inherits: Option<String>,
    pub runtime: Option<String>,
    pub model: Option<PathBuf>,
    pub library: Option<PathBuf>,
    pub graph_optimization: Option<GraphOptimization>,
    pub prepacking: Option<bool>,
    pub memory_optimization: Option<bool>,
    pub threads: Option<u32>,
    pub deterministic: Option<bool>,
    pub providers: Option<Vec<Provider>>,
    pub config: Option<Flat>,
    pub disabled_passes: Option<Vec<String>>,
    pub optional: Option<bool>,
    pub outputs: Option<BTreeMap<String, OutputMapping>>,
    inputs: NotYet,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    pub name: String,
    #[serde(default)]
    pub options: Flat,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutputMapping {
    pub from: OutputSource,
    cast: NotYet,
    transpose: NotYet,
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
        let file: Self = toml::from_str(text).map_err(|e| {
            let what = suggest::with_hint(e.message());
            match e.span() {
                Some(span) => format!("line {}: {what}", line(text, span.start)),
                None => what,
            }
        })?;
        file.refuse_what_is_not_yet(text)?;
        Ok(file)
    }

    fn refuse_what_is_not_yet(&self, text: &str) -> Result<(), String> {
        let refuse = |key: &NotYet, what: &str| match key {
            None => Ok(()),
            Some(at) => Err(format!(
                "line {}: {what} is not supported yet",
                line(text, at.span().start)
            )),
        };
        refuse(&self.models, "`models` (a stage has one model)")?;
        for stage in &self.stage {
            let of = |key: &str| format!("`{key}` of stage `{}`", stage.name);
            refuse(&stage.inputs, &of("inputs"))?;
            for (name, mapping) in stage.outputs.iter().flatten() {
                refuse(&mapping.cast, &of(&format!("outputs.{name}.cast")))?;
                refuse(
                    &mapping.transpose,
                    &of(&format!("outputs.{name}.transpose")),
                )?;
            }
        }
        Ok(())
    }
}

impl Stage {
    /// This stage with everything that it leaves open taken from `parent`. Tables and lists are
    /// taken or replaced as a whole, so that a stage can also leave an entry out.
    pub fn over(self, parent: &Self) -> Self {
        let p = parent.clone();
        Self {
            name: self.name,
            inherits: None,
            runtime: self.runtime.or(p.runtime),
            model: self.model.or(p.model),
            library: self.library.or(p.library),
            graph_optimization: self.graph_optimization.or(p.graph_optimization),
            prepacking: self.prepacking.or(p.prepacking),
            memory_optimization: self.memory_optimization.or(p.memory_optimization),
            threads: self.threads.or(p.threads),
            deterministic: self.deterministic.or(p.deterministic),
            providers: self.providers.or(p.providers),
            config: self.config.or(p.config),
            disabled_passes: self.disabled_passes.or(p.disabled_passes),
            // Whether a stage may be missing is its own affair, not its parent's.
            optional: self.optional,
            outputs: self.outputs.or(p.outputs),
            inputs: None,
        }
    }

    /// The keys written here that only ONNX Runtime has.
    pub fn engine_keys(&self) -> Vec<&'static str> {
        let keys = [
            ("model", self.model.is_some()),
            ("library", self.library.is_some()),
            ("graph_optimization", self.graph_optimization.is_some()),
            ("prepacking", self.prepacking.is_some()),
            ("memory_optimization", self.memory_optimization.is_some()),
            ("threads", self.threads.is_some()),
            ("deterministic", self.deterministic.is_some()),
            ("providers", self.providers.is_some()),
            ("config", self.config.is_some()),
            ("disabled_passes", self.disabled_passes.is_some()),
        ];
        keys.into_iter()
            .filter(|(_, said)| *said)
            .map(|(key, _)| key)
            .collect()
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
        let told = why("[[stage]]\nname = \"r\"\ngraph_optimisation = \"off\"\n");
        assert!(told.starts_with("line 3: "), "{told}");
        assert!(
            told.contains("did you mean `graph_optimization`?"),
            "{told}"
        );
        for (text, hint) in [
            ("[[stages]]\nname = \"r\"\n", "stage"),
            ("[[metric]]\nspec = \"top1\"\nmargn = 0.1\n", "margin"),
            ("[labels]\nfile = \"l\"\nkeys = \"seq\"\n", "key"),
            (
                "[[stage]]\nname = \"r\"\nproviders = [{ name = \"cuda\", option = {} }]\n",
                "options",
            ),
            (
                "[[stage]]\nname = \"r\"\ngraph_optimization = \"extendet\"\n",
                "extended",
            ),
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
        let told = why("[[stage]]\nname = \"r\"\nthreads = -1\n");
        assert!(told.starts_with("line 3: "), "{told}");
        assert!(why("[[stage]]\nruntime = \"recorded\"\n").contains("name"));
        assert!(why("[[stage]\n").starts_with("line 1: "));
    }
}
