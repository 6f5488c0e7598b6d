"""The runtime `onnx-reference`: ONNX's own evaluator beside ONNX Runtime, on the digits network."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import FIXTURE, ROOT, Programs, binary, rows
from onnx import numpy_helper
from paddle_support import Run, python, replay, written
from test_readers import record, traffic

MODEL = FIXTURE / "digits.fp32.onnx"
DIGITS = 24


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Digits with the answers of a sound endpoint."""
    folder = tmp_path_factory.mktemp("digits")
    programs = Programs(folder)
    args = ("serve", "--model", str(MODEL), "--model-name", "digits", "--listen", "127.0.0.1:0")
    recorder, address = record(programs, programs.start(*args)[1], folder / "capture")
    assert traffic(address, "--limit", str(DIGITS)) == DIGITS
    programs.stop(recorder)
    yield folder / "capture"
    programs.close()


def stages(*named: tuple[str, str, str]) -> str:
    """A ladder: name, runtime, further keys."""
    one = '[[stage]]\nname = "{}"\nruntime = "{}"\n{}\n'
    return "".join(one.format(*each) for each in named)


def run(capture: Path, folder: Path, ladder: str, model: Path = MODEL) -> Run:
    """Replays it."""
    return replay(capture, folder / "run", written(folder, ladder), "--model", model)


def planted(monkeypatch: pytest.MonkeyPatch, fault: str, bits: bytes = b"") -> None:
    """See onnx_layer."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/python/onnx_layer"))
    monkeypatch.setenv("ONNX_FAULT", fault)
    monkeypatch.setenv("ONNX_FAULT_BITS", bits.hex())


ORT = ("reference", "onnxruntime", "")
EVALUATOR = ("evaluator", "onnx-reference", "")
FP64 = ("fp64", "onnx-reference", 'precision = "fp64"')
TRAINING = ("training-side", "recorded", "")


def test_it_agrees_with_onnx_runtime_within_the_tolerance(digits, tmp_path) -> None:
    ended = run(digits, tmp_path, stages(ORT, EVALUATOR, FP64))
    for stage in ("evaluator", "fp64"):
        assert ended.verdict(stage) == "equivalent", ended.said
        assert 0 < ended.max_abs(stage) < 5e-5
        assert ended.stages[stage]["outcomes"] == {"compared": DIGITS}
    assert ended.verdicts["faults"] == []
    evidence = ended.evidence("evaluator")
    assert evidence["version"].startswith(f"onnx {onnx.__version__}, numpy ")
    assert evidence["role"] == "evaluator"
    assert {o["datatype"] for o in evidence["signature"]["outputs"]} == {"FP32"}
    assert {o["datatype"] for o in ended.evidence("fp64")["signature"]["outputs"]} == {"FP64"}
    weights = len(onnx.load(MODEL).graph.initializer)
    assert str(weights) in ended.options("fp64")["precision"][1]


def test_double_precision_is_the_oracle_of_both(digits, tmp_path) -> None:
    ended = run(digits, tmp_path, stages(FP64, ORT, EVALUATOR))
    assert ended.verdict("fp64") == "reference", ended.said
    for stage in ("reference", "evaluator"):
        assert ended.verdict(stage) == "equivalent"
        # Rounding of FP32, and no more.
        assert 0 < ended.stages[stage]["outputs"][0]["rel_l2"] < 1e-5
    assert ended.verdicts["faults"] == []


def test_low_precision_is_judged_by_its_error_ratio(digits, tmp_path) -> None:
    half = f'model = "{FIXTURE / "digits.fp16.onnx"}"'
    low = ("half-all", "onnxruntime", half + '\ngraph_optimization = "all"')
    other = ("int8", "onnxruntime", f'model = "{FIXTURE / "digits.int8-bad.onnx"}"\ngraph_optimization = "all"')
    text = stages(FP64, ORT, ("half", "onnxruntime", half), low, other)
    ended = run(digits, tmp_path, text + "[tolerance]\nlogits = { rtol = 1e-6, atol = 1e-7 }\n")
    ratio = {name: s["outputs"][0].get("error_ratio") for name, s in ended.stages.items() if s["outputs"]}
    print(ratio, [s["reason"] for s in ended.stages.values()])
    # Half precision is far beyond that tolerance, and adds nothing to what half precision costs.
    assert (ended.verdict("half"), ratio["half"]) == ("inconclusive", None)
    assert ended.verdict("half-all") == "equivalent", ended.reason("half-all")
    assert ended.stages["half-all"]["basis"] == "error_ratio"
    assert 0 < ratio["half-all"] <= 3
    # A worse network is worse than ONNX Runtime with everything off, by its own error.
    assert ended.verdict("int8") == "inconclusive"
    assert ratio["int8"] == pytest.approx(error(ended, "int8") / error(ended, "reference"))
    assert ratio["int8"] > 1000


def error(ended: Run, stage: str) -> float:
    """Largest relative L2 error of any item."""
    return ended.stages[stage]["outputs"][0]["rel_l2"]


def test_an_operator_that_leaves_double_precision_is_named(digits, tmp_path, monkeypatch) -> None:
    planted(monkeypatch, "narrow")
    ended = run(digits, tmp_path, stages(ORT, FP64))
    assert ended.stages["fp64"]["outcomes"] == {"stage_failed": DIGITS}
    assert "Gemm" in ended.stages["fp64"]["named"][0]["why"]
    assert "is not kept" in ended.stages["fp64"]["named"][0]["why"]


def changed(folder: Path) -> Path:
    """The digits network with a wrong weight."""
    model = onnx.load(MODEL)
    weight = max((w for w in model.graph.initializer if len(w.dims) > 1), key=lambda w: w.dims[0])
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    onnx.save(model, folder / "changed.onnx")
    return folder / "changed.onnx"


@pytest.mark.parametrize(
    ("off", "evaluator", "expected"),
    [
        ("sound", "sound", []),
        ("changed", "changed", ["operator_or_model"]),
        ("changed", "sound", ["inference_engine"]),
    ],
)
def test_faults_are_told_apart(digits, tmp_path, off, evaluator, expected) -> None:
    files = {"sound": MODEL, "changed": changed(tmp_path)}
    own = ("off", "onnxruntime", f'model = "{files[off]}"')
    other = ("evaluator", "onnx-reference", f'model = "{files[evaluator]}"')
    ended = run(digits, tmp_path, stages(TRAINING, own, other))
    assert [f["class"] for f in ended.verdicts["faults"]] == expected, ended.verdicts["faults"]


def test_a_planted_operator_is_a_difference_between_engine_and_evaluator(
    digits, tmp_path, monkeypatch
) -> None:
    planted(monkeypatch, "operator")
    ended = run(digits, tmp_path, stages(ORT, EVALUATOR))
    assert ended.max_abs("evaluator") > 1
    (fault,) = ended.verdicts["faults"]
    assert (fault["class"], fault["stage"]) == ("inference_engine", "reference")
    assert "the independent evaluator `evaluator`" in fault["why"]


def test_a_dead_worker_is_named_and_the_rest_is_judged(digits, tmp_path, monkeypatch) -> None:
    (row,) = [r for r in rows(digits) if r["seq"] == 7]
    planted(monkeypatch, "kill", row["inputs"][0]["data"])
    ended = run(digits, tmp_path, stages(TRAINING, EVALUATOR))
    assert ended.stages["evaluator"]["outcomes"] == {"compared": DIGITS - 1, "stage_failed": 1}
    (named,) = ended.stages["evaluator"]["named"]
    assert named["id"].endswith("-7")
    assert "signal 9 (SIGKILL)" in named["why"]


def test_no_worker_leaves_a_folder_behind(digits, tmp_path, monkeypatch) -> None:
    (row,) = [r for r in rows(digits) if r["seq"] == 7]
    planted(monkeypatch, "kill", row["inputs"][0]["data"])
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    assert run(digits, tmp_path, stages(TRAINING, EVALUATOR)).stages
    assert list(temporary.iterdir()) == []


def foreign(folder: Path) -> Path:
    """A model with an operator of ONNX Runtime's own domain."""
    model = onnx.load(MODEL)
    node = next(n for n in model.graph.node if n.op_type == "Relu")
    node.op_type, node.domain = "QuickGelu", "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, folder / "foreign.onnx")
    return folder / "foreign.onnx"


def test_an_operator_that_it_lacks_is_said_in_its_own_words(digits, tmp_path) -> None:
    ended = run(digits, tmp_path, stages(ORT, EVALUATOR), foreign(tmp_path))
    assert ended.verdict("reference") == "reference", ended.said
    assert ended.verdict("evaluator") == "unavailable"
    assert "com.microsoft" in ended.reason("evaluator")
    assert ended.code == 3


def test_what_cannot_be_opened_is_an_outcome_of_its_stage(digits, tmp_path) -> None:
    (tmp_path / "text.onnx").write_text("no model at all\n")
    (tmp_path / "empty.onnx").write_text("")
    bare = ("bare", "onnx-reference", f'python = "{python("3.3.1")}"')
    bad = [(n, "onnx-reference", f'model = "{tmp_path / n}.onnx"') for n in ("text", "empty")]
    ended = run(digits, tmp_path, stages(TRAINING, *bad, bare))
    for name in ("text", "empty"):
        assert ended.verdict(name) == "failed", ended.said
        assert "no ONNX model" in ended.reason(name)
    assert ended.verdict("bare") == "unavailable"
    assert "No module named" in ended.reason("bare")


def test_doctor_looks_at_it() -> None:
    command = [binary(), "doctor", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    runtimes = json.loads(ended.stdout)["runtimes"]
    (needs,) = [r["needs"] for r in runtimes if r["runtime"] == "onnx-reference"]
    assert all(n["found"] for n in needs)
    assert np.__version__ in next(n["words"] for n in needs if n["what"] == "numpy")
