"""`judge`: other criteria on a finished run give what a fresh replay would give; baselines."""

import json
from pathlib import Path

import duckdb
import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from conftest import FIXTURE, by_halves
from junitparser import JUnitXml
from onnx import TensorProto, numpy_helper
from test_align import run

LADDER = """
[[stage]]
name = "off"
runtime = "onnxruntime"
[[stage]]
name = "all"
inherits = "off"
graph_optimization = "all"
[[stage]]
name = "int8"
inherits = "off"
model = "{model}"
"""


def replayed(tmp_path: Path, name: str, model: str, *more: str, code: int) -> Path:
    """A run of the held-out digits; `model` is the one of the stage `int8`."""
    capture = tmp_path / "capture"
    if not capture.exists():
        saved = tmp_path / "saved"
        saved.mkdir()
        for i, image in enumerate(np.load(FIXTURE / "heldout.npz")["images"]):
            np.savez(saved / f"digit-{i:04}.npz", image=image[None])
        run("captures", "import", saved, "-o", capture, "--model", "digits")
    ladder = tmp_path / f"{name}.toml"
    ladder.write_text(LADDER.format(model=FIXTURE / f"digits.{model}.onnx"))
    folder = tmp_path / name
    run(
        "replay", capture, "--model", FIXTURE / "digits.fp32.onnx", "--ladder", ladder,
        "--run", folder, *more, code=code,
    )
    return folder


LABELS = ("--labels", FIXTURE / "labels.parquet", "--metric", "top1@logits")


@pytest.mark.parametrize(
    "criteria",
    [(*LABELS,), (*LABELS, "--margin", "0.2"), ("--metric", "top1@logits"), ("--metric", "top1@logits", "--margin", "0.3")],
)
def test_other_criteria_give_what_a_fresh_replay_would_give(tmp_path, criteria) -> None:
    plain = replayed(tmp_path, "plain", "int8-bad", code=None)
    judged = json.loads(run("judge", plain, *criteria, "--json", code=None))
    fresh = replayed(tmp_path, "fresh", "int8-bad", *criteria, code=None)
    expected = json.loads((fresh / "verdicts.json").read_text())
    assert judged == expected
    assert judged != json.loads(run("judge", plain, "--json", code=None))


def test_only_what_is_worse_than_the_baseline_fails(tmp_path) -> None:
    good = replayed(tmp_path, "good", "int8", *LABELS, code=None)
    bad = replayed(tmp_path, "bad", "int8-bad", *LABELS, code=1)
    run("judge", bad, *LABELS, code=1)
    said = run("judge", bad, *LABELS, "--baseline", bad)
    assert "int8: affects as before" in said
    files = ("--markdown", tmp_path / "r.md", "--junit", tmp_path / "r.xml")
    said = run("judge", bad, *LABELS, "--baseline", good, *files, code=1)
    assert "int8: WORSE: affects, was" in said
    run("judge", good, *LABELS, "--baseline", bad)
    report = JUnitXml.fromfile(str(tmp_path / "r.xml"))
    assert (report.tests, report.failures, report.errors) == (2, 1, 0)
    (suite,) = report
    failed = [case.name for case in suite if not case.is_passed]
    assert failed == ["int8"]
    text = (tmp_path / "r.md").read_text()
    assert text.startswith("**int8 lowers") and "| int8 | yes | affects, was" in text
    assert len({line.count(" | ") for line in text.splitlines() if line.startswith("| ") and "b/c" in line or "AFFECTS" in line}) == 1
    # Without a baseline the harm itself fails.
    run("judge", bad, *LABELS, "--junit", tmp_path / "alone.xml", code=1)
    alone = JUnitXml.fromfile(str(tmp_path / "alone.xml"))
    assert (alone.tests, alone.failures) == (2, 1)
    assert "--baseline" in run("judge", bad, "--baseline", tmp_path / "none", code=2)


def read_by_strangers(folder: Path) -> None:
    """Every table of a run is the same to pyarrow and DuckDB."""
    for path in folder.glob("**/*.parquet"):
        assert path.read_bytes().startswith(b"PAR1"), path
        by_halves(path)
        rows = pq.read_metadata(path).num_rows
        by_duckdb = duckdb.sql(f"select * from '{path}'").to_arrow_table()
        assert by_duckdb.num_rows == rows
        assert by_duckdb.to_pylist() == pq.read_table(path).to_pylist(), path


def test_strangers_read_the_files_of_a_run(tmp_path) -> None:
    folder = replayed(tmp_path, "run", "int8-bad", code=None)
    tables = {path.relative_to(folder).parts[0]: path for path in folder.glob("**/*.parquet")}
    assert set(tables) == {"requests.parquet", "stages"}
    read_by_strangers(folder)
    requests = pq.read_table(folder / "requests.parquet")
    assert len(set(requests["input_digest"].to_pylist())) > 890
    assert set(requests["shapes"].to_pylist()) == {"image[1,1,8,8]"}
    (answers,) = folder.glob("stages/off/outputs/*.parquet")
    for row in pq.read_table(answers).to_pylist():
        (logits,) = row["outputs"]
        assert (logits["datatype"], logits["shape"], len(logits["data"])) == ("FP32", [1, 10], 40)
    query = f"select count(*), sum(octet_length(outputs[1].data)) from '{answers}'"
    assert duckdb.sql(query).fetchone() == (898, 898 * 40)


def test_strangers_read_answers_of_any_shape_and_none(tmp_path) -> None:
    """Outputs of rank 0, 1 and 2, of which one differs in shape from row to row, and failures between."""
    images = np.random.default_rng(0).random((300, 1, 8), np.float32)
    totals = images.sum(axis=(1, 2))
    limit = int(np.median(totals))
    node, typed = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        node("ReduceSum", ["x"], ["total"], keepdims=0),
        node("Cast", ["total"], ["index"], to=TensorProto.INT64),
        node("Gather", ["table", "index"], ["found"]),
        node("Greater", ["x", "half"], ["larger"]),
        node("NonZero", ["larger"], ["places"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "shapes",
        [typed("x", TensorProto.FLOAT, [1, 8])],
        [typed("found", TensorProto.FLOAT, []), typed("places", TensorProto.INT64, [2, None]), typed("larger", TensorProto.BOOL, [1, 8])],
        [
            numpy_helper.from_array(np.arange(limit, dtype=np.float32), "table"),
            numpy_helper.from_array(np.float32(0.5), "half"),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "shapes.onnx")
    saved = tmp_path / "saved"
    saved.mkdir()
    for i, image in enumerate(images):
        np.savez(saved / f"{i:04}.npz", x=image)
    run("captures", "import", saved, "-o", tmp_path / "capture", "--model", "shapes")
    ladder = tmp_path / "ladder.toml"
    ladder.write_text('[[stage]]\nname = "off"\nruntime = "onnxruntime"\n[[stage]]\nname = "all"\ninherits = "off"\ngraph_optimization = "all"\n')
    folder = tmp_path / "run"
    files = ("--model", tmp_path / "shapes.onnx", "--ladder", ladder, "--run", folder)
    run("replay", tmp_path / "capture", *files, "--keep-outputs", "all", code=None)
    read_by_strangers(folder)
    for stage in ("off", "all"):
        (answers,) = folder.glob(f"stages/{stage}/outputs/*.parquet")
        rows = pq.read_table(answers).sort_by("seq").to_pylist()
        failed = [row["outputs"] is None for row in rows]
        assert failed == [int(total) >= limit for total in totals] and 0 < sum(failed) < 300
        for row, image in zip(rows, images, strict=True):
            if row["outputs"] is None:
                assert "out of data bounds" in row["error"]
                continue
            found, places, larger = row["outputs"]
            expected = np.argwhere(image > 0.5).T
            assert [t["name"] for t in row["outputs"]] == ["found", "places", "larger"]
            assert (found["shape"], found["datatype"]) == ([], "FP32")
            assert np.frombuffer(found["data"], np.float32) == int(image.sum())
            assert places["shape"] == list(expected.shape)
            assert np.array_equal(np.frombuffer(places["data"], np.int64).reshape(expected.shape), expected)
            assert (larger["shape"], larger["parameters"], row["error"]) == ([1, 8], None, None)
