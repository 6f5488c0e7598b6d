"""One network in two engines: the digits network in ONNX and in Paddle, captures of both endpoints."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import FIXTURE, Programs
from paddle_support import CASES, DIGITS, LOGITS, python, replay, written
from test_readers import record

ONNX = FIXTURE / "digits.fp32.onnx"
COUNT = 40


def send(address: str) -> None:
    """Digits as JSON, one a request; no output is asked for by name."""
    for image in np.load(FIXTURE / "heldout.npz")["images"][:COUNT]:
        tensor = {"name": "image", "datatype": "FP32", "shape": [1, *image.shape], "data": image.ravel().tolist()}
        body = json.dumps({"inputs": [tensor]}).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"http://{address}/v2/models/digits/infer", body, headers)
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The same digits, sent to an ONNX endpoint and to a Paddle endpoint."""
    folder = tmp_path_factory.mktemp("across")
    programs = Programs(folder)
    off = ("--stage", "reference", "--ladder")
    paddle = (DIGITS["json"], *off, "paddle-cpu", "--python", str(python("3.3.1")))
    served = {"onnx": (ONNX, *off, "onnxruntime-cpu"), "paddle": paddle}
    made = {}
    for engine, (model, *more) in served.items():
        args = ("serve", "--model", str(model), "--model-name", "digits", "--listen", "127.0.0.1:0", *more)
        server, upstream = programs.start(*args)
        recorder, address = record(programs, upstream, folder / engine)
        send(address)
        programs.stop(recorder)
        programs.stop(server)
        made[engine] = folder / engine
    yield made
    programs.close()


def ladder(version: str, form: str, reference: str, logits: str) -> str:
    """Both engines with everything off, names and order mapped."""
    return f"""
        [[stage]]
        name = "production"
        runtime = "recorded"
        [[stage]]
        name = "onnx"
        runtime = "onnxruntime"
        model = "{ONNX}"
        [stage.inputs]
        image = {{ from = 0 }}
        [stage.outputs]
        {reference} = {{ from = "logits" }}
        [[stage]]
        name = "paddle"
        runtime = "paddle"
        model = "{DIGITS[form]}"
        python = "{python(version)}"
        [stage.inputs]
        image = {{ from = 0 }}
        [stage.outputs]
        {reference} = {{ from = "{logits}" }}
    """


@pytest.mark.parametrize(("version", "form"), CASES)
@pytest.mark.parametrize(("recorded", "output"), [("onnx", "logits"), ("paddle", LOGITS["json"])])
def test_each_engine_replays_what_was_recorded_before_the_other(
    captures, tmp_path, recorded, output, version, form
) -> None:
    text = ladder(version, form, output, LOGITS[form])
    run = replay(captures[recorded], tmp_path / "run", written(tmp_path, text))
    other = {"onnx": "paddle", "paddle": "onnx"}[recorded]
    assert run.verdict(other) == "equivalent", run.said
    # Logits of up to 20: differences of the last bits.
    assert 0 < run.max_abs(other) < 5e-5
    print(f"recorded before {recorded}, replayed in {other} ({version}, {form}): {run.max_abs(other):.2e}")
    assert run.stages[other]["outcomes"] == {"compared": COUNT}
    if recorded == "onnx" or (version, form) == ("3.3.1", "json"):
        assert recorded in run.verdicts["production_matches"]
