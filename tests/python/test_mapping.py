"""`[stage.inputs]` and `[stage.outputs]`: a model that names, types and lays out its tensors
otherwise answers as the reference does."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import FIXTURE
from onnx import TensorProto, helper
from paddle_support import Run, replay, written
from test_align import run

MODEL = FIXTURE / "digits.fp32.onnx"


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    """24 held-out digits, one a request."""
    folder = tmp_path_factory.mktemp("digits")
    saved = folder / "saved"
    saved.mkdir()
    for i, image in enumerate(np.load(FIXTURE / "heldout.npz")["images"][:24]):
        np.savez(saved / f"{i:04}.npz", image=image[None])
    run("captures", "import", saved, "-o", folder / "capture", "--model", "digits")
    return folder / "capture"


def exported(path: Path) -> Path:
    """The digits network as another exporter might write it: pixels as FP64 with channels last, and
    the transposed logits first, as FP64, under another name."""
    model = onnx.load(MODEL)
    graph = model.graph
    (image,), (logits,) = graph.input, graph.output
    before = [
        helper.make_node("Cast", ["pixels"], ["_narrow"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["_narrow"], [image.name], perm=[0, 3, 1, 2]),
    ]
    after = [
        helper.make_node("Cast", [logits.name], ["_wide"], to=TensorProto.DOUBLE),
        helper.make_node("Transpose", ["_wide"], ["scores"], perm=[1, 0]),
    ]
    nodes = [*before, *graph.node, *after]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.DOUBLE, ["n", 8, 8, 1])
    scores = helper.make_tensor_value_info("scores", TensorProto.DOUBLE, [10, "n"])
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(pixels)
    graph.output.append(scores)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


PLAIN = ("--model", MODEL)


def replayed(capture: Path, folder: Path, tables: str) -> Run:
    """The reference, and the other export under `tables`."""
    model = exported(folder / "other.onnx")
    ladder = f"""
[[stage]]
name = "reference"
runtime = "onnxruntime"
[[stage]]
name = "other"
inherits = "reference"
model = "{model}"
{tables}
"""
    return replay(capture, folder / "run", written(folder, ladder), *PLAIN)


INPUTS = """[stage.inputs]
pixels = { from = "image", cast = "FP64", transpose = [0, 2, 3, 1] }
"""


def test_renamed_cast_and_transposed_tensors_give_the_same_bits(capture, tmp_path) -> None:
    outputs = '[stage.outputs]\nlogits = { from = 0, cast = "FP32", transpose = [1, 0] }\n'
    ended = replayed(capture, tmp_path, INPUTS + outputs)
    assert ended.verdict("other") == "identical", ended.reason("other")
    assert ended.stages["other"]["outcomes"] == {"compared": 24}


def test_another_datatype_is_compared_in_double_precision(capture, tmp_path) -> None:
    outputs = '[stage.outputs]\nlogits = { from = "scores", transpose = [1, 0] }\n'
    ended = replayed(capture, tmp_path, INPUTS + outputs)
    # Equal values of another type are no equal bits, and their distance is 0 on the coarser grid.
    assert ended.verdict("other") == "equivalent", ended.reason("other")
    (output,) = ended.stages["other"]["outputs"]
    assert (output["max_abs"], output["max_ulp"]) == (0.0, 0)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ("", "input `pixels` is in no captured request"),
        ("[stage.inputs]\npixels = { from = 0 }\n", "`pixels` must be FP64 of rank 4, captured was FP32 of rank 4"),
        ('[stage.inputs]\npixels = { from = "imag", cast = "FP64" }\n', "did you mean `image`?"),
        (INPUTS + '[stage.outputs]\nlogitz = { from = 0 }\n', "did you mean `logits`?"),
        (INPUTS + '[stage.outputs]\nlogits = { from = "score" }\n', "did you mean `scores`?"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_runs(capture, tmp_path, tables, said) -> None:
    ended = replayed(capture, tmp_path, tables)
    assert (ended.code, ended.verdict("other")) == (4, "failed"), ended.said
    assert said in ended.reason("other")
    assert not list((tmp_path / "run/stages/other").glob("comparisons/*"))


def test_a_reference_that_does_not_fit_ends_the_run(capture, tmp_path) -> None:
    model = exported(tmp_path / "other.onnx")
    ended = replay(capture, tmp_path / "run", "onnxruntime-cpu", "--model", model)
    assert ended.code == 2
    assert "input `pixels` is in no captured request" in ended.said
    assert "the model has no input `image`, it has pixels" in ended.said
