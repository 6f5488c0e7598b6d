//! Nothing inherited, nothing implied: what `run.json` keeps.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use inferdiff_schemas::run::ladder::{GraphOptimization, Labels, Ladder, MetricSpec, Stage};

use super::{BUILTIN, LadderError, builtin, file, keys, nearest};

/// What the command line says beside the ladder; it wins over the file.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Model of stages that name none.
    pub model: Option<PathBuf>,
    /// Runtime library of stages that name none.
    pub library: Option<PathBuf>,
    /// Metrics, in place of the file's where there are any.
    pub metrics: Vec<MetricSpec>,
    /// Labels, in place of the file's.
    pub labels: Option<Labels>,
}

/// Reads a built-in ladder by name or a file by path, and resolves it.
///
/// # Errors
/// [`LadderError`]: no such ladder, unknown keys (with the nearest known one), inheritance in a
/// circle, repeated or unusable names, files that are not there.
pub fn resolve(name: &str, given: &Given) -> Result<Ladder, LadderError> {
    let fail = |why: String| LadderError {
        place: name.to_owned(),
        why,
    };
    let (text, folder) = match builtin::text(name) {
        Some(text) => (text.to_owned(), PathBuf::from(".")),
        None => {
            let path = Path::new(name);
            let text = std::fs::read_to_string(path).map_err(|e| {
                let known = BUILTIN.map(|(n, _)| n).join(", ");
                fail(format!("cannot read it: {e}. Built-in ladders: {known}"))
            })?;
            (
                text,
                path.parent().map_or_else(PathBuf::new, Path::to_path_buf),
            )
        }
    };
    let mut ladder: file::File =
        toml::from_str(&text).map_err(|e| fail(keys::with_hint(&e.to_string())))?;
    if let Some(base) = &ladder.base {
        let text = builtin::text(base)
            .ok_or_else(|| fail(format!("base: there is no built-in ladder `{base}`")))?;
        let mut first: file::File = toml::from_str(text).map_err(|e| fail(e.to_string()))?;
        first.stage.append(&mut ladder.stage);
        ladder.stage = first.stage;
    }
    if ladder.stage.is_empty() {
        return Err(fail(
            "it has no [[stage]]; the first one is the reference".to_owned(),
        ));
    }
    names(&ladder.stage).map_err(&fail)?;
    let model = given.model.clone().or(ladder.model.map(|m| folder.join(m)));
    let mut stages = Vec::with_capacity(ladder.stage.len());
    for stage in &ladder.stage {
        let flat = flatten(stage, &ladder.stage, &mut vec![stage.name.clone()]).map_err(&fail)?;
        stages.push(complete(flat, &folder, model.as_deref(), given).map_err(&fail)?);
    }
    let metrics = if given.metrics.is_empty() {
        ladder.metric
    } else {
        given.metrics.clone()
    };
    // Absolute: the run that keeps it is judged from anywhere.
    let absolute = |l: Labels| {
        let file = folder.join(l.file);
        let file = std::path::absolute(&file)
            .map_err(|e| fail(format!("labels {}: {e}", file.display())))?;
        Ok::<_, LadderError>(Labels { file, key: l.key })
    };
    let labels = match &given.labels {
        Some(labels) => Some(labels.clone()),
        None => ladder.labels.map(absolute).transpose()?,
    };
    let tolerance = ladder.tolerance;
    Ok(Ladder {
        name: name.to_owned(),
        stages,
        metrics,
        tolerance,
        labels,
    })
}

fn names(stages: &[file::Stage]) -> Result<(), String> {
    let mut seen = HashSet::new();
    for stage in stages {
        let name = stage.name.as_str();
        let usable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || !name.chars().all(usable) || name.starts_with('.') {
            return Err(format!(
                "stage name `{name}` must be letters, digits, `.`, `_`, `-`: it names a folder"
            ));
        }
        if !seen.insert(name) {
            return Err(format!("two stages are called `{name}`"));
        }
    }
    Ok(())
}

fn flatten(
    stage: &file::Stage,
    all: &[file::Stage],
    chain: &mut Vec<String>,
) -> Result<file::Stage, String> {
    let Some(parent) = &stage.inherits else {
        return Ok(stage.clone());
    };
    if chain.contains(parent) {
        chain.push(parent.clone());
        return Err(format!("stages inherit in a circle: {}", chain.join(" → ")));
    }
    let found = all.iter().find(|s| s.name == *parent).ok_or_else(|| {
        let hint = nearest(parent, all.iter().map(|s| s.name.as_str()))
            .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
        format!(
            "stage `{}` inherits from `{parent}`, which is not there{hint}",
            stage.name
        )
    })?;
    chain.push(parent.clone());
    let parent = flatten(found, all, chain)?;
    Ok(stage.clone().over(&parent))
}

fn complete(
    stage: file::Stage,
    folder: &Path,
    model: Option<&Path>,
    given: &Given,
) -> Result<Stage, String> {
    let name = stage.name;
    let runtime = stage
        .runtime
        .ok_or_else(|| format!("stage `{name}` names no runtime"))?;
    let file = |what: &str, path: PathBuf| {
        std::fs::canonicalize(&path)
            .map_err(|e| format!("stage `{name}`: {what} {}: {e}", path.display()))
    };
    let needs_model = runtime == "onnxruntime";
    let own = stage
        .model
        .map(|m| folder.join(m))
        .or(model.map(Path::to_path_buf));
    let model = match (needs_model, own) {
        (true, None) => return Err(format!("stage `{name}` has no model: give --model FILE")),
        (true, Some(path)) => Some(file("model", path)?),
        (false, _) => None,
    };
    let library = stage
        .library
        .map(|l| folder.join(l))
        .or(given.library.clone());
    let library = library
        .filter(|_| needs_model)
        .map(|l| file("library", l))
        .transpose()?;
    Ok(Stage {
        model,
        library,
        // What is not said is as the reference should be: off.
        graph_optimization: stage.graph_optimization.unwrap_or(GraphOptimization::Off),
        prepacking: stage.prepacking.unwrap_or(false),
        memory_optimization: stage.memory_optimization.unwrap_or(false),
        threads: stage.threads.unwrap_or(1),
        deterministic: stage.deterministic.unwrap_or(false),
        providers: stage.providers.unwrap_or_default(),
        config: stage.config.unwrap_or_default(),
        disabled_passes: stage.disabled_passes.unwrap_or_default(),
        optional: stage.optional.unwrap_or(false),
        outputs: stage.outputs.unwrap_or_default(),
        runtime,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder(text: &str) -> Result<Ladder, LadderError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ladder.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(dir.path().join("m.onnx"), "").unwrap();
        let given = Given {
            model: Some(dir.path().join("m.onnx")),
            ..Given::default()
        };
        resolve(path.to_str().unwrap(), &given)
    }

    fn why(text: &str) -> String {
        ladder(text).unwrap_err().why
    }

    #[test]
    fn the_built_in_ladder_changes_one_thing_at_a_time() {
        let text = "base = \"onnxruntime-cpu\"\n[[stage]]\nname = \"more\"\ninherits = \"all\"\nprepacking = true\n";
        let ladder = ladder(text).unwrap();
        let names: Vec<_> = ladder.stages.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "reference",
                "prepacking",
                "memory",
                "basic",
                "extended",
                "all",
                "more"
            ]
        );
        let (reference, all) = (&ladder.stages[0], &ladder.stages[5]);
        let changed = Stage {
            name: "all".into(),
            graph_optimization: GraphOptimization::All,
            ..reference.clone()
        };
        assert_eq!(*all, changed);
        assert!(ladder.stages[6].prepacking);
    }

    #[test]
    fn slips_are_named_with_the_nearest_known_word() {
        let key =
            why("[[stage]]\nname = \"r\"\nruntime = \"recorded\"\ngraph_optimisation = \"off\"\n");
        assert!(key.contains("did you mean `graph_optimization`?"), "{key}");
        let value = why(
            "[[stage]]\nname = \"r\"\nruntime = \"recorded\"\ngraph_optimization = \"extendet\"\n",
        );
        assert!(value.contains("did you mean `extended`?"), "{value}");
        let parent = why(
            "[[stage]]\nname = \"base\"\nruntime = \"recorded\"\n[[stage]]\nname = \"x\"\ninherits = \"bas\"\n",
        );
        assert!(parent.contains("did you mean `base`?"), "{parent}");
    }

    #[test]
    fn ladders_that_cannot_be_meant_are_refused() {
        assert!(why("").contains("no [[stage]]"));
        assert!(why("[[stage]]\nname = \"a\"\ninherits = \"b\"\n[[stage]]\nname = \"b\"\ninherits = \"a\"\n").contains("a → b → a"));
        assert!(why("[[stage]]\nname = \"a/b\"\nruntime = \"recorded\"\n").contains("folder"));
        assert!(why("[[stage]]\nname = \"a\"\nruntime = \"recorded\"\n[[stage]]\nname = \"a\"\nruntime = \"recorded\"\n").contains("two stages"));
        assert!(
            why("[[stage]]\nname = \"a\"\nruntime = \"onnxruntime\"\nmodel = \"none.onnx\"\n")
                .contains("none.onnx")
        );
    }
}
