"""The ONNX project's own evaluator, `onnx.reference.ReferenceEvaluator`: operator by operator, in numpy."""

import ml_dtypes
import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx.reference import ReferenceEvaluator
from onnx_double import double
from tensors import Named
from worker import Refusal

# ONNX's numbers of element types → the Open Inference Protocol's names.
NAMES = {
    "FLOAT": "FP32",
    "DOUBLE": "FP64",
    "FLOAT16": "FP16",
    "BFLOAT16": "BF16",
    "STRING": "BYTES",
}
NARROW = {np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)}


class Engine:
    """One model."""

    def __init__(self) -> None:
        self.evaluator, self.graph, self.outputs = None, None, []
        self.fp64 = self.checked = False

    def open(self, request: dict) -> dict:
        """Opens a stage; answers with versions, the signature and how many tensors were cast."""
        model = load(request["model"])
        self.fp64, self.checked = request["options"]["precision"] == "fp64", False
        inputs = [i for i in model.graph.input if i.name not in {w.name for w in model.graph.initializer}]
        signature = {"inputs": [spec(i) for i in inputs]}
        cast = double(model) if self.fp64 else 0
        self.graph = model.graph
        self.outputs = [spec(o) for o in model.graph.output]
        signature["outputs"] = self.outputs
        try:
            self.evaluator = ReferenceEvaluator(model)
        except Exception as error:
            # An operator that it does not have: what there is to say is its own.
            text = " ".join(str(error).split())
            raise Refusal("unavailable", f"the evaluator refuses the model: {type(error).__name__}: {text}") from error
        versions = {"onnx": onnx.__version__, "numpy": np.__version__}
        return {"versions": versions, "signature": signature, "cast": cast}

    def infer(self, inputs: list[Named]) -> list[Named]:
        """Every output in the model's order."""
        feeds = {one.name: self.taken(one) for one in inputs}
        if self.fp64 and not self.checked:
            self.check(self.evaluator.run(None, dict(feeds), intermediate=True))
        values = self.evaluator.run(None, feeds)
        return [given(declared["name"], value) for declared, value in zip(self.outputs, values)]

    def taken(self, one: Named) -> np.ndarray:
        """An input as the evaluator wants it; numpy shows bfloat16 as u2."""
        array = one.array.view(ml_dtypes.bfloat16) if one.datatype == "BF16" else one.array
        return array.astype(np.float64) if self.fp64 and array.dtype in NARROW else array

    def check(self, results: dict) -> None:
        """An operator of the evaluator that leaves double precision by itself makes the answer no oracle."""
        for node in self.graph.node:
            for name in node.output:
                value = results.get(name)
                if isinstance(value, np.ndarray) and value.dtype in NARROW:
                    raise Refusal(
                        "engine",
                        f"precision = \"fp64\" is not kept: {node.op_type} `{node.name}` answers `{name}` in {value.dtype}",
                    )
        self.checked = True


def load(path: str) -> onnx.ModelProto:
    """Reads a model with its external data."""
    try:
        model = onnx.load(path)
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise Refusal("failed", f"{path} is no ONNX model that can be read: {' '.join(str(error).split())}") from error
    if not model.graph.output:
        raise Refusal("failed", f"{path} is no ONNX model: it has no outputs")
    return model


def spec(info: onnx.ValueInfoProto) -> dict:
    """A declared input or output."""
    kind = info.type.tensor_type
    name = onnx.TensorProto.DataType.Name(kind.elem_type)
    shape = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
    return {
        "name": info.name,
        "datatype": NAMES.get(name, name),
        "shape": shape,
        "unknown_rank": not kind.HasField("shape"),
    }


def given(name: str, value: object) -> Named:
    """An output as a frame carries it."""
    if isinstance(value, (list, tuple, dict)) or value is None:
        raise Refusal("engine", f"output `{name}` is no tensor")
    array = np.asarray(value)
    if array.dtype == ml_dtypes.bfloat16:
        return Named(name, array.view("<u2"), "BF16")
    return Named(name, array, "BYTES" if array.dtype.kind in "OUS" else None)
