"""The whole way, from a request to a verdict, over answers of our own choice.

The reference answers input `x`, the stage answers input `z`: one recorded capture holds any pair of
answers, and the numbers of the verdict are computed by scikit-learn and NumPy from the same arrays.
"""

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tritonclient.http as triton
from conftest import ROOT, Programs, binary
from onnx import TensorProto, helper
from sklearn import metrics as sk
from test_readers import record

EXCHANGES, ROWS, WIDTH = 90, 3, 5


def select(path: Path, name: str) -> str:
    """A model that answers one of its two inputs."""
    value = lambda n: helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", WIDTH])  # noqa: E731
    node = helper.make_node("Identity", [name], ["y"])
    graph = helper.make_graph([node], "select", [value("x"), value("z")], [value("y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return str(path)


def answers() -> tuple[np.ndarray, np.ndarray]:
    """What both sides answer, [exchange, row, element]: random, tied, constant, NaN, infinite."""
    random = np.random.default_rng(11)
    x = random.standard_normal((EXCHANGES, ROWS, WIDTH)).astype(np.float32)
    x[::7] = random.integers(0, 3, x[::7].shape)
    x[5], x[6, 0, 1], x[7, 1, 2], x[8, 2, 0] = 1.0, np.nan, np.inf, -np.inf
    z = x + (0.25 * random.standard_normal(x.shape)).astype(np.float32)
    z[::3] = x[::3]
    z[10, 0, 0], z[11, 0, 0] = np.nan, np.inf
    return x, z


class Run:
    """A replay of both answers, and every question that can be asked of it."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self.folder, self.run = folder, folder / "run"
        self.x, self.z = answers()
        reference, stage = (select(folder / f"{n}.onnx", n) for n in ("x", "z"))
        upstream = programs.start("serve", "--model", reference, "--model-name", "m", "--listen", "127.0.0.1:0")
        more = ("--keep-header", "x-user", "--keep-header", "x-part")
        recorder, address = record(programs, upstream[1], folder / "capture", *more)
        client = triton.InferenceServerClient(address)
        for i, (x, z) in enumerate(zip(self.x, self.z, strict=True)):
            inputs = [triton.InferInput(n, list(x.shape), "FP32") for n in ("x", "z")]
            inputs[0].set_data_from_numpy(x)
            inputs[1].set_data_from_numpy(z)
            headers = {"x-user": f"user-{i % 30}", "x-part": "bad" if i % 9 == 4 else "good"}
            client.infer("m", inputs, request_id=f"r{i}", headers=headers)
        programs.stop(recorder)
        ladder = folder / "ladder.toml"
        ladder.write_text(
            "[[stage]]\nname = 'reference'\nruntime = 'onnxruntime'\ngraph_optimization = 'off'\n"
            f"prepacking = false\nmemory_optimization = false\nthreads = 1\nmodel = '{reference}'\n"
            f"[[stage]]\nname = 'other'\ninherits = 'reference'\nmodel = '{stage}'\n"
        )
        self.ask("replay", str(folder / "capture"), "--ladder", str(ladder), "--run", str(self.run))

    def ask(self, *args: str) -> tuple[dict, str]:
        done = subprocess.run([binary(), *args, "--json"], capture_output=True, text=True, cwd=ROOT)
        return json.loads(done.stdout or "{}"), done.stderr

    def judge(self, *args: str) -> dict:
        """The first metric of the stage."""
        verdicts, errors = self.ask("judge", str(self.run), *args)
        assert verdicts, errors
        (stage,) = (s for s in verdicts["stages"] if s["name"] == "other")
        return stage["metrics"][0] | {"stage_verdict": stage, "all": verdicts}

    def refused(self, *args: str) -> str:
        verdicts, errors = self.ask("judge", str(self.run), *args)
        assert not verdicts
        return errors

    def labels(self, name: str, **columns) -> tuple[str, str]:
        """`--labels FILE`, keyed by request and item unless the columns say otherwise."""
        count = len(next(iter(columns.values())))
        keys = {"key": [f"r{i // ROWS}" for i in range(count)], "item": [i % ROWS for i in range(count)]}
        path = self.folder / f"{name}.parquet"
        pq.write_table(pa.table(keys | columns), path)
        return "--labels", str(path)

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        return self.x.reshape(-1, WIDTH), self.z.reshape(-1, WIDTH)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judging")
    programs = Programs(folder)
    yield Run(programs, folder)
    programs.close()


def top(rows: np.ndarray) -> np.ndarray:
    """Largest element, ties to the lowest index; −1 where a NaN is among them."""
    return np.where(np.isnan(rows).any(axis=1), -1, np.nan_to_num(rows, nan=-np.inf).argmax(axis=1))


def test_top1_with_labels_is_scikit_learns_accuracy(run) -> None:
    x, z = map(top, run.rows())
    labels = np.random.default_rng(1).integers(0, WIDTH, len(x))
    labels[::2] = np.maximum(x[::2], 0)
    found = run.judge("--metric", "top1", *run.labels("classes", label=labels))
    assert found["reference"] == pytest.approx(sk.accuracy_score(labels, x), abs=1e-12)
    assert found["stage"] == pytest.approx(sk.accuracy_score(labels, z), abs=1e-12)
    assert found["delta"] == pytest.approx(found["stage"] - found["reference"], abs=1e-12)
    assert found["flips"] == (x != z).sum() and found["n"] == len(x)
    assert (found["basis"], found["clusters"]) == ("labels", EXCHANGES)
    weights = np.random.default_rng(2).uniform(0.5, 4, len(x))
    found = run.judge("--metric", "top1", *run.labels("weights", label=labels, weight=weights))
    for side, rows in (("reference", x), ("stage", z)):
        assert found[side] == pytest.approx(sk.accuracy_score(labels, rows, sample_weight=weights), abs=1e-12)
    assert found["effective_n"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum(), rel=1e-12)


def test_agreement_is_numpys(run) -> None:
    x, z = run.rows()
    agree = top(x) == top(z)
    assert run.judge("--metric", "top1")["stage"] == pytest.approx(agree.mean(), abs=1e-12)
    ordered = np.sort(x, axis=1)
    led = (ordered[:, -1].astype(float) - ordered[:, -2]) <= 0.2
    found = run.judge("--metric", "flips:above=0.2")
    assert found["stage"] == pytest.approx((agree | led).mean(), abs=1e-12)
    equal = [a.tobytes() == b.tobytes() for a, b in zip(x, z, strict=True)]
    assert run.judge("--metric", "exact")["stage"] == pytest.approx(np.mean(equal), abs=1e-12)
    assert run.judge("--metric", "top1")["flips"] == (~agree).sum()


def test_a_users_command_scores_both_sides_blindly(run) -> None:
    program = run.folder / "score.py"
    program.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    values = [float(v) for v in json.loads(line)['values']]\n"
        "    print(sum(v for v in values if abs(v) < 1e9))\n"
    )
    found = run.judge("--metric", f"command:run=python3 {program},margin=0.5")
    of = lambda rows: np.where(np.isfinite(rows), rows, 0).sum(axis=1, dtype=float).mean()  # noqa: E731
    x, z = run.rows()
    assert found["reference"] == pytest.approx(of(x), abs=1e-12)
    assert found["stage"] == pytest.approx(of(z), abs=1e-12)
    assert found["basis"] == "command"
    for body, says in (
        ("raise SystemExit('no such model')", "no such model"),
        ("print(1)", "1 lines to 270 items"),
        ("import time; time.sleep(60)", "did not end within 0.5 s"),
        ("import sys\nfor _ in sys.stdin: print('cat')", "line 1 of its output is no number: `cat`"),
    ):
        program.write_text(body)
        assert says in run.refused("--metric", f"command:run=python3 {program},timeout=0.5")


def test_clusters_widen_and_slices_find_the_bad_part(run) -> None:
    x, z = map(top, run.rows())
    alone = run.judge("--metric", "top1")
    users = run.judge("--metric", "top1", "--cluster-by", "header:x-user")
    assert (alone["clusters"], users["clusters"]) == (EXCHANGES, 30)
    assert alone["delta"] == users["delta"]
    slices = run.judge("--metric", "top1", "--slice-by", "header:x-part", "--slice-by", "shape")["slices"]
    part = np.repeat(np.where(np.arange(EXCHANGES) % 9 == 4, "bad", "good"), ROWS)
    for name in ("good", "bad"):
        (found,) = (s for s in slices if s["value"] == name)
        assert found["n"] == (part == name).sum()
        assert found["flips"] == (x != z)[part == name].sum()
        assert found["delta"] == pytest.approx((x == z)[part == name].mean() - 1, abs=1e-12)
    assert {s["by"] for s in slices} == {"header:x-part", "shape"}
    one = run.judge("--metric", "top1", "--cluster-by", "model")
    assert one["clusters"] == 1 and "one cluster" in one["stage_verdict"]["reason"]
    assert one["verdict"] == "inconclusive"


def test_the_explanation_holds_the_numbers_of_the_verdict(run) -> None:
    x, z = map(top, run.rows())
    labels = np.maximum(x, 0)
    args = ("--metric", "top1", *run.labels("explained", label=labels), "--slice-by", "header:x-part")
    found = run.judge(*args)
    asked = [binary(), "judge", str(run.run), *args, "--explain-verdict", "other"]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT)
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0] == f"other: {found['stage_verdict']['verdict']}", done.stderr

    def said(key: str) -> str:
        (line,) = (line for line in lines if line.startswith(f"{key}  "))
        return line.removeprefix(key).strip()

    b = ((x == labels) & (z != labels)).sum()
    c = ((x != labels) & (z == labels)).sum()
    assert b > 0 and said("counts") == f"b = {b} only the reference right, c = {c} only the stage"
    points = lambda v: f"{100 * v:.3f}"  # noqa: E731
    assert said("change") == points(((z == labels).sum() - (x == labels).sum()) / len(x))
    low, high = found["interval"]
    assert said("interval") == f"[{points(low)}, {points(high)}] at {100 * found['confidence']:.2f} %"
    assert said("method") == found["method"] and said("margin") == points(found["margin"])
    assert said("noise").startswith("the reference flips 0")
    for part in found["slices"]:
        (line,) = (line for line in lines if line.startswith(f"header:x-part = {part['value']}:"))
        assert f"{part['flips']} of {part['n']} items flip" in line
        assert line.endswith("<- stands out") == part["stands_out"]
    # The ten most telling exchanges, by id, each one that the stage really gets wrong.
    at = lines.index("most telling")
    telling = lines[at + 1 : at + 11]
    assert [line.split()[0] for line in telling] == [t["id"] for t in found["telling"]]
    for line in telling:
        request, item = int(line.split("(r")[1].split(")")[0]), int(line.split(" item ")[1].split()[0])
        row = request * ROWS + item
        assert x[row] == labels[row] != z[row], line
    refused = subprocess.run([*asked[:-1], "nobody"], capture_output=True, text=True, cwd=ROOT)
    assert refused.returncode == 2 and "there is no such stage; there are" in refused.stderr


def test_what_does_not_fit_is_named_and_counted(run) -> None:
    count = EXCHANGES * ROWS
    labels = np.zeros(count, dtype=np.int64)
    for args, says in (
        (("--metric", "topk:k=2@y"), "k"),
        (("--metric", "tau@logits"), "there is no output `logits`; there are y"),
        (("--metric", "mae", *run.labels("text", label=["a"] * count), "--metric", "top1"), "integer labels"),
        (("--metric", "threshold:at=0,index=9"), f"does not fit {count} of {count} items"),
        (("--metric", "prefix"), "tokens are integers or BYTES"),
        (("--metric", "auc:index=0"), "needs labels"),
        (("--slice-by", "header:x-nobody", "--metric", "top1"), "none of 90 exchanges has it"),
        (("--cluster-by", "user", "--metric", "top1"), "header:NAME"),
        (("--metric", "top1", *run.labels("weight", label=labels, weight=[0.0] * count)), "weight 0 must be above 0"),
        (("--metric", "top1", *run.labels("twice", key=["r1", "r1"], item=[0, 0], label=[0, 1])), "labelled 0 and 1"),
        (("--metric", "top1", *run.labels("nobody", key=["q1", "q2"], item=[0, 0], label=[0, 1])), "none of its 2 rows"),
    ):
        errors = run.refused(*args)
        assert says in errors, (args, errors)
    half = run.labels("half", label=labels[: count // 2])
    coverage = run.judge("--metric", "top1", *half)["all"]["labels"]
    assert (coverage["matched"], coverage["items_without_label"]) == (count // 2, count - count // 2)
    # No final operator, rows that are no distribution: nothing says what people care about.
    verdicts, _ = run.ask("judge", str(run.run))
    assert "metrics that could be chosen: y: top1" in verdicts["criterion"]
