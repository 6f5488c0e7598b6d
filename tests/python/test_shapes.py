"""Shape profiles as their readers read them."""

import subprocess

from conftest import binary
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from test_readers import record, serve, traffic


def shape_range_infos():
    """paddle.inference.proto.ShapeRangeInfos, from its published schema."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="shape_range_info.proto", package="paddle.inference.proto", syntax="proto2"
    )
    outer = file.message_type.add(name="ShapeRangeInfos")
    inner = outer.nested_type.add(name="ShapeRangeInfo")
    inner.field.add(
        name="name", number=1, type=field.TYPE_STRING, label=field.LABEL_REQUIRED
    )
    names = ("min_shape", "max_shape", "opt_shape", "min_value", "max_value", "opt_value")
    for number, name in enumerate(names, 2):
        inner.field.add(
            name=name, number=number, type=field.TYPE_INT32, label=field.LABEL_REPEATED
        )
    outer.field.add(
        name="shape_range_info",
        number=1,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_REPEATED,
        type_name=".paddle.inference.proto.ShapeRangeInfos.ShapeRangeInfo",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    name = "paddle.inference.proto.ShapeRangeInfos"
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))()


def test_profiles_of_real_requests(programs, tmp_path) -> None:
    capture = tmp_path / "capture"
    recorder, address = record(programs, serve(programs), capture)
    traffic(address, "--limit", "10")
    programs.stop(recorder)

    def shapes(emit: str) -> str:
        command = [binary(), "shapes", str(capture), "--emit", emit]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    parsed = text_format.Parse(shapes("paddle"), shape_range_infos())
    (info,) = parsed.shape_range_info
    assert info.name == "image"
    assert list(info.min_shape) == list(info.opt_shape) == list(info.max_shape) == [1, 1, 8, 8]
    assert shapes("trtexec").split() == [
        f"--{which}Shapes=image:1x1x8x8" for which in ("min", "opt", "max")
    ]
    assert shapes("onnxruntime").splitlines() == [
        f"trt_profile_{which}_shapes=image:1x1x8x8" for which in ("min", "opt", "max")
    ]
