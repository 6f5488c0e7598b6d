//! What a real ONNX Runtime shows of each option.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that goes wrong says so by panicking"
)]

mod common;

use common::{acted, evidence, floats, infer, library, open, option, refused, spread, stage, with};
use inferdiff_replay::runtime::{
    GraphOptimization, OnnxRuntime, OpenError, Provider, Runtime, prove_off,
};
use inferdiff_schemas::run::evidence::Acted;
use inferdiff_schemas::run::ladder::Stage;

fn at(level: GraphOptimization, model: &str) -> Stage {
    with(model, |o| o.graph_optimization = level)
}

fn why(error: OpenError) -> String {
    match error {
        OpenError::Failed(why) => why,
        OpenError::Unavailable(why) => panic!("unavailable: {why}"),
    }
}

#[test]
fn off_is_proved_and_every_level_above_is_not_off() {
    let off = evidence(&stage("conv_bn_relu"));
    assert_eq!(prove_off(&off), Ok(()));
    assert_eq!(acted(&off, "graph_optimization"), Acted::Acted);
    for level in [GraphOptimization::Basic, GraphOptimization::All] {
        assert!(prove_off(&evidence(&at(level, "conv_bn_relu"))).is_err());
    }
}

#[test]
fn a_level_acts_where_there_is_something_to_do_and_only_there() {
    use GraphOptimization::{All, Basic, Extended, Layout};
    for level in [Basic, Extended, Layout, All] {
        let busy = evidence(&at(level, "conv_bn_relu"));
        assert_eq!(
            acted(&busy, "graph_optimization"),
            Acted::Acted,
            "{level:?}"
        );
        let idle = evidence(&at(level, "relu"));
        assert_eq!(
            acted(&idle, "graph_optimization"),
            Acted::DidNotAct,
            "{level:?}"
        );
        let told = &option(&idle, "graph_optimization").shown_by;
        assert!(told.contains("none modified the graph"), "{told}");
        assert!(idle.passes.len() > 3);
    }
    let shown = evidence(&at(Extended, "conv_bn_relu"));
    let told = &option(&shown, "graph_optimization").shown_by;
    assert!(told.contains("ConvActivationFusion"), "{told}");
}

#[test]
fn the_evidence_says_what_ran() {
    let e = evidence(&stage("conv_bn_relu"));
    assert_eq!(e.runtime, "onnxruntime");
    let version = e.version.clone().unwrap();
    assert!(
        e.library.as_ref().unwrap().ends_with(&version),
        "{version} in {:?}",
        e.library
    );
    let bytes = std::fs::read(common::model("conv_bn_relu")).unwrap();
    let digest = format!("{:032x}", inferdiff_schemas::xxh3::hash128(&bytes));
    let model = e.model.as_ref().unwrap();
    assert_eq!((&model.digest, model.bytes), (&digest, bytes.len() as u64));
    assert_eq!(e.placement.len(), 1);
    assert_eq!(e.placement[0].provider, "CPUExecutionProvider");
    let nodes = [
        "BatchNormalization_normal",
        "Conv_conv",
        "Flatten_y",
        "GlobalAveragePool_pool",
        "Relu_relu",
    ];
    assert_eq!(e.placement[0].nodes, nodes);
    assert!(!e.cpu.is_empty());
}

#[test]
fn what_the_runtime_does_not_report_is_said_to_be_unobservable() {
    let e = evidence(&with("conv_bn_relu", |o| {
        o.prepacking = true;
        o.threads = 2;
    }));
    for name in [
        "prepacking",
        "threads",
        "deterministic",
        "memory_optimization",
    ] {
        assert_eq!(acted(&e, name), Acted::Unobservable, "{name}");
    }
    let off = evidence(&stage("conv_bn_relu"));
    assert_eq!(acted(&off, "memory_optimization"), Acted::Unobservable);
    let e = evidence(&with("conv_bn_relu", |o| o.memory_optimization = true));
    // The static plan is in the log only with the memory pattern.
    assert_eq!(acted(&e, "memory_optimization"), Acted::Acted);
}

#[test]
fn a_disabled_pass_has_left_the_log() {
    let disabled = ["ConvActivationFusion", "GeluFusionL2"];
    let e = evidence(&with("conv_bn_relu", |o| {
        o.graph_optimization = GraphOptimization::Extended;
        o.disabled_passes = disabled.map(Into::into).to_vec();
    }));
    assert!(!e.passes.iter().any(|p| disabled.contains(&p.name.as_str())));
    let hit = option(&e, "disabled_passes.ConvActivationFusion");
    assert_eq!(hit.acted, Acted::Acted);
    assert!(hit.shown_by.contains("hits"), "{}", hit.shown_by);
    let idle = option(&e, "disabled_passes.GeluFusionL2");
    assert!(
        idle.shown_by.contains("changes nothing"),
        "{}",
        idle.shown_by
    );
}

#[test]
fn a_rewrite_rule_is_proved_by_the_graph_since_the_log_does_not_name_it() {
    let without = |model: &str, rule: &str| {
        with(model, |o| {
            o.graph_optimization = GraphOptimization::Basic;
            o.disabled_passes = vec![rule.into()];
        })
    };
    let e = evidence(&without("conv_bn_relu", "ConvBNFusion"));
    assert_eq!(acted(&e, "disabled_passes.ConvBNFusion"), Acted::Acted);
    let e = evidence(&without("relu", "ConvBNFusion"));
    assert_eq!(
        acted(&e, "disabled_passes.ConvBNFusion"),
        Acted::Unobservable
    );
}

#[test]
fn a_pass_name_that_disables_nothing_is_refused_with_the_nearest_one() {
    let refuse = |level, names: &[&str]| {
        why(refused(&with("conv_bn_relu", |o| {
            o.graph_optimization = level;
            o.disabled_passes = names.iter().map(|n| (*n).into()).collect();
        })))
    };
    let all = GraphOptimization::All;
    let told = refuse(all, &["ConvActivationFussion"]);
    assert!(
        told.contains("did you mean `ConvActivationFusion`?"),
        "{told}"
    );
    let told = refuse(all, &["convactivationfusion"]);
    assert!(
        told.contains("did you mean `ConvActivationFusion`?"),
        "{told}"
    );
    let told = refuse(all, &["ConvBNFusionn"]);
    assert!(told.contains("did you mean `ConvBNFusion`?"), "{told}");
    let told = refuse(all, &["ConvActivationFusion,GeluFusionL2"]);
    assert!(told.contains("no name of one pass"), "{told}");
    let told = refuse(GraphOptimization::Basic, &["ConvActivationFusion"]);
    assert!(
        told.contains("higher level") && told.contains("`basic`"),
        "{told}"
    );
    let told = refuse(GraphOptimization::Off, &["ConvBNFusion"]);
    assert!(told.contains("higher level"), "{told}");
    let told = refuse(all, &["MemcpyTransformer"]);
    assert!(told.contains("mandatory"), "{told}");
}

#[test]
fn a_configuration_entry_acted_where_the_session_shows_another_optimisation() {
    let key = "optimization.enable_gelu_approximation";
    let e = evidence(&with("gelu_layernorm", |o| {
        o.graph_optimization = GraphOptimization::All;
        o.config = [(key.to_owned(), "1".to_owned())].into();
    }));
    let shown = option(&e, &format!("config.{key}"));
    assert_eq!(shown.acted, Acted::Acted);
    assert!(
        shown.shown_by.contains("GeluApproximation"),
        "{}",
        shown.shown_by
    );
    let e = evidence(&with("relu", |o| {
        o.config = [("session.set_denormal_as_zero".to_owned(), "1".to_owned())].into();
    }));
    assert_eq!(
        acted(&e, "config.session.set_denormal_as_zero"),
        Acted::Unobservable
    );
}

#[test]
fn a_provider_that_the_library_lacks_is_unavailable_and_never_replaced_in_silence() {
    let on = |name: &str| {
        with("relu", |o| {
            o.providers = vec![Provider {
                name: name.into(),
                options: [].into(),
            }];
        })
    };
    for name in ["cuda", "tensorrt", "openvino"] {
        match refused(&on(name)) {
            OpenError::Unavailable(why) => assert!(why.contains("ExecutionProvider"), "{why}"),
            OpenError::Failed(why) => panic!("{why}"),
        }
    }
    let e = evidence(&on("cpu"));
    assert_eq!(acted(&e, "providers.cpu"), Acted::Acted);
}

#[test]
fn another_library_in_the_same_process_is_an_error_and_a_missing_one_is_unavailable() {
    let good = library();
    let _first = open(&stage("relu")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("libonnxruntime.so.1.32.0");
    std::fs::copy(&good, &copy).unwrap();
    let told = why(refused(&with("relu", |o| o.library = Some(copy.clone()))));
    assert!(
        told.contains("one library") && told.contains(&copy.display().to_string()),
        "{told}"
    );
    // The same file by another path is the same library.
    let link = dir.path().join("link.so");
    std::os::unix::fs::symlink(&good, &link).unwrap();
    assert!(open(&with("relu", |o| o.library = Some(link))).is_ok());
    let missing = with("relu", |o| o.library = Some(dir.path().join("none.so")));
    let none = with("relu", |o| o.library = None);
    for stage in [missing, none] {
        let error = OnnxRuntime::default().open(&stage).err().unwrap();
        assert!(
            matches!(&error, OpenError::Unavailable(why) if why.contains("pip install")),
            "{error}"
        );
    }
}

#[test]
fn stages_answer_close_to_the_reference_and_the_same_stage_answers_the_same_bits() {
    let x = floats("x", &[2, 3, 8, 8], &spread(2 * 3 * 64));
    let answer = |stage: &Stage| {
        let mut p = open(stage).unwrap();
        let y = infer(p.as_mut(), std::slice::from_ref(&x))
            .unwrap()
            .remove(0);
        let again = infer(p.as_mut(), std::slice::from_ref(&x))
            .unwrap()
            .remove(0);
        assert_eq!(y, again);
        y
    };
    let reference = answer(&stage("conv_bn_relu"));
    let production = answer(&with("conv_bn_relu", |o| {
        o.graph_optimization = GraphOptimization::All;
        o.prepacking = true;
        o.memory_optimization = true;
        o.threads = 0;
        o.deterministic = false;
    }));
    let values = |t: &inferdiff_schemas::Tensor| -> Vec<f32> {
        let data = t.data.as_ref().unwrap().chunks_exact(4);
        data.map(|c| f32::from_le_bytes(c.try_into().unwrap()))
            .collect()
    };
    let (a, b) = (values(&reference), values(&production));
    assert!(a.iter().any(|v| *v != 0.0));
    assert!(
        a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4),
        "{a:?} {b:?}"
    );
}
