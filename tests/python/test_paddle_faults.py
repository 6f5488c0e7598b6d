"""What replay makes of faults: planted ones by the guide's order, deaths, models that are none."""

import shutil

import pytest
from conftest import rows
from paddle_support import CASES, DIGITS, ROOT, python, replay, written
from test_paddle_encoder import MODELS, sentences  # noqa: F401 - a fixture

# The answers recorded before a sound endpoint are the training side's.
GUIDE = """
    [[stage]]
    name = "training-side"
    runtime = "recorded"
    [[stage]]
    name = "off"
    runtime = "paddle"
    [stage.outputs]
    fetch_name_0 = { from = 0 }
    [[stage]]
    name = "executor"
    inherits = "off"
    engine = "executor"
    [[stage]]
    name = "memory"
    inherits = "off"
    memory_optimization = true
    [[stage]]
    name = "ir"
    inherits = "off"
    ir_optimization = "on"
    onednn = "fp32"
"""


@pytest.mark.parametrize(("version", "form"), CASES)
@pytest.mark.parametrize(
    ("fault", "classes"),
    [
        (None, []),
        ("operator", ["operator_implementation"]),
        ("engine", ["inference_engine"]),
        ("memory", ["framework"]),
        ("ir", ["optimizer_pass"]),
    ],
)
def test_planted_faults_are_classified(sentences, tmp_path, version, form, fault, classes) -> None:  # noqa: F811
    if (version, form) != ("3.3.1", "json") and fault in ("memory", "ir"):
        pytest.skip("the rule is the same; the layer is shown on one generation")
    ladder = written(tmp_path, GUIDE)
    model = ("--model", MODELS[form], "--python", python(version), "--limit", "12")
    run = replay(sentences, tmp_path / "run", ladder, *model, fault=fault)
    assert [f["class"] for f in run.verdicts["faults"]] == classes, run.verdicts["faults"]
    if fault == "ir":
        assert "fc_onednn_enable_pass" in run.verdicts["faults"][0]["why"]


def test_a_worker_killed_at_exchange_37_is_named_and_the_rest_is_judged(sentences, tmp_path) -> None:  # noqa: F811
    text = """
        [[stage]]
        name = "training-side"
        runtime = "recorded"
        [[stage]]
        name = "off"
        runtime = "paddle"
    """
    (row,) = [r for r in rows(sentences) if r["seq"] == 37]
    (ids,) = [t["data"] for t in row["inputs"] if t["name"] == "ids"]
    model = ("--model", MODELS["json"], "--python", python("3.3.1"), "--limit", "40")
    ladder = written(tmp_path, text)
    run = replay(sentences, tmp_path / "run", ladder, *model, fault="kill", bits=ids)
    stage = run.stages["off"]
    assert stage["outcomes"] == {"compared": 39, "stage_failed": 1}
    (named,) = stage["named"]
    assert named["id"].endswith("-37")
    assert "signal 9 (SIGKILL)" in named["why"]
    (output,) = stage["outputs"]
    assert (output["items"], output["bit_equal"]) == (40, 39)


BAD = {
    "other generation": ("2.6.2", "digits.json", "a model of Paddle 3 (PIR)"),
    "no parameters": ("3.3.1", "alone.json", "the parameter file"),
    "no parameters, old": ("2.6.2", "alone.pdmodel", "the parameter file"),
    "empty": ("3.3.1", "empty.json", "is empty"),
    "no model": ("3.3.1", "text.json", "no model of Paddle 3"),
    "no model, old": ("2.6.2", "text.pdmodel", "text.pdmodel"),
    "no model, old, in 3": ("3.3.1", "text.pdmodel", "text.pdmodel"),
    "ONNX": ("3.3.1", "digits.onnx", "must end in .json or .pdmodel"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_model_is_said(sentences, tmp_path, name) -> None:  # noqa: F811
    version, file, words = BAD[name]
    shutil.copy(DIGITS["json"], tmp_path / "digits.json")
    shutil.copy(DIGITS["json"], tmp_path / "alone.json")
    shutil.copy(DIGITS["pdmodel"], tmp_path / "alone.pdmodel")
    for other in ("text.json", "text.pdmodel", "digits.onnx"):
        (tmp_path / other).write_text("no model at all\n")
    (tmp_path / "empty.json").write_text("")
    text = f"""
        [[stage]]
        name = "training-side"
        runtime = "recorded"
        [[stage]]
        name = "bad"
        runtime = "paddle"
        model = "{file}"
    """
    more = ("--python", python(version), "--limit", "3")
    run = replay(sentences, tmp_path / "run", written(tmp_path, text), *more)
    assert run.verdict("bad") == "failed", run.said
    assert words in run.reason("bad"), run.reason("bad")
    assert run.code == 4


def test_an_interpreter_without_paddle_is_unavailable(sentences, tmp_path) -> None:  # noqa: F811
    text = f"""
        [[stage]]
        name = "training-side"
        runtime = "recorded"
        [[stage]]
        name = "bare"
        runtime = "paddle"
        model = "{MODELS["json"]}"
        python = "{ROOT / ".venv/bin/python"}"
    """
    run = replay(sentences, tmp_path / "run", written(tmp_path, text), "--limit", "3")
    assert run.verdict("bare") == "unavailable", run.said
    assert "No module named 'paddle'" in run.reason("bare")
    missing = written(tmp_path, text.replace(".venv/bin/python", "no/such/python"))
    assert replay(sentences, tmp_path / "none", missing, "--limit", "3").code == 2
