"""`repro`: a folder that shows a difference with nothing but Python and onnxruntime."""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from conftest import FIXTURE
from onnx import TensorProto, helper
from test_align import run
from test_judge import replayed


def test_a_moved_folder_shows_the_difference(tmp_path) -> None:
    runs = replayed(tmp_path, "run", "int8-bad", code=None)
    folder = tmp_path / "repro"
    said = run("repro", runs, "--stage", "int8", "-o", folder)
    assert "checked: the script shows the difference" in said and " 1 request(s)" in said
    moved = tmp_path / "elsewhere/far"
    shutil.move(folder, moved)
    shutil.rmtree(runs)
    shutil.rmtree(tmp_path / "capture")
    done = subprocess.run(
        [sys.executable, moved / "repro.py"], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 1, done.stderr
    assert "DIFFERENT logits: max |a - b| = " in done.stdout
    # And with inferdiff: its little capture and ladder give the same finding.
    run(
        "replay", moved / "capture", "--ladder", moved / "ladder.toml", "--run", tmp_path / "again",
        code=None,
    )
    verdicts = json.loads((tmp_path / "again/verdicts.json").read_text())
    (stage,) = [s for s in verdicts["stages"] if s["name"] == "int8"]
    assert stage["outputs"][0]["bit_equal"] == 0 and verdicts["requests"] == 1


def test_the_exchange_can_be_named_and_what_is_equal_is_refused(tmp_path) -> None:
    runs = replayed(tmp_path, "run", "int8-bad", code=None)
    done = json.loads(
        run("repro", runs, "--stage", "int8", "--request", "digit-0007", "-o", tmp_path / "a", "--json")
    )
    case = json.loads((tmp_path / "a/repro.json").read_text())
    assert [r["id"] for r in case["requests"]] == ["digit-0007"] and done["checked"] == "shown"
    (tensor,) = case["requests"][0]["inputs"]
    image = np.load(FIXTURE / "heldout.npz")["images"][7]
    assert np.load(tmp_path / "a" / tensor["file"]).tobytes() == image.tobytes()
    said = run("repro", runs, "--stage", "no", "-o", tmp_path / "b", code=2)
    assert "there are off, all, int8" in said
    said = run("repro", runs, "--request", "digit-x", "-o", tmp_path / "b", code=2)
    assert "no exchange `digit-x`" in said
    said = run("repro", runs, "--stage", "int8", "-o", tmp_path / "a", code=2)
    assert "is there already" in said
    run("repro", runs, "--stage", "int8", "-o", tmp_path / "c", "--python", "/no/python", code=3)


@pytest.mark.parametrize("datatype", ["BFLOAT16", "STRING", "FLOAT16"])
def test_inputs_that_numpy_lacks(tmp_path, datatype) -> None:
    """Two models that differ, one input of an odd type."""
    kind = getattr(TensorProto, datatype)
    for name, label in (("a", 1.0), ("b", 2.0)):
        x = helper.make_tensor_value_info("x", kind, [None, 2])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])
        if datatype == "STRING":
            nodes = [
                helper.make_node(
                    "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml",
                    keys_strings=["cat"], values_floats=[label], default_float=0.0,
                )
            ]
        else:
            scale = helper.make_node("Constant", [], ["k"], value_float=label)
            cast = helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)
            nodes = [scale, cast, helper.make_node("Mul", ["f", "k"], ["y"])]
        graph = helper.make_graph(nodes, "g", [x], [y])
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 4)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        onnx.save(model, tmp_path / f"{name}.onnx")
    if datatype == "STRING":
        array = np.array([["cat", "dög"]])
    elif datatype == "FLOAT16":
        array = np.array([[1.5, 2.5]], np.float16)
    else:
        import ml_dtypes

        array = np.array([[1.5, 2.5]], ml_dtypes.bfloat16)
    np.savez(tmp_path / "one.npz", x=array)
    run("captures", "import", tmp_path / "one.npz", "-o", tmp_path / "cap")
    ladder = tmp_path / "l.toml"
    ladder.write_text(
        f'[[stage]]\nname = "a"\nruntime = "onnxruntime"\nmodel = "{tmp_path}/a.onnx"\n'
        f'[[stage]]\nname = "b"\ninherits = "a"\nmodel = "{tmp_path}/b.onnx"\n'
    )
    run("replay", tmp_path / "cap", "--ladder", ladder, "--run", tmp_path / "run", code=None)
    said = run("repro", tmp_path / "run", "-o", tmp_path / "repro")
    assert "DIFFERENT y: max |a - b| = " in said, said
