"""A stage as calls of `paddle.inference.Config`, in the order in which they are respected.

Calls that choose a device or oneDNN rebuild the list of passes, so they come first; whatever takes
passes out of that list comes last.
"""

import os

from paddle import inference
from paddle_model import Model
from worker import Refusal

PRECISION = {
    "fp32": inference.PrecisionType.Float32,
    "fp16": inference.PrecisionType.Half,
    "bf16": inference.PrecisionType.Bfloat16,
    "int8": inference.PrecisionType.Int8,
}
# Names that the log uses and the registry does not know.
REGISTRY = {
    "conv_activation_mkldnn_fuse_pass": "conv_activation_onednn_fuse_pass",
    "conv_concat_activation_mkldnn_fuse_pass": "conv_concat_activation_onednn_fuse_pass",
}


class Calls:
    """A Config that notes what it is told."""

    def __init__(self, config) -> None:  # noqa: ANN001 - Paddle's own type
        self.config, self.made = config, []

    def __call__(self, name: str, *arguments, **named) -> None:  # noqa: ANN002, ANN003
        """Calls `Config.name`; a Config without it is of an older or newer Paddle."""
        if not hasattr(self.config, name):
            raise Refusal("unavailable", f"this Paddle has no Config.{name}")
        shown = [repr(a) for a in arguments] + [f"{k}={v!r}" for k, v in named.items()]
        self.made.append(f"{name}({', '.join(shown)})")
        getattr(self.config, name)(*arguments, **named)


def configure(model: Model, options: dict, cache: str):  # noqa: ANN201 - Config, list of calls, Paddle's own answers
    """Makes the Config of a stage. What the build lacks is found before the predictor is made."""
    call = Calls(inference.Config(model.program, model.parameters or ""))
    missing = device(call, options["gpu"])
    missing += onednn(call, options["onednn"])
    if options["openvino"] != "off":
        call("set_optim_cache_dir", cache)
        call("enable_openvino_engine", PRECISION[options["openvino"]])
    if options["threads"]:
        call("set_cpu_math_library_num_threads", options["threads"])
    optimise(call, model, options)
    if options["tensorrt"] is not None:
        missing += tensorrt(call, options["tensorrt"], cache)
    for name in options["disabled_passes"]:
        call("delete_pass", REGISTRY.get(name, name) if model.pir else name)
    says = answers(call.config)
    if missing:
        raise Refusal("unavailable", "; ".join(missing))
    return call.config, call.made, says


def optimise(call: Calls, model: Model, options: dict) -> None:
    """IR passes, memory, executor."""
    wanted = options["ir_optimization"]
    call("switch_ir_optim", wanted == "on")
    # PIR takes no notice of the switch: the level does it.
    if model.pir and wanted == "off":
        call("set_optimization_level", 0)
    new_executor = options["new_executor"]
    if options["memory_optimization"]:
        call("enable_memory_optim")
        # PIR has no such pass, and without the new executor create_predictor throws for want of it.
        new_executor = new_executor or model.pir
    if new_executor:
        call("enable_new_executor")


def device(call: Calls, gpu: dict | None) -> list[str]:
    """CPU or GPU; what is missing for it. A CPU build logs an error and goes on with the CPU."""
    if gpu is None:
        call("disable_gpu")
        return []
    precision = [] if gpu["precision"] == "fp32" else [PRECISION[gpu["precision"]]]
    call("enable_use_gpu", gpu["memory_mb"], gpu["device"], *precision)
    if call.config.use_gpu():
        return []
    return ["enable_use_gpu had no effect"]


def onednn(call: Calls, precision: str) -> list[str]:
    """oneDNN kernels and their precision."""
    if precision == "off":
        call("disable_mkldnn")
        return []
    call("enable_mkldnn")
    if not call.config.mkldnn_enabled():
        return ["enable_mkldnn had no effect"]
    if precision == "bf16":
        call("enable_mkldnn_bfloat16")
    elif precision == "int8":
        call("enable_mkldnn_int8")
    return []


def tensorrt(call: Calls, options: dict, cache: str) -> list[str]:
    """TensorRT with its shapes and the operators kept out of it. A CPU build takes most of these calls
    in silence, so what it answers is compared with what was asked."""
    missing, config = [], call.config
    try:
        call(
            "enable_tensorrt_engine",
            workspace_size=options["workspace_mb"] << 20,
            max_batch_size=options["max_batch_size"],
            min_subgraph_size=options["min_subgraph_size"],
            precision_mode=PRECISION[options["precision"]],
            use_static=options["use_static"],
            use_calib_mode=options["use_calib_mode"],
        )
    except RuntimeError as error:
        missing.append(" ".join(str(error).split()))
    shaped = options["shapes"] is not None or bool(options["profile"])
    if options["shapes"] is not None:
        # Paddle takes a file that is not there in silence.
        if not os.path.exists(options["shapes"]):
            raise Refusal(
                "failed",
                f"the shape file {options['shapes']} is not there: `inferdiff shapes --emit paddle` makes one",
            )
        call("enable_tuned_tensorrt_dynamic_shape", options["shapes"], options["allow_build_at_runtime"])
    elif options["profile"]:
        ranges = ({n: p[which] for n, p in options["profile"].items()} for which in ("min", "max", "opt"))
        call("set_trt_dynamic_shape_info", *ranges)
    if options["disabled_ops"]:
        call("exp_disable_tensorrt_ops", options["disabled_ops"])
    if options["use_static"]:
        call("set_optim_cache_dir", cache)
    if not missing and not config.tensorrt_engine_enabled():
        missing.append("enable_tensorrt_engine had no effect")
    if not missing and shaped and not (
        config.tensorrt_dynamic_shape_enabled() or config.tuned_tensorrt_dynamic_shape()
    ):
        missing.append("Paddle does not know of the dynamic shapes that it was given")
    return missing


def answers(config) -> dict:  # noqa: ANN001 - Paddle's own type
    """What the Config says of itself. An echo, unless it contradicts what was asked."""
    return {
        "ir_optim": config.ir_optim(),
        "onednn": config.mkldnn_enabled(),
        "gpu": config.use_gpu(),
        "tensorrt": config.tensorrt_engine_enabled(),
        "threads": config.cpu_math_library_num_threads(),
    }
