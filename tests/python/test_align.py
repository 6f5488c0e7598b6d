"""`align` and `captures import`: what happened to the inputs of one side is named."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tritonclient.http as triton
from conftest import FIXTURE, binary, rows
from polygraphy.comparator import IterationResult, RunResults
from polygraphy.json import save_json
from test_readers import serve

REQUESTS = 1000
PLANTED = 617


def run(*args: str | Path, code: int | None = 0) -> str:
    """stdout of a command that must end with `code` (`None`: with any verdict)."""
    done = subprocess.run([binary(), *map(str, args)], capture_output=True, text=True)
    fits = done.returncode in (0, 1, 3) if code is None else done.returncode == code
    assert fits, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + ("" if code != 2 else done.stderr)


def pictures() -> np.ndarray:
    """1000 pictures [1, 3, 8, 6], as a pre-processing gives them."""
    return np.random.default_rng(7).uniform(0, 255, (REQUESTS, 1, 3, 8, 6)).astype(np.float32)


def folder(into: Path, batches: list[np.ndarray]) -> Path:
    """One `.npz` a request."""
    into.mkdir()
    for i, picture in enumerate(batches):
        np.savez(into / f"r{i}.npz", image=picture)
    return into


def flipped(x: np.ndarray) -> np.ndarray:
    """One bit of one element."""
    bits = x.copy().view(np.uint32)
    bits[0, 2, 3, 4] ^= 1 << 9
    return bits.view(np.float32)


CHANGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "scale": (lambda x: x / np.float32(255), "scaling"),
    "rgb and bgr": (lambda x: x[:, ::-1], "channel_order"),
    "nchw and nhwc": (lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)), "layout"),
    "cast": (lambda x: x.astype(np.float16), "cast"),
    "cast and back": (lambda x: x.astype(ml_dtypes.bfloat16).astype(np.float32), "cast"),
    "one bit": (flipped, "bit_flip"),
    "a row of padding": (lambda x: np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0))), "padding"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_changed_request_of_a_thousand_is_named(tmp_path, change) -> None:
    make, kind = CHANGES[change]
    a = list(pictures())
    b = [*a[:PLANTED], make(a[PLANTED]), *a[PLANTED + 1 :]]
    # A request's arrays must look alike within one capture: the odd one has a capture of its own.
    odd = b[PLANTED].dtype != a[0].dtype
    if odd:
        a, b = [a[PLANTED]], [b[PLANTED]]
    for name, side in (("a", a), ("b", b)):
        run("captures", "import", folder(tmp_path / name, side), "-o", tmp_path / f"{name}.cap")
    found = json.loads(run("align", tmp_path / "a.cap", tmp_path / "b.cap", "--json", code=1))
    assert found["matched"]["pairs"] == len(a)
    assert (found["differing"], found["equal"]) == (1, len(a) - 1)
    (difference,) = found["differences"]
    assert difference["client_request_id"] == f"r{0 if odd else PLANTED}"
    (finding,) = difference["findings"]
    assert finding["tensor"] == "image"
    assert [looks["kind"] for looks in finding["looks"]] == [kind]
    if change == "one bit":
        assert finding["first"]["index"] == [0, 2, 3, 4]
        assert float(finding["first"]["a"]) == a[PLANTED][0, 2, 3, 4]
    print(run("align", tmp_path / "a.cap", tmp_path / "b.cap", code=1).splitlines()[0])


def test_saved_arrays_align_with_the_same_inputs_sent_over_http(programs, tmp_path) -> None:
    images = np.load(FIXTURE / "heldout.npz")["images"][:100]
    upstream = serve(programs)
    recorder, address = programs.start(
        "record", "--listen", "127.0.0.1:0", "--upstream", f"http://{upstream}",
        "--capture", str(tmp_path / "sent"),
    )
    client = triton.InferenceServerClient(address)
    for i, image in enumerate(images):
        tensor = triton.InferInput("image", [1, *image.shape], "FP32")
        tensor.set_data_from_numpy(image[None], binary_data=bool(i % 2))
        client.infer("digits", [tensor], request_id=f"r{i}")
    programs.stop(recorder)
    saved = folder(tmp_path / "saved", [image[None] for image in images])
    run("captures", "import", saved, "-o", tmp_path / "saved.cap", "--note", "side=training")
    said = run("align", tmp_path / "saved.cap", tmp_path / "sent")
    assert said.startswith("All inputs of 100 requests are equal, bit for bit."), said
    assert "environment: note side: training in A, not said in B" in said
    # Without the batch axis, by order, from one stacked file: the same.
    np.savez(tmp_path / "all.npz", image=images)
    run("captures", "import", tmp_path / "all.npz", "-o", tmp_path / "all.cap", "--split")
    run("align", tmp_path / "all.cap", tmp_path / "sent")
    np.savez(tmp_path / "one.npz", image=images[0])
    run("captures", "import", tmp_path / "one.npz", "-o", tmp_path / "one.cap", "--unsqueeze")
    said = run("align", tmp_path / "one.cap", tmp_path / "sent", code=1)
    assert "1 pairs by order of arrival: 1 equal, 0 differ" in said
    assert "without a partner: 0 in A, 99 in B" in said


def test_every_numpy_datatype_and_order_keeps_its_values(tmp_path) -> None:
    base = np.arange(24).reshape(2, 3, 4)
    arrays = {
        **{np.dtype(t).name: base.astype(t) for t in "bBhHiIlLefd?"},
        "big": base.astype(">f4"),
        "fortran": np.asfortranarray(base.astype(np.int32)),
        "text": np.array([["a", "äöü"], ["", "long text"]]),
        "raw": np.array([b"x", b"yz"]),
        "scalar": np.float32(3),
        "empty": np.zeros((0, 4), np.float32),
        "bf16": base.astype(ml_dtypes.bfloat16),
    }
    np.savez_compressed(tmp_path / "one.npz", **arrays)
    run("captures", "import", tmp_path / "one.npz", "-o", tmp_path / "cap")
    (row,) = rows(tmp_path / "cap")
    got = {t["name"]: t for t in row["inputs"]}
    assert set(got) == set(arrays)
    for name, array in arrays.items():
        assert got[name]["shape"] == list(array.shape), name
        if name in ("text", "raw"):
            flat = [v.encode() if isinstance(v, str) else v for v in array.ravel().tolist()]
            assert got[name]["data"] == b"".join(len(v).to_bytes(4, "little") + v for v in flat)
        else:
            little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
            assert got[name]["data"] == little.tobytes(), name
    assert got["bf16"]["datatype"] == "BF16" and got["big"]["datatype"] == "FP32"


def test_parquet_columns_of_every_layout(tmp_path) -> None:
    n, values = 70, np.random.default_rng(3).normal(size=(70, 2, 3)).astype(np.float32)
    fixed = pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    table = pa.table({
        "key": [f"k{i}" for i in range(n)],
        "fixed": fixed,
        "nested": values.astype(np.float64).tolist(),
        "flat": pa.array(values.reshape(n, 6).tolist(), pa.list_(pa.float32())),
        "label": pa.array(range(n), pa.int64()),
        "word": [f"w{i}" for i in range(n)],
        "bytes": [v.tobytes() for v in values],
        "when": pa.array([0] * n, pa.timestamp("s")),
    })
    pq.write_table(table, tmp_path / "t.parquet")
    run(
        "captures", "import", tmp_path / "t.parquet", "-o", tmp_path / "cap", "--id", "key",
        "--shape", "flat=3,2", "--datatype", "bytes=FP32", "--shape", "bytes=2,3",
        "--answer", "label", "--ignore", "when",
    )
    for i, row in enumerate(rows(tmp_path / "cap")):
        got = {t["name"]: t for t in row["inputs"]}
        assert row["client_request_id"] == f"k{i}"
        for name in ("fixed", "flat", "bytes"):
            assert got[name]["data"] == values[i].tobytes(), name
        assert got["fixed"]["shape"] == got["nested"]["shape"] == got["bytes"]["shape"] == [2, 3]
        assert got["flat"]["shape"] == [3, 2]
        assert got["nested"]["data"] == values[i].astype(np.float64).tobytes()
        assert got["word"]["datatype"] == "BYTES"
        (label,) = row["outputs"]
        assert int.from_bytes(label["data"], "little") == i and label["shape"] == [1]


def test_polygraphy_and_perf_analyzer(tmp_path) -> None:
    x = np.random.default_rng(5).normal(size=(3, 2, 4)).astype(np.float32)
    save_json([{"x": v} for v in x], str(tmp_path / "in.json"))
    results = RunResults()
    results.append(("r", [IterationResult({"y": v * 2}, runtime=0.1, runner_name="r") for v in x]))
    results.save(str(tmp_path / "out.json"))
    steps = [{"x": {"content": v.ravel().tolist(), "shape": [2, 4]}} for v in x.astype(float)]
    (tmp_path / "pa.json").write_text(json.dumps({"data": steps}))
    for name, more in (("in", []), ("out", []), ("pa", ["--datatype", "x=FP32"])):
        run("captures", "import", tmp_path / f"{name}.json", "-o", tmp_path / name, *more)
    run("align", tmp_path / "in", tmp_path / "pa")
    answers = [r["outputs"][0] for r in rows(tmp_path / "out")]
    assert [a["data"] for a in answers] == [(v * 2).tobytes() for v in x]
    said = run("captures", "import", tmp_path / "pa.json", "-o", tmp_path / "no", code=2)
    assert "give --datatype x=FP32" in said


def test_what_does_not_fit_is_named_and_left_out(tmp_path) -> None:
    good = np.zeros((1, 4), np.float32)
    ragged = tmp_path / "ragged"
    ragged.mkdir()
    np.savez(ragged / "r0.npz", x=good)
    np.savez(ragged / "r1.npz", x=good.astype(np.float64))
    np.savez(ragged / "r2.npz", y=good)
    np.savez(ragged / "r3.npz", x=good[0])
    np.savez(ragged / "r4.npz", x=np.array([object()], dtype=object))
    np.savez(ragged / "r5.npz", x=np.zeros((9, 4), np.float32))
    (ragged / "r6.npz").write_bytes((ragged / "r0.npz").read_bytes()[:-40])
    whole = (ragged / "r0.npz").read_bytes()
    at = whole.index(b"NUMPY") + 130
    (ragged / "r7.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    said = run("captures", "import", ragged, "-o", tmp_path / "cap", code=1)
    assert "2 requests, 0 with answers" in said and "6 left out" in said
    for why in (
        "r1.npz: ragged: `x` is input, FP64 of rank 2, in the first it is input, FP32 of rank 2",
        "r2.npz: ragged: `x` is missing",
        "r3.npz: ragged: `x` is input, FP32 of rank 1",
        "r4.npz: `x`: an array of Python objects",
        "r6.npz: no .npz archive",
        "r7.npz: `x`: ",
    ):
        assert why in said, f"{why}\n{said}"
    run("captures", "verify", tmp_path / "cap")
    (tmp_path / "none").mkdir()
    assert "no .npz" in run("captures", "import", tmp_path / "none", "-o", tmp_path / "c2", code=2)
    said = run("captures", "import", ragged, "-o", tmp_path / "cap", code=2)
    assert "is a capture already" in said
