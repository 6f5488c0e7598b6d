//! Nothing inherited, nothing implied: what `run.json` keeps.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use inferdiff_schemas::run::ladder::{Labels, Ladder, MetricSpec};

use super::models::{OfModel, Resolved};
use super::{BUILTIN, LadderError, builtin, criteria, file, hint, models, stage};
use crate::runtime::Runtimes;

/// What the command line says beside the ladder; it wins over the file.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Model of stages that name none.
    pub model: Option<PathBuf>,
    /// Metrics, in place of the file's where there are any.
    pub metrics: Vec<MetricSpec>,
    /// Labels, in place of the file's.
    pub labels: Option<Labels>,
}

/// [`resolve_each`] for whoever takes one ladder.
///
/// # Errors
/// As there, and where the file has `[models]`.
pub fn resolve(name: &str, given: &Given, runtimes: &Runtimes) -> Result<Ladder, LadderError> {
    match resolve_each(name, given, runtimes)? {
        Resolved::One(ladder) => Ok(*ladder),
        Resolved::Each(_) => Err(LadderError {
            place: name.to_owned(),
            why: "it has [models], which only `replay` reads".to_owned(),
        }),
    }
}

/// Reads a built-in ladder by name or a file by path, and resolves it. Relative paths in a file are
/// relative to that file. Each runtime reads its own keys. Everything that can be wrong without
/// running anything is found here.
///
/// # Errors
/// [`LadderError`]: no such ladder, unknown keys (with the nearest known one), inheritance in a
/// circle, repeated or unusable names, files that are not there, criteria that cannot be read.
pub fn resolve_each(
    name: &str,
    given: &Given,
    runtimes: &Runtimes,
) -> Result<Resolved, LadderError> {
    let fail = |why: String| LadderError {
        place: name.to_owned(),
        why,
    };
    let (text, folder) = read(name).map_err(&fail)?;
    let ladder = file::File::parse(&text).map_err(&fail)?;
    if ladder.models.is_empty() {
        let none = BTreeMap::new();
        let one = resolved(name, ladder, ("", &none), &folder, given, runtimes);
        return one.map(|l| Resolved::One(Box::new(l))).map_err(&fail);
    }
    if given.model.is_some() {
        return Err(fail(
            "it has [models], one model file for each: leave --model out".to_owned(),
        ));
    }
    let each = ladder.models.iter().map(|(label, table)| {
        let file = models::file_of(label, table, &ladder)?;
        let stages = (label.as_str(), table.stages());
        let ladder = resolved(name, file, stages, &folder, given, runtimes)
            .map_err(|why| format!("[models.{label}]: {why}"))?;
        let (name, version) = table.of(label);
        Ok(OfModel {
            label: label.clone(),
            name,
            version,
            ladder,
        })
    });
    let each = each.collect::<Result<Vec<_>, _>>().map_err(&fail)?;
    models::apart(&each).map_err(&fail)?;
    Ok(Resolved::Each(each))
}

fn read(name: &str) -> Result<(String, PathBuf), String> {
    if let Some(text) = builtin::text(name) {
        return Ok((text.to_owned(), PathBuf::from(".")));
    }
    let path = Path::new(name);
    let text = std::fs::read_to_string(path).map_err(|e| {
        let known = BUILTIN.map(|(n, _)| n);
        format!(
            "cannot read it: {e}. Built-in ladders: {}{}",
            known.join(", "),
            hint(name, known.into_iter())
        )
    })?;
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    Ok((text, folder))
}

fn resolved(
    name: &str,
    ladder: file::File,
    (label, models): (&str, &BTreeMap<String, PathBuf>),
    folder: &Path,
    given: &Given,
    runtimes: &Runtimes,
) -> Result<Ladder, String> {
    let mut written = match &ladder.base {
        Some(base) => based(base)?,
        None => Vec::new(),
    };
    written.extend(ladder.stage);
    if written.is_empty() {
        return Err("it has no [[stage]]; the first one is the reference".to_owned());
    }
    names(&written)?;
    models::put_models(label, models, &mut written)?;
    let model = given.model.clone().or(ladder.model.map(|m| folder.join(m)));
    let mut stages = Vec::with_capacity(written.len());
    for one in &written {
        let flat = flatten(one, &written, &mut vec![one.name.clone()])?;
        let complete = stage::complete(one, flat, folder, model.as_deref(), runtimes);
        stages.push(complete.map_err(|why| format!("stage `{}`: {why}", one.name))?);
    }
    let labels = given.labels.clone().or(ladder.labels.map(|l| Labels {
        file: folder.join(l.file),
        key: l.key,
    }));
    let metrics = criteria::metrics(ladder.metric)?;
    Ok(Ladder {
        name: name.to_owned(),
        stages,
        metrics: if given.metrics.is_empty() {
            metrics
        } else {
            given.metrics.clone()
        },
        tolerance: criteria::tolerance(ladder.tolerance)?,
        labels: labels.map(criteria::labels).transpose()?,
    })
}

/// The stages of the built-in ladder that a file builds on.
fn based(base: &str) -> Result<Vec<file::Stage>, String> {
    let text = builtin::text(base).ok_or_else(|| {
        let known = BUILTIN.map(|(n, _)| n);
        format!(
            "base: there is no built-in ladder `{base}` (known: {}){}",
            known.join(", "),
            hint(base, known.into_iter())
        )
    })?;
    Ok(file::File::parse(text)?.stage)
}

fn names(stages: &[file::Stage]) -> Result<(), String> {
    let mut seen = HashSet::new();
    for stage in stages {
        let name = stage.name.as_str();
        folder_name("stage name", name)?;
        if !seen.insert(name) {
            return Err(format!(
                "two stages are called `{name}` (those of `base` count too)"
            ));
        }
    }
    Ok(())
}

/// A name that a folder of the run can have.
pub(super) fn folder_name(what: &str, name: &str) -> Result<(), String> {
    let usable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    // A name of dots alone would leave the run's folder.
    if !name.chars().all(usable) || name.starts_with('.') || name.is_empty() {
        return Err(format!(
            "{what} `{name}` must be letters, digits, `.`, `_`, `-` and not begin with `.`: it names a \
             folder"
        ));
    }
    Ok(())
}

/// A stage with everything that it inherits, over any number of parents.
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
        format!(
            "stage `{}` inherits from `{parent}`, which is not there{}",
            stage.name,
            hint(parent, all.iter().map(|s| s.name.as_str()))
        )
    })?;
    chain.push(parent.clone());
    let parent = flatten(found, all, chain)?;
    Ok(stage.clone().over(&parent))
}

#[cfg(test)]
mod tests {
    use inferdiff_schemas::run::ladder::{Stage, TensorSource};

    use super::*;
    use crate::runtime::{
        GraphOptimization, NAMED, OnnxOptions, OnnxRuntime, Paddle, Recorded, Scripted,
    };

    fn runtimes() -> Runtimes {
        Runtimes::new()
            .with(OnnxRuntime::default())
            .with(Paddle::default())
            .with(Recorded)
            .with(Scripted)
    }

    fn options(stage: &Stage) -> OnnxOptions {
        stage.read_options().unwrap()
    }

    /// Resolves a text as a file beside `m.onnx` and `own.onnx`; `--model` is `m.onnx`.
    fn ladder(text: &str) -> Result<Ladder, LadderError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ladder.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(dir.path().join("m.onnx"), "").unwrap();
        std::fs::write(dir.path().join("own.onnx"), "").unwrap();
        let given = Given {
            model: Some(dir.path().join("m.onnx")),
            ..Given::default()
        };
        resolve(path.to_str().unwrap(), &given, &runtimes())
    }

    fn why(text: &str) -> String {
        ladder(text).unwrap_err().why
    }

    fn one(keys: &str) -> String {
        format!("[[stage]]\nname = \"a\"\nruntime = \"onnxruntime\"\n{keys}\n")
    }

    const RECORDED: &str = "[[stage]]\nname = \"a\"\nruntime = \"recorded\"\n";

    #[test]
    fn each_rung_of_the_built_in_ladder_changes_one_thing_of_the_reference() {
        let ladder = ladder("base = \"onnxruntime-cpu\"\n").unwrap();
        let reference = ladder.stages[0].clone();
        let off = OnnxOptions {
            deterministic: true,
            ..OnnxOptions::default()
        };
        assert_eq!(options(&reference), off);
        let level = |graph_optimization| OnnxOptions {
            graph_optimization,
            ..off.clone()
        };
        let rungs = [
            ("reference", off.clone()),
            (
                "prepacking",
                OnnxOptions {
                    prepacking: true,
                    ..off.clone()
                },
            ),
            (
                "memory",
                OnnxOptions {
                    memory_optimization: true,
                    ..off.clone()
                },
            ),
            ("basic", level(GraphOptimization::Basic)),
            ("extended", level(GraphOptimization::Extended)),
            ("all", level(GraphOptimization::All)),
        ];
        let expected = rungs.map(|(name, options)| {
            options.over(Stage {
                name: name.into(),
                ..reference.clone()
            })
        });
        assert_eq!(ladder.stages, expected);
    }

    #[test]
    fn every_built_in_ladder_resolves_with_nothing_but_a_model() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("m.onnx");
        std::fs::write(&model, "").unwrap();
        let given = Given {
            model: Some(model),
            ..Given::default()
        };
        let library = dir.path().join("libonnxruntime.so.1.24.1");
        std::fs::write(&library, b"\x7fELF").unwrap();
        let onnx = OnnxRuntime {
            named: NAMED
                .map(|(name, _)| (name.to_owned(), library.clone()))
                .into(),
            ..OnnxRuntime::default()
        };
        let runtimes = Runtimes::new().with(onnx).with(Paddle::default());
        for (name, _) in BUILTIN {
            let ladder = resolve(name, &given, &runtimes).unwrap();
            assert!(!ladder.stages.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_file_builds_on_a_built_in_ladder_and_says_what_production_does() {
        let text = r#"
            base = "onnxruntime-cpu"
            [[stage]]
            name = "own"
            inherits = "reference"
            model = "own.onnx"
            [[stage]]
            name = "own-production"
            inherits = "own"
            graph_optimization = "all"
            prepacking = true
            memory_optimization = true
            threads = 0
            deterministic = false
            [stage.config]
            session.set_denormal_as_zero = true
            [stage.outputs]
            logits = { from = 0 }
            prob = { from = "softmax" }
        "#;
        let stages = ladder(text).unwrap().stages;
        let model = |i: usize| stages[i].model.as_ref().unwrap().file_name().unwrap();
        assert_eq!((stages.len(), model(0)), (8, "m.onnx".as_ref()));
        assert_eq!(
            (model(6), model(7)),
            ("own.onnx".as_ref(), "own.onnx".as_ref())
        );
        let production = options(&stages[7]);
        assert_eq!(production.graph_optimization, GraphOptimization::All);
        assert!(production.prepacking && production.memory_optimization);
        assert_eq!((production.threads, production.deterministic), (0, false));
        assert_eq!(production.config["session.set_denormal_as_zero"], "1");
        let from = |name: &str| &stages[7].outputs[name].from;
        assert_eq!(*from("logits"), TensorSource::Index(0));
        assert_eq!(*from("prob"), TensorSource::Name("softmax".into()));
    }

    #[test]
    fn several_models_have_a_ladder_each() {
        let each = |text: &str| -> Result<Vec<OfModel>, LadderError> {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ladder.toml");
            std::fs::write(&path, text).unwrap();
            for file in ["m.onnx", "own.onnx", "third.onnx"] {
                std::fs::write(dir.path().join(file), "").unwrap();
            }
            match resolve_each(path.to_str().unwrap(), &Given::default(), &runtimes())? {
                Resolved::Each(each) => Ok(each),
                Resolved::One(_) => panic!("it has [models]"),
            }
        };
        let stages = one("model = \"m.onnx\"") + "[[stage]]\nname = \"b\"\ninherits = \"a\"\n";
        let text = stages.clone()
            + "[[metric]]\nspec = \"top1\"\n[models.first]\n[models.second]\nname = \"x y\"\n\
               version = \"2\"\nmetric = [{ spec = \"topk:k=3\" }]\n[models.second.stages]\n\
               b = \"own.onnx\"\n";
        let [first, second] = &each(&text).unwrap()[..] else {
            panic!("two models");
        };
        let model = |of: &OfModel, i: usize| {
            let model = of.ladder.stages[i].model.as_ref().unwrap();
            model.file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!((&*first.name, &first.version), ("first", &None));
        assert_eq!(
            (model(first, 0), model(first, 1)),
            ("m.onnx".into(), "m.onnx".into())
        );
        assert_eq!(first.ladder.metrics[0].spec, "top1");
        assert_eq!(
            (&*second.name, second.version.as_deref()),
            ("x y", Some("2"))
        );
        assert_eq!(
            (model(second, 0), model(second, 1)),
            ("m.onnx".into(), "own.onnx".into())
        );
        assert_eq!(second.ladder.metrics[0].spec, "topk:k=3");

        let why = |models: &str| each(&(stages.clone() + models)).unwrap_err().why;
        assert!(why("[models.a.stages]\nbb = \"own.onnx\"\n").contains("did you mean `b`?"));
        assert!(why("[models.a]\nversions = \"2\"\n").contains("did you mean `version`?"));
        assert!(why("[models.\"a/b\"]\n").contains("folder"));
        assert!(
            why("[models.a]\n[models.b]\nname = \"a\"\nversion = \"1\"\n").contains("both claim")
        );
        let told = resolve("none.toml", &Given::default(), &runtimes());
        assert!(told.is_err());
        let told = ladder(&(stages.clone() + "[models.a]\n")).unwrap_err();
        assert!(told.why.contains("--model"), "{told}");
    }

    #[test]
    fn inheritance_goes_over_chains_and_never_in_circles() {
        let chain = "[[stage]]\nname = \"c\"\ninherits = \"b\"\n[[stage]]\nname = \"b\"\n\
                     inherits = \"a\"\nthreads = 3\n[[stage]]\nname = \"a\"\n\
                     runtime = \"onnxruntime\"\noptional = true\nprepacking = true\n";
        let stages = ladder(chain).unwrap().stages;
        let first = options(&stages[0]);
        assert_eq!((first.threads, first.prepacking), (3, true));
        // Whether a stage may be missing is not inherited.
        assert_eq!((stages[0].optional, stages[2].optional), (false, true));
        let circle = "[[stage]]\nname = \"a\"\ninherits = \"b\"\n[[stage]]\nname = \"b\"\n\
                      inherits = \"c\"\n[[stage]]\nname = \"c\"\ninherits = \"a\"\n";
        assert!(why(circle).contains("a → b → c → a"));
        let own = "[[stage]]\nname = \"a\"\ninherits = \"a\"\n";
        assert!(why(own).contains("a → a"));
        let lost = format!("{RECORDED}[[stage]]\nname = \"x\"\ninherits = \"aa\"\n");
        assert!(why(&lost).contains("did you mean `a`?"));
    }

    #[test]
    fn names_are_unique_and_fit_a_folder() {
        assert!(why("").contains("no [[stage]]"));
        for name in ["a/b", "", "..", ".hidden", "a b", "ä"] {
            let text = format!("[[stage]]\nname = \"{name}\"\nruntime = \"recorded\"\n");
            assert!(why(&text).contains("folder"), "{name}");
        }
        assert!(why(&RECORDED.repeat(2)).contains("two stages are called `a`"));
        let again = "base = \"onnxruntime-cpu\"\n[[stage]]\nname = \"all\"\ninherits = \"basic\"\n";
        assert!(why(again).contains("two stages are called `all`"));
    }

    #[test]
    fn what_is_not_there_is_found_before_anything_runs() {
        assert!(why(&one("model = \"none.onnx\"")).contains("none.onnx"));
        assert!(why(&one("library = \"none.so\"")).contains("none.so"));
        assert!(why(&one("model = \".\"")).contains("is no file"));
        assert!(why("base = \"onnxruntime-gpu\"\n").contains("did you mean `onnxruntime-cpu`?"));
        let labels = format!("{RECORDED}[labels]\nfile = \"none.parquet\"\nkey = \"seq\"\n");
        assert!(why(&labels).contains("none.parquet"));
        let without = resolve("onnxruntime-cpu", &Given::default(), &runtimes()).unwrap_err();
        assert!(without.why.contains("--model"), "{without}");
        let slip = resolve("onnxruntime-cpuu", &Given::default(), &runtimes()).unwrap_err();
        assert!(
            slip.why.contains("did you mean `onnxruntime-cpu`?"),
            "{slip}"
        );
    }

    #[test]
    fn runtimes_and_their_keys_must_fit_each_other() {
        let runtime = |name: &str| format!("[[stage]]\nname = \"a\"\nruntime = \"{name}\"\n");
        assert!(why(&runtime("onnxruntim")).contains("did you mean `onnxruntime`?"));
        // What serves tests is not offered.
        let told = why(&runtime("tvm"));
        assert!(
            told.contains("(known: onnxruntime, paddle, recorded)"),
            "{told}"
        );
        assert!(why("[[stage]]\nname = \"a\"\n").contains("names no runtime"));
        let told = why(&format!("{RECORDED}threads = 4\n"));
        assert!(told.contains("`threads` means nothing"), "{told}");
        // What is inherited falls away instead.
        let text = one("threads = 4")
            + "[[stage]]\nname = \"p\"\ninherits = \"a\"\nruntime = \"recorded\"\n";
        let stages = ladder(&text).unwrap().stages;
        assert_eq!((&stages[1].model, stages[1].options.len()), (&None, 0));
    }

    #[test]
    fn a_key_that_no_runtime_knows_is_named_with_its_line_and_the_nearest_one() {
        let told = why(&one("graph_optimisation = \"off\""));
        assert!(told.contains("line 4: unknown key"), "{told}");
        assert!(
            told.contains("did you mean `graph_optimization`?"),
            "{told}"
        );
        let told = why(&one("optionl = true"));
        assert!(told.contains("did you mean `optional`?"), "{told}");
        let told = why(&one("providers = [{ name = \"cuda\", option = {} }]"));
        assert!(told.contains("line 4: `providers`"), "{told}");
        assert!(told.contains("did you mean `options`?"), "{told}");
        let told = why(&one("\ngraph_optimization = \"extendet\""));
        assert!(told.contains("line 5: "), "{told}");
        assert!(told.contains("did you mean `extended`?"), "{told}");
        let told = why(&one("threads = -1"));
        assert!(told.contains("line 4: `threads`"), "{told}");
    }

    #[test]
    fn names_that_the_library_would_ignore_are_refused_here() {
        let told = why(&one("threads = 1000000"));
        assert!(told.contains("threads"), "{told}");
        let told = why(&one("providers = [{ name = \"tensort\" }]"));
        assert!(told.contains("did you mean `tensorrt`?"), "{told}");
        let told = why(&one("config = { \"session.disable_prepacking\" = \"1\" }"));
        assert!(told.contains("`prepacking`"), "{told}");
        let told = why(&one("disabled_passes = [\"A;B\"]"));
        assert!(told.contains("no name of one pass"), "{told}");
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["m.onnx", "own.onnx", "l.parquet"] {
            std::fs::write(at(name), "").unwrap();
        }
        let text = "model = \"own.onnx\"\n[[stage]]\nname = \"a\"\nruntime = \"onnxruntime\"\n\
                    [[metric]]\nspec = \"top1@file\"\n[labels]\nfile = \"l.parquet\"\nkey = \"seq\"\n";
        std::fs::write(at("ladder.toml"), text).unwrap();
        let resolve = |given: &Given| {
            resolve(at("ladder.toml").to_str().unwrap(), given, &runtimes()).unwrap()
        };
        let file = resolve(&Given::default());
        assert!(file.stages[0].model.as_ref().unwrap().ends_with("own.onnx"));
        assert_eq!(file.metrics[0].spec, "top1@file");
        assert!(file.labels.unwrap().file.is_absolute());
        let given = resolve(&Given {
            model: Some(at("m.onnx")),
            metrics: vec![MetricSpec {
                spec: "top1@given".into(),
                margin: None,
            }],
            ..Given::default()
        });
        assert!(given.stages[0].model.as_ref().unwrap().ends_with("m.onnx"));
        assert_eq!(given.metrics[0].spec, "top1@given");
    }
}
