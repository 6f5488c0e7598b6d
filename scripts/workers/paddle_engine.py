"""Paddle Inference, and the training forward pass beside it (`paddle.static.Executor`)."""

import contextlib
import os
import tempfile

# Hits of passes are INFO lines of glog.
os.environ["GLOG_minloglevel"] = "0"

import numpy as np
import paddle
from paddle import inference
from paddle_configure import configure
from paddle_model import Model, old_ir
from tensors import Named
from worker import Refusal


class Engine:
    """One model under one configuration."""

    def __init__(self) -> None:
        self.ask = None
        # OpenVINO's engine and TensorRT write beside the working directory otherwise. Whoever started
        # this process owns the folder and removes it.
        self.cache = tempfile.gettempdir()

    def open(self, request: dict) -> dict:
        """Opens a stage; answers with what was called, what Paddle says of it, and the signature."""
        options = request["options"]
        model = Model(request["model"], options["params"])
        answers = {"versions": versions(), "pir": model.pir, "calls": [], "says": {}}
        answers["signature"] = {"inputs": model.inputs, "outputs": model.outputs}
        if options["engine"] == "executor":
            self.ask = Executor(model).run
        else:
            predictor = Predictor(model, options, self.cache)
            answers["calls"], answers["says"] = predictor.calls, predictor.says
            self.ask = predictor.run
        return answers

    def infer(self, inputs: list[Named]) -> list[Named]:
        """Every output in the model's order, under the model's names."""
        return self.ask(inputs)


def versions() -> dict:
    """Versions and what this build has."""
    return {
        "paddle": paddle.__version__,
        "commit": paddle.version.commit,
        "cuda": paddle.version.cuda(),
        "cudnn": paddle.version.cudnn(),
        "tensorrt": list(inference.get_trt_compile_version()),
        "tensorrt_runtime": list(inference.get_trt_runtime_version()),
    }


class Predictor:
    """Paddle Inference."""

    def __init__(self, model: Model, options: dict, cache: str) -> None:
        self.model = model
        config, self.calls, self.says = configure(model, options, cache)
        try:
            self.predictor = inference.create_predictor(config)
        except Exception as error:
            raise Refusal("failed", f"create_predictor: {' '.join(str(error).split())}") from error
        self.inputs = {n: self.predictor.get_input_handle(n) for n in self.predictor.get_input_names()}
        self.outputs = [self.predictor.get_output_handle(n) for n in self.predictor.get_output_names()]
        if len(self.outputs) != len(model.outputs):
            raise Refusal(
                "failed",
                f"the predictor has {len(self.outputs)} outputs, the model declares {len(model.outputs)}",
            )

    def run(self, inputs: list[Named]) -> list[Named]:
        """Outputs are matched by index: PIR renames them."""
        for one in inputs:
            self.inputs[one.name].copy_from_cpu(np.ascontiguousarray(one.array))
        self.predictor.run()
        return [
            Named(declared["name"], handle.copy_to_cpu(), bfloat(declared))
            for declared, handle in zip(self.model.outputs, self.outputs)
        ]


class Executor:
    """The training forward pass: operators one by one, no inference engine."""

    def __init__(self, model: Model) -> None:
        if model.parameters not in (None, model.prefix + ".pdiparams"):
            raise Refusal("failed", "engine = \"executor\" finds parameters beside the model only: leave out `params`")
        self.model, self.scope = model, paddle.static.Scope()
        self.executor = paddle.static.Executor(paddle.CPUPlace())
        with paddle.static.scope_guard(self.scope), self.guard():
            self.program, self.feeds, self.fetches = paddle.static.load_inference_model(model.prefix, self.executor)

    def guard(self):  # noqa: ANN201 - a context manager
        """Both formats may lie side by side: the guard chooses."""
        return contextlib.nullcontext() if self.model.pir else old_ir()

    def run(self, inputs: list[Named]) -> list[Named]:
        """One forward pass."""
        feed = {one.name: np.ascontiguousarray(one.array) for one in inputs}
        with paddle.static.scope_guard(self.scope), self.guard():
            values = self.executor.run(self.program, feed=feed, fetch_list=self.fetches)
        return [Named(d["name"], np.asarray(v), bfloat(d)) for d, v in zip(self.model.outputs, values)]


def bfloat(declared: dict) -> str | None:
    """numpy shows bfloat16 as u2."""
    return "BF16" if declared["datatype"] == "BF16" else None
