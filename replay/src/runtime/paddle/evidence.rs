//! What each option really did, by generation and format. An echo of the option is no evidence.

use inferdiff_schemas::run::evidence::{Acted, Evidence, OptionEvidence, Signature};
use serde::Deserialize;

use super::log::{Kind, PassLog, Ran};
use super::options::{Engine, IrOptimization, Kernels, PaddleOptions};

/// Passes of PIR that run at level 0 too: without them a program has no outputs.
const INHERENT: [&str; 5] = [
    "add_shadow_output_after_dead_parameter_pass",
    "dead_code_elimination_pass",
    "replace_fetch_with_shadow_output_pass",
    "remove_shadow_feed_pass",
    "inplace_pass",
];
/// They give operators to oneDNN. The old IR's print no hit.
const PLACEMENT: [&str; 2] = ["mkldnn_placement_pass", "onednn_placement_pass"];
const OPENVINO: &str = "openvino_subgraph_pass";
const TENSORRT: [&str; 2] = ["tensorrt_subgraph_pass", "trt_op_marker_pass"];
const MEMORY: &str = "memory_optimize_pass";

/// What the worker answered when it opened the stage.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Facts {
    pub versions: Versions,
    /// The model is a program of PIR (`.json`), not of the old IR (`.pdmodel`).
    pub pir: bool,
    /// Calls of `paddle.inference.Config`, in order.
    pub calls: Vec<String>,
    pub signature: Signature,
}

/// Versions of the library and of what it was built with.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Versions {
    pub paddle: String,
    pub commit: String,
    pub cuda: String,
    pub tensorrt: Vec<u32>,
}

impl Versions {
    /// In one line.
    pub fn line(&self) -> String {
        let commit: String = self.commit.chars().take(12).collect();
        let mut line = format!("{} (commit {commit}", self.paddle);
        if self.cuda != "False" {
            line += &format!(", CUDA {}", self.cuda);
        }
        if self.tensorrt.iter().any(|&n| n > 0) {
            let numbers: Vec<_> = self.tensorrt.iter().map(u32::to_string).collect();
            line += &format!(", TensorRT {}", numbers.join("."));
        }
        line + ")"
    }
}

/// Evidence of every option but `disabled_passes`.
pub(super) fn options(asked: &PaddleOptions, facts: &Facts, log: &PassLog) -> Vec<OptionEvidence> {
    let threads = shown(
        "threads",
        asked.threads,
        Acted::Unobservable,
        "Paddle reports no effect of it; only the outputs can tell",
    );
    if asked.engine == Engine::Executor {
        let what = "paddle.static.Executor ran the program's own operators; no predictor was made";
        let engine = shown("engine", "executor", Acted::Acted, what);
        return vec![engine, threads];
    }
    let made = "paddle.inference.create_predictor made a predictor";
    let mut options = vec![
        shown("engine", "inference", Acted::Acted, made),
        ir_optimization(asked.ir_optimization, facts.pir, log),
        memory(asked.memory_optimization, facts.pir, log),
        new_executor(asked.new_executor, facts.pir),
        threads,
    ];
    options.extend(onednn(asked, log));
    options.push(openvino(asked.openvino, facts.pir, log));
    if let Some(gpu) = &asked.gpu {
        // A build that lacks it answers otherwise, and the stage is not opened.
        let what = "Config.use_gpu() is true after the call; a build without CUDA answers false";
        let requested = format!("device {}, {}", gpu.device, gpu.precision.name());
        options.push(shown("gpu", requested, Acted::Acted, what));
    }
    if let Some(tensorrt) = &asked.tensorrt {
        options.push(subgraphs(tensorrt.precision, log));
    }
    options
}

fn shown(
    option: &str,
    requested: impl std::fmt::Display,
    acted: Acted,
    shown_by: impl Into<String>,
) -> OptionEvidence {
    OptionEvidence {
        option: option.to_owned(),
        requested: requested.to_string(),
        acted,
        shown_by: shown_by.into(),
    }
}

/// Passes that IR optimisation brings.
fn optional(log: &PassLog) -> Vec<&Ran> {
    let brought = |p: &&Ran| match p.kind {
        Kind::Analysis => false,
        Kind::Ir => true,
        Kind::Pir => !INHERENT.contains(&p.name.as_str()),
    };
    log.passes.iter().filter(brought).collect()
}

/// `fc_fuse_pass (1), conv_bn_fuse_pass (2)`
fn hits(passes: &[&Ran]) -> String {
    let hit = passes.iter().filter(|p| p.hit());
    let hit = hit.map(|p| format!("{} ({})", p.name, p.hits.unwrap_or(0)));
    hit.collect::<Vec<_>>().join(", ")
}

fn ir_optimization(asked: IrOptimization, pir: bool, log: &PassLog) -> OptionEvidence {
    let ran = optional(log);
    let n = ran.len();
    let hit = hits(&ran);
    let (acted, what) = if log.passes.is_empty() {
        (Acted::Unobservable, "the log names no pass".to_owned())
    } else if asked == IrOptimization::On {
        if n == 0 {
            (Acted::DidNotAct, "no pass of it ran".to_owned())
        } else if hit.is_empty() {
            (Acted::DidNotAct, format!("{n} passes ran, none hit"))
        } else {
            (Acted::Acted, format!("of {n} passes these hit: {hit}"))
        }
    } else if n == 0 {
        let all: Vec<_> = log.passes.iter().map(|p| p.name.as_str()).collect();
        let what = format!("only what no program runs without: {}", all.join(", "));
        (Acted::Acted, what)
    } else {
        let hit = if hit.is_empty() {
            "none hit".to_owned()
        } else {
            format!("these hit: {hit}")
        };
        let cause = if pir && asked == IrOptimization::SwitchOff {
            "PIR ignores switch_ir_optim(False)"
        } else {
            "it is not off"
        };
        let cure = "ir_optimization = \"off\" (set_optimization_level(0)) acts";
        (
            Acted::DidNotAct,
            format!("{cause}: {n} passes ran, {hit}; {cure}"),
        )
    };
    shown("ir_optimization", asked.name(), acted, what)
}

fn memory(on: bool, pir: bool, log: &PassLog) -> OptionEvidence {
    let (acted, what) = match (on, log.ran(MEMORY)) {
        (_, true) => (
            if on { Acted::Acted } else { Acted::DidNotAct },
            format!("{MEMORY} ran"),
        ),
        (false, false) => (Acted::Acted, format!("{MEMORY} did not run")),
        (true, false) if pir => (
            Acted::DidNotAct,
            format!(
                "PIR has no {MEMORY}, so enable_memory_optim does nothing; the same model as \
                 .pdmodel has it"
            ),
        ),
        (true, false) => (Acted::DidNotAct, format!("{MEMORY} did not run")),
    };
    shown("memory_optimization", on, acted, what)
}

fn new_executor(on: bool, pir: bool) -> OptionEvidence {
    if pir {
        let acted = if on { Acted::DidNotAct } else { Acted::Acted };
        let what = "PIR always runs on the new executor";
        return shown("new_executor", on, acted, what);
    }
    let what = "the predictor names its executor when it runs; only the outputs can tell";
    shown("new_executor", on, Acted::Unobservable, what)
}

/// Whether oneDNN got operators, and whether their precision is the one asked for.
fn onednn(asked: &PaddleOptions, log: &PassLog) -> Vec<OptionEvidence> {
    let wanted = asked.onednn;
    let placed = log
        .passes
        .iter()
        .find(|p| PLACEMENT.contains(&p.name.as_str()));
    let (acted, what) = match (wanted, placed) {
        (Kernels::Off, None) => (Acted::Acted, "no pass gave operators to oneDNN".to_owned()),
        (Kernels::Off, Some(p)) => (Acted::DidNotAct, format!("{} ran", p.name)),
        (_, Some(p)) => match p.hits {
            Some(n) => (
                if n > 0 {
                    Acted::Acted
                } else {
                    Acted::DidNotAct
                },
                format!("{} gave it {n} operators", p.name),
            ),
            None => (Acted::Acted, format!("{} ran", p.name)),
        },
        (_, None) => (
            Acted::DidNotAct,
            "no pass gave operators to oneDNN: it needs ir_optimization = \"on\"".to_owned(),
        ),
    };
    let mut out = vec![shown("onednn", wanted.name(), acted, what)];
    let marks: &[&str] = match wanted {
        Kernels::Bf16 => &["bfloat16", "bf16"],
        Kernels::Int8 => &["quantize_placement", "quantize_pass", "int8"],
        _ => return out,
    };
    let own: Vec<&Ran> = log
        .passes
        .iter()
        .filter(|p| marks.iter().any(|m| p.name.contains(m)))
        .collect();
    let hit = hits(&own);
    let (acted, what) = if own.is_empty() {
        (Acted::DidNotAct, "no pass of it ran".to_owned())
    } else if hit.is_empty() {
        let what = format!("{} passes of it ran, none hit", own.len());
        (Acted::DidNotAct, what)
    } else {
        (Acted::Acted, format!("these hit: {hit}"))
    };
    let cure = match (wanted, acted) {
        (Kernels::Int8, Acted::DidNotAct) => {
            "; it acts on a model that carries quantisation scales"
        }
        (Kernels::Bf16, Acted::DidNotAct) => {
            "; it acts where the CPU has AVX-512 and operators have bf16 kernels"
        }
        _ => "",
    };
    out.push(shown("onednn.precision", wanted.name(), acted, what + cure));
    out
}

fn openvino(asked: Kernels, pir: bool, log: &PassLog) -> OptionEvidence {
    let (acted, what) = match (asked, log.ran(OPENVINO)) {
        (Kernels::Off, false) => (Acted::Acted, format!("{OPENVINO} did not run")),
        (Kernels::Off, true) => (Acted::DidNotAct, format!("{OPENVINO} ran")),
        (_, true) => (
            Acted::Acted,
            format!("{OPENVINO} ran; it replaces the list of passes"),
        ),
        (_, false) if pir => (
            Acted::DidNotAct,
            format!("{OPENVINO} did not run: PIR has none; the same model as .pdmodel has it"),
        ),
        (_, false) => (
            Acted::DidNotAct,
            format!("{OPENVINO} did not run: it needs ir_optimization = \"on\""),
        ),
    };
    shown("openvino", asked.name(), acted, what)
}

fn subgraphs(precision: Kernels, log: &PassLog) -> OptionEvidence {
    let own: Vec<&Ran> = log
        .passes
        .iter()
        .filter(|p| TENSORRT.contains(&p.name.as_str()))
        .collect();
    let hit = hits(&own);
    let (acted, what) = if own.is_empty() {
        (Acted::DidNotAct, "no pass of TensorRT ran".to_owned())
    } else if hit.is_empty() {
        let what = "it took no subgraph: see min_subgraph_size and disabled_ops";
        (Acted::DidNotAct, what.to_owned())
    } else {
        (Acted::Acted, format!("it took subgraphs: {hit}"))
    };
    shown("tensorrt", precision.name(), acted, what)
}

/// Another engine that was asked for and takes no part here is not there: Paddle would answer with
/// its own kernels, and that must not pass for an answer of the other engine.
///
/// # Errors
/// What shows it.
pub(super) fn engines(asked: &PaddleOptions, shown: &[OptionEvidence]) -> Result<(), String> {
    let asked = [
        ("openvino", asked.openvino != Kernels::Off),
        ("tensorrt", asked.tensorrt.is_some()),
    ];
    for (engine, _) in asked.into_iter().filter(|(_, asked)| *asked) {
        let idle = |o: &&OptionEvidence| o.option == engine && o.acted == Acted::DidNotAct;
        if let Some(o) = shown.iter().find(idle) {
            return Err(format!("{engine}: {}", o.shown_by));
        }
    }
    Ok(())
}

/// An error unless the log shows that no optimisation ran.
///
/// # Errors
/// The sentence that says what ran nevertheless.
pub(super) fn prove_off(evidence: &Evidence) -> Result<(), String> {
    let of = |name: &str| evidence.options.iter().find(|o| o.option == name);
    if of("engine").is_some_and(|o| o.requested == "executor") {
        return Ok(());
    }
    match of("ir_optimization") {
        Some(o) if o.requested == "on" => {
            Err("the reference is not off: its ir_optimization is `on`".to_owned())
        }
        Some(o) if o.acted == Acted::Acted => Ok(()),
        Some(o) => Err(format!(
            "the reference is not shown to be off: {}",
            o.shown_by
        )),
        None => Err("nothing shows that the reference is off".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! log {
        ($name:literal) => {
            PassLog::parse(include_str!(concat!(
                "../../../tests/paddle_logs/",
                $name,
                ".log"
            )))
        };
    }

    /// `option: acted` of one option.
    fn of(asked: &PaddleOptions, pir: bool, log: &PassLog, option: &str) -> (Acted, String) {
        let facts = Facts {
            pir,
            ..Facts::default()
        };
        let all = options(asked, &facts, log);
        let one = all.into_iter().find(|o| o.option == option).unwrap();
        (one.acted, one.shown_by)
    }

    fn with(change: impl FnOnce(&mut PaddleOptions)) -> PaddleOptions {
        let mut options = PaddleOptions::default();
        change(&mut options);
        options
    }

    #[test]
    fn the_switch_acts_on_the_old_ir_and_not_on_pir() {
        let switch = with(|o| o.ir_optimization = IrOptimization::SwitchOff);
        let old = of(
            &switch,
            false,
            &log!("2.6.2-pdmodel-off"),
            "ir_optimization",
        );
        assert_eq!(old.0, Acted::Acted);
        let pir = of(
            &switch,
            true,
            &log!("3.3.1-json-switch-off"),
            "ir_optimization",
        );
        assert_eq!(pir.0, Acted::DidNotAct);
        assert!(pir.1.contains("set_optimization_level(0)"), "{}", pir.1);
        let level = of(
            &PaddleOptions::default(),
            true,
            &log!("3.3.1-json-off"),
            "ir_optimization",
        );
        assert_eq!(level.0, Acted::Acted);
    }

    #[test]
    fn memory_openvino_and_precision_say_whether_they_acted() {
        let memory = with(|o| o.memory_optimization = true);
        let of_memory = |pir, log: &PassLog| of(&memory, pir, log, "memory_optimization").0;
        assert_eq!(
            of_memory(false, &log!("2.6.2-pdmodel-memory")),
            Acted::Acted
        );
        assert_eq!(
            of_memory(true, &log!("3.3.1-json-memory")),
            Acted::DidNotAct
        );
        let openvino = with(|o| o.openvino = Kernels::Fp32);
        let of_openvino = |pir, log: &PassLog| of(&openvino, pir, log, "openvino").0;
        assert_eq!(
            of_openvino(false, &log!("3.3.1-pdmodel-openvino")),
            Acted::Acted
        );
        assert_eq!(
            of_openvino(true, &log!("3.3.1-json-onednn")),
            Acted::DidNotAct
        );
        let bf16 = with(|o| o.onednn = Kernels::Bf16);
        let log = log!("2.6.2-pdmodel-bf16");
        assert_eq!(of(&bf16, false, &log, "onednn").0, Acted::Acted);
        let (acted, what) = of(&bf16, false, &log, "onednn.precision");
        assert_eq!(acted, Acted::Acted);
        assert!(what.contains("cpu_bfloat16_placement_pass (9)"), "{what}");
        // The same log asked for int8: nothing of it ran.
        let int8 = with(|o| o.onednn = Kernels::Int8);
        let log = log!("3.3.1-json-onednn");
        assert_eq!(
            of(&int8, true, &log, "onednn.precision").0,
            Acted::DidNotAct
        );
        // oneDNN without IR optimisation gets nothing to do.
        let idle = with(|o| o.onednn = Kernels::Fp32);
        let (acted, what) = of(&idle, false, &log!("2.6.2-pdmodel-off"), "onednn");
        assert_eq!(acted, Acted::DidNotAct);
        assert!(what.contains("ir_optimization"), "{what}");
    }

    #[test]
    fn off_is_proved_by_what_ran() {
        let evidence = |asked: &PaddleOptions, pir, log: &PassLog| Evidence {
            options: options(
                asked,
                &Facts {
                    pir,
                    ..Facts::default()
                },
                log,
            ),
            ..Evidence::default()
        };
        let off = PaddleOptions::default();
        let proved = |e: &Evidence| prove_off(e);
        assert_eq!(
            proved(&evidence(&off, true, &log!("3.3.1-json-off"))),
            Ok(())
        );
        let not = evidence(&off, true, &log!("3.3.1-json-switch-off"));
        assert!(proved(&not).unwrap_err().contains("passes ran"));
        let silent = evidence(&off, true, &PassLog::default());
        assert!(proved(&silent).is_err());
        let executor = with(|o| o.engine = Engine::Executor);
        assert_eq!(
            proved(&evidence(&executor, true, &PassLog::default())),
            Ok(())
        );
        let on = with(|o| o.ir_optimization = IrOptimization::On);
        assert!(proved(&evidence(&on, false, &log!("2.6.2-pdmodel-ir"))).is_err());
    }
}
