"""The cases of the ONNX node suite: model, inputs and expected outputs, as a capture can carry them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
from onnx import TensorProto, numpy_helper

FOLDER = Path(onnx.backend.test.__file__).parent / "data" / "node"

# ONNX's element types by their name in the Open Inference Protocol.
DATATYPES = {
    TensorProto.BOOL: "BOOL",
    TensorProto.UINT8: "UINT8",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.INT8: "INT8",
    TensorProto.INT16: "INT16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}


@dataclass(frozen=True)
class Value:
    """A tensor: array, protocol datatype and the bytes that go over the wire."""

    name: str
    datatype: str
    array: np.ndarray
    data: bytes


@dataclass(frozen=True)
class Case:
    """One case of the suite."""

    name: str
    model: Path
    inputs: list[Value]
    outputs: list[Value]


def names() -> list[str]:
    """Every case, sorted."""
    return sorted(p.name for p in FOLDER.iterdir() if (p / "model.onnx").exists())


def foreign(name: str) -> str | None:
    """The first type of the case that a capture cannot carry."""
    graph = onnx.load(FOLDER / name / "model.onnx").graph
    for value in [*graph.input, *graph.output]:
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            return kind.removesuffix("_type")
        element = value.type.tensor_type.elem_type
        if element not in DATATYPES:
            return TensorProto.DataType.Name(element)
    return None


def load(name: str) -> Case:
    """Reads a case."""
    folder = FOLDER / name
    graph = onnx.load(folder / "model.onnx").graph
    values = {}
    for side, declared in (("input", graph.input), ("output", graph.output)):
        values[side] = [
            value(declared[i].name, folder / "test_data_set_0" / f"{side}_{i}.pb") for i in range(len(declared))
        ]
    return Case(name, folder / "model.onnx", values["input"], values["output"])


def value(name: str, path: Path) -> Value:
    """Reads a tensor of a case."""
    tensor = onnx.load_tensor(path)
    array = numpy_helper.to_array(tensor)
    datatype = DATATYPES[tensor.data_type]
    return Value(name, datatype, array, texts(array) if datatype == "BYTES" else array.tobytes())


def texts(array: np.ndarray) -> bytes:
    """Each element as its length (u32, little-endian) and its bytes."""
    each = (t if isinstance(t, bytes) else t.encode() for t in array.ravel().tolist())
    return b"".join(len(t).to_bytes(4, "little") + t for t in each)
