#!/usr/bin/env python3
"""Makes the small ONNX models of replay's tests (replay/tests/models/).

Each is a few kB and exists for one property of the runtime; the tests say which. The weights come
from a fixed seed, so that a second run gives the same files.

    python scripts/make_test_models.py        # needs: onnx, numpy (scripts/requirements-fixtures.txt)
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

FOLDER = Path(__file__).resolve().parent.parent / "replay" / "tests" / "models"
RANDOM = np.random.default_rng(20240607)

# By Open Inference Protocol name: what Identity passes through unchanged.
DATATYPES = {
    "BOOL": T.BOOL,
    "UINT8": T.UINT8,
    "UINT16": T.UINT16,
    "UINT32": T.UINT32,
    "UINT64": T.UINT64,
    "INT8": T.INT8,
    "INT16": T.INT16,
    "INT32": T.INT32,
    "INT64": T.INT64,
    "FP16": T.FLOAT16,
    "BF16": T.BFLOAT16,
    "FP32": T.FLOAT,
    "FP64": T.DOUBLE,
}


def weights(*shape, scale=1.0):
    return (RANDOM.standard_normal(shape) * scale).astype(np.float32)


def value(name, datatype, shape):
    return helper.make_tensor_value_info(name, datatype, shape)


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs, [output], name=f"{operator}_{output}", **attributes)


def save(name, nodes, inputs, outputs, initializers=None, check=True):
    constants = [
        numpy_helper.from_array(np.asarray(array), key)
        for key, array in (initializers or {}).items()
    ]
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    # Fixed versions: the files must not change with the installed onnx.
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="inferdiff"
    )
    if check:
        onnx.checker.check_model(model, full_check=True)
    path = FOLDER / f"{name}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{path.name}: {path.stat().st_size} bytes")


def conv_bn_relu():
    """A rewrite rule (ConvBNFusion), a fusion and a layout change act on it."""
    nodes = [
        node("Conv", ["x", "w"], "conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("BatchNormalization", ["conv", "s", "b", "m", "v"], "normal"),
        node("Relu", ["normal"], "relu"),
        node("GlobalAveragePool", ["relu"], "pool"),
        node("Flatten", ["pool"], "y", axis=1),
    ]
    constants = {
        "w": weights(8, 3, 3, 3, scale=0.3),
        "s": np.abs(weights(8)) + np.float32(0.5),
        "b": weights(8),
        "m": weights(8),
        "v": np.abs(weights(8)) + np.float32(0.3),
    }
    x, y = value("x", T.FLOAT, ["batch", 3, 8, 8]), value("y", T.FLOAT, ["batch", 8])
    save("conv_bn_relu", nodes, [x], [y], constants)


def gelu_layernorm():
    """Two decomposed functions that fusions of level extended put together."""
    nodes = [
        node("MatMul", ["x", "w"], "product"),
        node("Div", ["product", "root2"], "scaled"),
        node("Erf", ["scaled"], "erf"),
        node("Add", ["erf", "one"], "shifted"),
        node("Mul", ["product", "shifted"], "twice"),
        node("Mul", ["twice", "half"], "gelu"),
        node("ReduceMean", ["gelu"], "mean", axes=[-1], keepdims=1),
        node("Sub", ["gelu", "mean"], "centred"),
        node("Pow", ["centred", "two"], "squared"),
        node("ReduceMean", ["squared"], "variance", axes=[-1], keepdims=1),
        node("Add", ["variance", "epsilon"], "above_zero"),
        node("Sqrt", ["above_zero"], "deviation"),
        node("Div", ["centred", "deviation"], "normal"),
        node("Mul", ["normal", "gain"], "gained"),
        node("Add", ["gained", "bias"], "y"),
    ]
    constants = {
        "w": weights(8, 16, scale=0.4),
        "root2": np.float32(1.4142135381698608),
        "one": np.float32(1),
        "half": np.float32(0.5),
        "two": np.float32(2),
        "epsilon": np.float32(1e-5),
        "gain": weights(16),
        "bias": weights(16),
    }
    x, y = value("x", T.FLOAT, ["batch", 8]), value("y", T.FLOAT, ["batch", 16])
    save("gelu_layernorm", nodes, [x], [y], constants)


def mixed_inputs():
    """Three inputs, one 0-D and one INT64; a 0-D and an INT64 output; a static dimension."""
    nodes = [
        node("Mul", ["x", "scale"], "y"),
        node("ReduceSum", ["y"], "total", keepdims=0),
        node("Add", ["ids", "ids"], "doubled"),
    ]
    inputs = [
        value("x", T.FLOAT, ["batch", 4]),
        value("scale", T.FLOAT, []),
        value("ids", T.INT64, ["batch"]),
    ]
    outputs = [
        value("y", T.FLOAT, ["batch", 4]),
        value("total", T.FLOAT, []),
        value("doubled", T.INT64, ["batch"]),
    ]
    save("mixed_inputs", nodes, inputs, outputs)


def identities():
    """Every numeric datatype, through and out again: bits must not change."""
    shape = ["rows", "columns"]
    nodes = [node("Identity", [name], f"{name}_out") for name in DATATYPES]
    inputs = [value(name, datatype, shape) for name, datatype in DATATYPES.items()]
    outputs = [value(f"{name}_out", datatype, shape) for name, datatype in DATATYPES.items()]
    save("identities", nodes, inputs, outputs)


def strings():
    """Strings through and out again."""
    nodes = [node("Identity", ["text"], "text_out")]
    save("strings", nodes, [value("text", T.STRING, ["n"])], [value("text_out", T.STRING, ["n"])])


def relu():
    """Nothing in it can be optimised: every pass runs, none acts."""
    x, y = value("x", T.FLOAT, ["batch", 4]), value("y", T.FLOAT, ["batch", 4])
    save("relu", [node("Relu", ["x"], "y")], [x], [y])


def relu_with(name, *extra):
    """Relu of its input, plus whatever the nodes call `extra`."""
    nodes = [node("Relu", ["x"], "clean"), *extra, node("Add", ["clean", "extra"], "y")]
    x, y = value("x", T.FLOAT, ["batch", 4]), value("y", T.FLOAT, ["batch", 4])
    save(name, nodes, [x], [y])


def relu_noise():
    """Other noise in every process and every predictor."""
    relu_with("relu_noise", node("RandomNormalLike", ["x"], "extra", scale=1e-3))


def relu_memory():
    """The same noise in every process, but other noise with every request: its answer depends on
    how many came before."""
    relu_with("relu_memory", node("RandomNormalLike", ["x"], "extra", scale=1e-3, seed=7.0))


def relu_crowd():
    """Relu where a row is alone; among others each row is moved by their mean."""
    mean = node("ReduceMean", ["x"], "mean", axes=[0], keepdims=1)
    relu_with("relu_crowd", mean, node("Sub", ["x", "mean"], "extra"))


def relu_negative():
    """Another answer: the largest becomes the smallest."""
    x, y = value("x", T.FLOAT, ["batch", 4]), value("y", T.FLOAT, ["batch", 4])
    save("relu_negative", [node("Neg", ["x"], "minus"), node("Relu", ["minus"], "y")], [x], [y])


def sequence():
    """Its output is a sequence, which the protocol cannot carry."""
    out = helper.make_tensor_sequence_value_info("parts", T.FLOAT, None)
    nodes = [node("SequenceConstruct", ["x", "x"], "parts")]
    save("sequence", nodes, [value("x", T.FLOAT, ["n"])], [out])


def unknown_rank():
    """It says no shape at all: any rank fits."""
    x, y = value("x", T.FLOAT, None), value("y", T.FLOAT, None)
    # The checker wants a shape; exporters leave it out and ONNX Runtime takes that.
    save("unknown_rank", [node("Relu", ["x"], "y")], [x], [y], check=False)


def six():
    """Opens, and fails at run time for every input that has not six elements."""
    nodes = [node("Reshape", ["x", "shape"], "y")]
    x, y = value("x", T.FLOAT, ["n"]), value("y", T.FLOAT, [2, 3])
    save("six", nodes, [x], [y], {"shape": np.array([2, 3], dtype=np.int64)})


PLANTED_INPUTS = [
    ("x", T.FLOAT, ["batch", 4]),
    ("divisor", T.FLOAT, ["batch", 1]),
    ("trips", T.INT64, ["batch", 1]),
    ("length", T.INT64, ["batch", 1]),
]


def planted():
    """y = x, in a way that each input can spoil: NaN where `divisor` is 0, endless where `trips` is
    large, out of memory where `length` is, an error of the engine where the rows are odd."""
    body = helper.make_graph(
        [node("Identity", ["go"], "go_on"), node("Mul", ["kept", "unit"], "kept_on")],
        "body",
        [value("i", T.INT64, []), value("go", T.BOOL, []), value("kept", T.FLOAT, None)],
        [value("go_on", T.BOOL, []), value("kept_on", T.FLOAT, None)],
        [numpy_helper.from_array(np.float32(1), "unit")],
    )
    nodes = [
        # Powers of two: exact, so that without a fault every bit is x's.
        node("Mul", ["x", "divisor"], "product"),
        node("Div", ["product", "divisor"], "quotient"),
        node("Reshape", ["quotient", "pairs"], "paired"),
        node("Reshape", ["paired", "single"], "unpaired"),
        node("ReduceMax", ["trips"], "most_trips", keepdims=0),
        node("Loop", ["most_trips", "", "unpaired"], "looped", body=body),
        node("ReduceMax", ["length"], "longest", keepdims=0),
        node("Unsqueeze", ["longest", "first"], "size"),
        node("Expand", ["zero", "size"], "zeros"),
        node("ReduceSum", ["zeros"], "nothing", keepdims=0),
        node("Add", ["looped", "nothing"], "y"),
    ]
    constants = {
        "pairs": np.array([-1, 2, 4], dtype=np.int64),
        "single": np.array([-1, 4], dtype=np.int64),
        "first": np.array([0], dtype=np.int64),
        "zero": np.zeros(1, dtype=np.float32),
    }
    inputs = [value(*i) for i in PLANTED_INPUTS]
    save("planted", nodes, inputs, [value("y", T.FLOAT, ["batch", 4])], constants)


def planted_reference():
    """y = x, whatever the other inputs say: what `planted` is compared with."""
    inputs = [value(*i) for i in PLANTED_INPUTS]
    y = value("y", T.FLOAT, ["batch", 4])
    save("planted_reference", [node("Identity", ["x"], "y")], inputs, [y])


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    conv_bn_relu()
    gelu_layernorm()
    mixed_inputs()
    identities()
    strings()
    relu()
    relu_noise()
    relu_memory()
    relu_crowd()
    relu_negative()
    sequence()
    unknown_rank()
    six()
    planted()
    planted_reference()
