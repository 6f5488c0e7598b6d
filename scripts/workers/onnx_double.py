"""A model in double precision: every weight, constant and declared type that is a float becomes FP64."""

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

DOUBLE = TensorProto.DOUBLE
NARROW = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
# Attributes that name an element type.
TYPES = {"to", "dtype", "output_dtype"}


def double(model: ModelProto) -> int:
    """Changes `model`; returns how many weights and constants were cast."""
    cast = graph(model.graph)
    for function in model.functions:
        cast += sum(node(n) for n in function.node)
        for info in function.value_info:
            declared(info.type)
    return cast


def graph(one: GraphProto) -> int:
    """A graph with its subgraphs."""
    if any(s.values.data_type in NARROW for s in one.sparse_initializer):
        raise ValueError("sparse weights have no form in double precision here")
    cast = sum(tensor(weight) for weight in one.initializer)
    for info in (*one.input, *one.output, *one.value_info):
        declared(info.type)
    return cast + sum(node(n) for n in one.node)


def tensor(one: TensorProto) -> bool:
    """A weight or constant, in place."""
    if one.data_type not in NARROW:
        return False
    one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one).astype(np.float64), one.name))
    return True


def declared(kind: TypeProto) -> None:
    """A declared type, whatever it is a sequence or an option of."""
    if kind.HasField("tensor_type") and kind.tensor_type.elem_type in NARROW:
        kind.tensor_type.elem_type = DOUBLE
    elif kind.HasField("sequence_type"):
        declared(kind.sequence_type.elem_type)
    elif kind.HasField("optional_type"):
        declared(kind.optional_type.elem_type)


def node(one: NodeProto) -> int:
    """An operator: its constants, its subgraphs, the type that it casts to."""
    cast = 0
    for attribute in one.attribute:
        if attribute.type == AttributeProto.TENSOR:
            cast += tensor(attribute.t)
        elif attribute.type == AttributeProto.GRAPH:
            cast += graph(attribute.g)
        elif attribute.type == AttributeProto.INT and attribute.name in TYPES and attribute.i in NARROW:
            attribute.i = DOUBLE
    if one.op_type == "Constant":
        for attribute in one.attribute:
            if attribute.name in ("value_float", "value_floats"):
                value = np.array(helper.get_attribute_value(attribute), np.float64)
                attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(value)))
                cast += 1
    elif one.op_type == "ConstantOfShape" and not one.attribute:
        # It is FP32 where nothing is said.
        zero = numpy_helper.from_array(np.zeros(1, np.float64))
        one.attribute.append(helper.make_attribute("value", zero))
        cast += 1
    return cast
