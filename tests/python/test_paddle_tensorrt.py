"""TensorRT's keys on a build without it: everything up to the predictor is asked for, nothing passes for success."""

import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, binary
from paddle_support import CASES, DIGITS, Run, python, replay, written
from test_paddle import digits  # noqa: F401 - a fixture

LADDER = """
    base = "paddle-tensorrt"
    [[stage]]
    name = "kept-out"
    inherits = "tensorrt-fp32"
    optional = true
    [stage.tensorrt]
    precision = "fp32"
    disabled_ops = ["concat"]
    [[stage]]
    name = "by-hand"
    inherits = "tensorrt-fp32"
    optional = true
    [stage.tensorrt]
    precision = "fp16"
    profile.image = {{ min = [1, 1, 8, 8], opt = [4, 1, 8, 8], max = [8, 1, 8, 8] }}
    [[stage]]
    name = "tuned"
    inherits = "tensorrt-fp32"
    optional = true
    [stage.tensorrt]
    precision = "int8"
    shapes = "{shapes}"
"""


def ran(capture: Path, folder: Path, version: str, form: str) -> Run:
    """The ladder with shapes that the capture itself gives."""
    shapes = folder / "shape_range_info.pbtxt"
    command = [binary(), "shapes", capture, "--emit", "paddle", "-o", shapes]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, cwd=ROOT)
    ladder = written(folder, LADDER.format(shapes=shapes))
    return replay(capture, folder / "run", ladder, "--model", DIGITS[form], "--python", python(version))


@pytest.mark.parametrize(("version", "form"), CASES)
def test_shapes_and_operators_kept_out_do_not_pass_for_success(digits, tmp_path, version, form) -> None:  # noqa: F811
    run = ran(digits, tmp_path, version, form)
    assert run.stages, run.said
    stages = [s for s in run.stages if s not in ("reference", "executor", "recorded")]
    assert {"kept-out", "by-hand", "tuned"} <= set(stages)
    for stage in ("kept-out", "by-hand", "tuned"):
        assert run.verdict(stage) == "unavailable", run.reason(stage)
        words = ("Please use PaddlePaddle with GPU version", "please compile with TENSORRT first", "compiled without")
        assert any(w.lower() in run.reason(stage).lower() for w in words), run.reason(stage)
        print(f"{version} {form} {stage}: {run.reason(stage)}")


def test_a_shape_file_that_is_not_there_ends_the_run(digits, tmp_path) -> None:  # noqa: F811
    text = LADDER.format(shapes=tmp_path / "none.pbtxt")
    model = ("--model", DIGITS["json"], "--python", python("3.3.1"))
    refused = replay(digits, tmp_path / "run", written(tmp_path, text), *model)
    assert refused.code == 2
    assert "inferdiff shapes CAPTURE --emit paddle" in refused.said
