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
    assert!(why("[models.a]\n[models.b]\nname = \"a\"\nversion = \"1\"\n").contains("both claim"));
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
    let text =
        one("threads = 4") + "[[stage]]\nname = \"p\"\ninherits = \"a\"\nruntime = \"recorded\"\n";
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
    let resolve =
        |given: &Given| resolve(at("ladder.toml").to_str().unwrap(), given, &runtimes()).unwrap();
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
