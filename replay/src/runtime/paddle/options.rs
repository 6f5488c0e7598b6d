//! What a stage of this runtime may say, and what it means where it says nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use inferdiff_schemas::run::evidence::Role;
use inferdiff_schemas::run::ladder::{Stage, options_map};
use serde::{Deserialize, Serialize};

use crate::ladder::{Completed, Written, existing};
use crate::runtime::{OpenError, python};

/// More threads than any machine that serves a model has: a typing error.
const MOST_THREADS: u32 = 4096;
/// Without these no program of the new IR runs, or its outputs are gone.
const NEVER_DISABLED: [&str; 2] = [
    "replace_fetch_with_shadow_output_pass",
    "dead_code_elimination_pass",
];

/// The ladder's keys of this runtime.
pub(super) const KEYS: [&str; 13] = [
    "model",
    "params",
    "python",
    "engine",
    "ir_optimization",
    "memory_optimization",
    "onednn",
    "openvino",
    "new_executor",
    "threads",
    "gpu",
    "tensorrt",
    "disabled_passes",
];

/// What runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Engine {
    /// Paddle Inference.
    Inference,
    /// `paddle.static.Executor`: the training forward pass, operator by operator.
    Executor,
}

/// IR optimisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum IrOptimization {
    /// Off by whatever acts for this format: the switch for the old IR, level 0 for PIR.
    Off,
    /// Off by `switch_ir_optim(False)` and nothing else, as the guide has it. PIR ignores it.
    SwitchOff,
    /// Paddle's own default.
    On,
}

impl IrOptimization {
    /// As ladders write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::SwitchOff => "switch_off",
            Self::On => "on",
        }
    }
}

/// The precision of a library's kernels, or that the library is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kernels {
    Off,
    Fp32,
    Fp16,
    Bf16,
    Int8,
}

impl Kernels {
    /// As ladders write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    fn one_of(self, key: &str, known: &[Self]) -> Result<Self, String> {
        if known.contains(&self) {
            return Ok(self);
        }
        let known: Vec<_> = known.iter().map(|k| k.name()).collect();
        Err(format!(
            "{key} = \"{}\" must be one of {}",
            self.name(),
            known.join(", ")
        ))
    }
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Gpu {
    /// Number of the device.
    pub device: u32,
    /// First memory pool in MiB.
    pub memory_mb: u32,
    /// `fp32`, `fp16` or `bf16`.
    pub precision: Kernels,
}

impl Default for Gpu {
    fn default() -> Self {
        Self {
            device: 0,
            memory_mb: 256,
            precision: Kernels::Fp32,
        }
    }
}

/// TensorRT subgraphs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TensorRt {
    /// `fp32`, `fp16` or `int8`.
    pub precision: Kernels,
    /// Workspace in MiB.
    pub workspace_mb: u32,
    /// Largest batch of models without dynamic shapes.
    pub max_batch_size: u32,
    /// Subgraphs of fewer operators stay with Paddle.
    pub min_subgraph_size: u32,
    /// Shape file as `collect_shape_range_info` or `inferdiff shapes --emit paddle` writes it.
    pub shapes: Option<PathBuf>,
    /// With `shapes`: engines may be built again while serving.
    pub allow_build_at_runtime: bool,
    /// Shapes by input, instead of a file.
    pub profile: BTreeMap<String, Profile>,
    /// Operators that stay with Paddle.
    pub disabled_ops: Vec<String>,
    /// Engines are kept on disk.
    pub use_static: bool,
    /// int8 by calibration instead of the model's own scales.
    pub use_calib_mode: bool,
}

impl Default for TensorRt {
    fn default() -> Self {
        Self {
            precision: Kernels::Fp32,
            workspace_mb: 1024,
            max_batch_size: 1,
            min_subgraph_size: 3,
            shapes: None,
            allow_build_at_runtime: true,
            profile: BTreeMap::new(),
            disabled_ops: Vec::new(),
            use_static: false,
            use_calib_mode: false,
        }
    }
}

/// Shapes of one input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    /// Smallest dimensions.
    pub min: Vec<u32>,
    /// Those that engines are tuned for.
    pub opt: Vec<u32>,
    /// Largest dimensions.
    pub max: Vec<u32>,
}

/// Options of a stage. The default is the reference: everything off, one thread, the CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PaddleOptions {
    /// Python interpreter, absolute; `None` = none was found.
    pub python: Option<PathBuf>,
    /// Parameter file, absolute; `None` = beside the model.
    pub params: Option<PathBuf>,
    /// What runs the program.
    pub engine: Engine,
    /// IR optimisation.
    pub ir_optimization: IrOptimization,
    /// `enable_memory_optim`.
    pub memory_optimization: bool,
    /// oneDNN kernels: `off`, `fp32`, `bf16` or `int8`.
    pub onednn: Kernels,
    /// OpenVINO as the engine of subgraphs: `off`, `fp32`, `fp16` or `int8`.
    pub openvino: Kernels,
    /// `enable_new_executor`.
    pub new_executor: bool,
    /// Threads of the math library; 0 = the library's default.
    pub threads: u32,
    /// GPU instead of CPU.
    pub gpu: Option<Gpu>,
    /// TensorRT on it.
    pub tensorrt: Option<TensorRt>,
    /// Passes that are kept out by name.
    pub disabled_passes: Vec<String>,
}

impl Default for PaddleOptions {
    fn default() -> Self {
        Self {
            python: None,
            params: None,
            engine: Engine::Inference,
            ir_optimization: IrOptimization::Off,
            memory_optimization: false,
            onednn: Kernels::Off,
            openvino: Kernels::Off,
            new_executor: false,
            threads: 1,
            gpu: None,
            tensorrt: None,
            disabled_passes: Vec::new(),
        }
    }
}

impl PaddleOptions {
    /// What a stage of these options is.
    pub fn role(&self) -> Role {
        let low = |k: Kernels| !matches!(k, Kernels::Off | Kernels::Fp32);
        if self.engine == Engine::Executor {
            Role::Training
        } else if self.tensorrt.is_some() || self.openvino != Kernels::Off {
            Role::Engine
        } else if low(self.onednn) || self.gpu.as_ref().is_some_and(|g| low(g.precision)) {
            Role::Precision
        } else if self.ir_optimization == IrOptimization::On {
            Role::Graph
        } else if self.memory_optimization {
            Role::Memory
        } else {
            Role::Off
        }
    }
}

/// The ladder's keys → options, with everything checked that needs no interpreter.
pub(super) fn complete(
    written: &mut Written<'_>,
    default_python: Option<&Path>,
) -> Result<Completed, String> {
    let model = written.model()?;
    let off = PaddleOptions::default();
    let params = match written.path("params")? {
        Some(path) => Some(existing("params", &path)?),
        None => None,
    };
    let own = written
        .path("python")?
        .or(default_python.map(Path::to_path_buf));
    let options = PaddleOptions {
        python: own.map(|p| python::interpreter(&p)).transpose()?,
        params,
        engine: written.take("engine")?.unwrap_or(off.engine),
        ir_optimization: written
            .take("ir_optimization")?
            .unwrap_or(off.ir_optimization),
        memory_optimization: written.take("memory_optimization")?.unwrap_or_default(),
        onednn: written.take("onednn")?.unwrap_or(off.onednn),
        openvino: written.take("openvino")?.unwrap_or(off.openvino),
        new_executor: written.take("new_executor")?.unwrap_or_default(),
        threads: written.take("threads")?.unwrap_or(off.threads),
        gpu: written.take("gpu")?,
        tensorrt: tensorrt(written)?,
        disabled_passes: written.take("disabled_passes")?.unwrap_or_default(),
    };
    check(&options)?;
    let beside = model.with_extension("pdiparams");
    let parameters = options.params.clone().unwrap_or(beside);
    let mut files = vec![model.clone()];
    files.extend(Some(parameters).filter(|p| p.is_file()));
    files.extend(options.tensorrt.as_ref().and_then(|t| t.shapes.clone()));
    Ok(Completed {
        files,
        model: Some(model),
        options: options_map(&options),
    })
}

fn tensorrt(written: &mut Written<'_>) -> Result<Option<TensorRt>, String> {
    let Some(mut tensorrt) = written.take::<TensorRt>("tensorrt")? else {
        return Ok(None);
    };
    if let Some(shapes) = &mut tensorrt.shapes {
        // Paddle takes a file that is not there in silence.
        *shapes = existing("tensorrt.shapes", &written.at(shapes))
            .map_err(|e| format!("{e} `inferdiff shapes CAPTURE --emit paddle` makes one"))?;
    }
    Ok(Some(tensorrt))
}

/// Everything about a stage that can be said without opening it.
fn check(options: &PaddleOptions) -> Result<(), String> {
    use Kernels::{Bf16, Fp16, Fp32, Int8, Off};
    if options.threads > MOST_THREADS {
        return Err(format!(
            "threads = {} must be 0 (the library's default) to {MOST_THREADS}",
            options.threads
        ));
    }
    options.onednn.one_of("onednn", &[Off, Fp32, Bf16, Int8])?;
    options
        .openvino
        .one_of("openvino", &[Off, Fp32, Fp16, Int8])?;
    if let Some(gpu) = &options.gpu {
        gpu.precision.one_of("gpu.precision", &[Fp32, Fp16, Bf16])?;
    }
    if let Some(tensorrt) = &options.tensorrt {
        if options.gpu.is_none() {
            return Err("tensorrt runs on a GPU: write gpu = {} too".to_owned());
        }
        let precision = tensorrt.precision;
        precision.one_of("tensorrt.precision", &[Fp32, Fp16, Int8])?;
        if tensorrt.shapes.is_some() && !tensorrt.profile.is_empty() {
            return Err("tensorrt has both `shapes` and `profile`: give one of them".to_owned());
        }
        for (name, p) in &tensorrt.profile {
            if p.min.len() != p.opt.len() || p.min.len() != p.max.len() {
                return Err(format!(
                    "tensorrt.profile.{name}: min, opt and max must have as many dimensions"
                ));
            }
        }
    }
    for name in &options.disabled_passes {
        if NEVER_DISABLED.contains(&name.as_str()) {
            return Err(format!(
                "disabled_passes: no program runs without `{name}`: take it out"
            ));
        }
    }
    executor(options)
}

/// The training forward pass has none of the engine's switches.
fn executor(options: &PaddleOptions) -> Result<(), String> {
    let off = PaddleOptions {
        python: options.python.clone(),
        params: options.params.clone(),
        engine: Engine::Executor,
        threads: options.threads,
        ..PaddleOptions::default()
    };
    if options.engine == Engine::Executor && *options != off {
        return Err(
            "engine = \"executor\" is the training forward pass on the CPU: it has none of the \
             engine's switches, take them out"
                .to_owned(),
        );
    }
    Ok(())
}

/// A stage as the rest of this runtime sees it.
#[derive(Debug, Clone)]
pub(super) struct PaddleStage {
    pub name: String,
    pub model: PathBuf,
    pub options: PaddleOptions,
}

impl PaddleStage {
    /// Reads a resolved stage.
    pub fn of(stage: &Stage) -> Result<Self, OpenError> {
        let name = stage.name.clone();
        let model = stage.model.clone().ok_or_else(|| {
            OpenError::Failed(format!("stage `{name}`: it names no model: give --model"))
        })?;
        let options: PaddleOptions = stage.read_options().map_err(OpenError::Failed)?;
        check(&options).map_err(|why| OpenError::Failed(format!("stage `{name}`: {why}")))?;
        Ok(Self {
            name,
            model,
            options,
        })
    }
}
