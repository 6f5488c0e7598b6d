"""Changes one weight or attribute of a case's model, so that a replay has something to find."""

from dataclasses import dataclass

import numpy as np
import onnx
from cases import Case, Value
from engine import run, same
from onnx import AttributeProto, TensorProto, helper, numpy_helper

# Attributes whose whole range is 0 and 1, and those that scale a result.
SWITCHES = {"keepdims", "exclusive", "reverse", "fmod", "select_last_index", "largest", "sorted", "count_include_pad"}
SUFFIX = "__changed"


@dataclass(frozen=True)
class Change:
    """A changed model, in what, and whether ONNX Runtime's Python API answers other bits."""

    what: str
    model: bytes
    changes_bits: bool


def change(case: Case, before: list[np.ndarray]) -> Change | None:
    """The first change that opens and runs; None where nothing of the model can be changed so. `before`:
    the unchanged model's answers."""
    for what, model in [*attributes(case), *weights(case)]:
        after = run(model, case)
        if after is not None:
            return Change(what, model, any(not same(a, b) for a, b in zip(before, after, strict=True)))
    return None


def attributes(case: Case):  # noqa: ANN201 - a generator of pairs
    """The model with one attribute of one node changed."""
    count = len(onnx.load(case.model).graph.node)
    for i in range(count):
        for j in range(len(onnx.load(case.model).graph.node[i].attribute)):
            model = onnx.load(case.model)
            attribute = model.graph.node[i].attribute[j]
            if altered(attribute):
                yield f"attribute {attribute.name} of {model.graph.node[i].op_type}", model.SerializeToString()


def altered(a: AttributeProto) -> bool:
    """Changes the attribute in place, if it is one that may take another value."""
    if a.type == AttributeProto.FLOAT:
        a.f = a.f * 1.5 + 0.25
    elif a.type == AttributeProto.FLOATS and a.floats:
        a.floats[0] = a.floats[0] * 1.5 + 0.25
    elif a.type == AttributeProto.INT and a.name in SWITCHES and a.i in (0, 1):
        a.i = 1 - a.i
    elif a.type == AttributeProto.TENSOR and a.name == "value" and a.t.data_type in (TensorProto.FLOAT, TensorProto.DOUBLE):
        array = numpy_helper.to_array(a.t).copy()
        if array.size == 0:
            return False
        array.ravel()[0] = array.ravel()[0] * 1.5 + 0.25
        a.t.CopyFrom(numpy_helper.from_array(array, a.t.name))
    else:
        return False
    return True


def weights(case: Case):  # noqa: ANN201 - a generator of pairs
    """The model with one element of one input changed on its way in. The suite passes weights as
    inputs, the last one is the likeliest weight; numbers that are shapes or indices come last."""
    floats = [v for v in reversed(case.inputs) if v.datatype in ("FP16", "BF16", "FP32", "FP64")]
    others = [v for v in reversed(case.inputs) if v not in floats and v.datatype != "BYTES"]
    for v in [*floats, *others]:
        at = element(v)
        if at is None:
            continue
        model = onnx.load(case.model)
        delta = np.zeros(v.array.shape, dtype=v.array.dtype)
        delta.reshape(-1)[at] = True if v.datatype == "BOOL" else 1
        constant = numpy_helper.from_array(delta, v.name + "__delta")
        model.graph.initializer.append(constant)
        for node in model.graph.node:
            redirect(node, v.name)
        operator = "Xor" if v.datatype == "BOOL" else "Add"
        node = helper.make_node(operator, [v.name, constant.name], [v.name + SUFFIX], name="change")
        model.graph.node.insert(0, node)
        yield f"element {at} of input {v.name}", model.SerializeToString()


def element(v: Value) -> int | None:
    """An element that one more makes another: finite and not so large that 1 is lost."""
    flat = v.array.reshape(-1).astype(np.float64)
    fit = np.flatnonzero(np.isfinite(flat) & (np.abs(flat) < 100))
    return int(fit[len(fit) // 2]) if fit.size else None


def redirect(node: onnx.NodeProto, name: str) -> None:
    """Every use of the input, those in bodies of loops and branches too, reads the changed one."""
    for i, used in enumerate(node.input):
        if used == name:
            node.input[i] = name + SUFFIX
    for a in node.attribute:
        for graph in [a.g, *a.graphs] if a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) else []:
            if any(v.name == name for v in graph.input):
                continue
            for inner in graph.node:
                redirect(inner, name)
