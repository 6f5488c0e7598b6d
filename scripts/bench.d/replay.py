"""CPU of all replay processes per request against a bare `ort` loop over the same inputs.

Two stages (off, all), one thread. Start-up (a replay of one exchange) is reported apart.
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import describe
from onnx import TensorProto, helper, numpy_helper, save

LADDER = """
[[stage]]
name = "off"
runtime = "onnxruntime"
[[stage]]
name = "all"
runtime = "onnxruntime"
graph_optimization = "all"
prepacking = true
"""


def mlp(path: Path, width: int, layers: int) -> None:
    """x FP32 [N, width] -> y, fully connected layers with relu between."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for i in range(layers):
        w = (rng.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32)
        b = (0.1 * rng.standard_normal(width)).astype(np.float32)
        weights += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        out = "y" if i == layers - 1 else f"g{i}"
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [out]))
        if out != "y":
            nodes.append(helper.make_node("Relu", [out], [f"r{i}"]))
        last = f"r{i}"
    shape = ["N", width]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        weights,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def children_cpu() -> float:
    """User and system seconds of all children that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def replay(release: Path, folder: Path, run: str, *more: str) -> float:
    """CPU seconds of one replay, all its processes."""
    before = children_cpu()
    command = [release / "inferdiff", "replay", folder / "capture", "--run", folder / run]
    # Noise and probes are work of their own: what is compared with bare inference is one replay.
    command += ["--repeats", "1", "--probe", "none"]
    command += ["--model", folder / "mlp.onnx", "--ladder", folder / "ladder.toml", *more]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode not in (0, 3):
        sys.exit(ended.stderr)
    spent = children_cpu() - before
    verdicts = json.loads((folder / run / "verdicts.json").read_text())
    assert verdicts["stages"][1]["verdict"] in ("equivalent", "identical"), verdicts
    return spent


def main() -> None:
    """replay.py RELEASE_FOLDER"""
    release = Path(sys.argv[1]).resolve()
    library = next(Path(".venv").glob("lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so*"))
    tool = release / "examples/bench_replay"
    print(describe())
    workloads = ((64, 4, 1, 40000), (512, 8, 1, 20000), (512, 8, 32, 5000))
    for width, layers, batch, requests in workloads:
        folder = Path(tempfile.mkdtemp(prefix="bench-replay-"))
        try:
            mlp(folder / "mlp.onnx", width, layers)
            (folder / "ladder.toml").write_text(LADDER)
            sizes = [str(n) for n in (requests, batch, width)]
            subprocess.run([tool, "capture", folder / "capture", *sizes], check=True)
            command = [tool, "bare", library, folder / "mlp.onnx", folder / "capture"]
            ratios = []
            for i in range(3):
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                n, bare = int(out.split()[0]), float(out.split()[1])
                begin = replay(release, folder, f"start{i}", "--limit", "1")
                whole = replay(release, folder, f"run{i}")
                ratios.append(((whole - begin) / bare, bare / n, (whole - begin) / n, begin))
                shutil.rmtree(folder / f"run{i}")
            ratio, bare, ours, begin = sorted(ratios)[1]
            print(
                f"MLP {width}x{layers} batch {batch}, {requests} requests, two stages: "
                f"bare {bare * 1e6:.1f} us, replay {ours * 1e6:.1f} us CPU/request: "
                f"{ratio:.2f} x ({sorted(ratios)[0][0]:.2f}..{sorted(ratios)[-1][0]:.2f}); "
                f"start-up {begin:.2f} s"
            )
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
