"""CPU of all replay processes per request against a bare `ort` loop over the same inputs.

Two stages (off, all), one thread. Start-up (a replay of one exchange) is reported apart. Beside it:
the comparison alone, reading alone, what people do today, and memory over the number of rows.
`replay.py RELEASE_FOLDER [compare|memory|WIDTHxLAYERSxBATCH[xROWS_OF_A_ROW_GROUP]]…` measures only those; BENCH_ROUNDS is the
number of rounds, and BENCH_AGAINST=BINARY another build of the program by turns with this one.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import describe
from onnx import TensorProto, helper, numpy_helper, save

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))

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


def spent(command: list, log: Path) -> resource.struct_rusage:
    """What a command and all its processes took."""
    with log.open("w") as stderr:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 3):
        sys.exit(log.read_text())
    return usage


def replay(binary: Path, folder: Path, run: str, *more: str) -> resource.struct_rusage:
    """What one replay took, with all its processes."""
    command = [binary, "replay", folder / "capture", "--run", folder / run]
    # Noise and probes are work of their own: what is compared with bare inference is one replay.
    command += ["--repeats", "1", "--probe", "none"]
    command += ["--model", folder / "mlp.onnx", "--ladder", folder / "ladder.toml", *more]
    usage = spent(command, folder / "stderr")
    verdicts = json.loads((folder / run / "verdicts.json").read_text())
    assert verdicts["stages"][1]["verdict"] in ("equivalent", "identical"), verdicts
    return usage


def seconds_of(usage: resource.struct_rusage) -> float:
    """CPU seconds, of users and of the system."""
    return usage.ru_utime + usage.ru_stime


def prepare(release: Path, folder: Path, width: int, layers: int, batch: int, requests: int, each: int = 1000) -> None:
    """Model, ladder and capture."""
    mlp(folder / "mlp.onnx", width, layers)
    (folder / "ladder.toml").write_text(LADDER)
    sizes = [str(n) for n in (requests, batch, width, each)]
    subprocess.run([release / "examples/bench_replay", "capture", folder / "capture", *sizes], check=True)


def printed(*command: object) -> str:
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def workload(release: Path, folder: Path, shape: tuple[int, int, int], requests: int, each: int) -> None:
    """One model: replay against bare inference, and the peers."""
    width, layers, batch = shape
    prepare(release, folder, width, layers, batch, requests, each)
    library = next(Path(".venv").glob("lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so*"))
    tool, capture = release / "examples/bench_replay", folder / "capture"
    builds = {"replay": release / "inferdiff"}
    if other := os.environ.get("BENCH_AGAINST"):
        builds["replay by the other build"] = Path(other)
    rounds: dict[str, list] = {name: [] for name in builds}
    for i in range(ROUNDS):
        seconds = float(printed(tool, "bare", library, folder / "mlp.onnx", capture).split()[1])
        for name, binary in builds.items():
            run = f"{name.replace(' ', '-')}{i}"
            start = replay(binary, folder, f"start-{run}", "--limit", "1")
            whole = replay(binary, folder, run)
            begin = seconds_of(start)
            measured = seconds_of(whole) - begin
            faults = (whole.ru_minflt - start.ru_minflt) / requests
            system = (whole.ru_stime - start.ru_stime) / requests
            rounds[name].append((measured / seconds, seconds / requests, measured / requests, begin, faults, system))
    title = f"MLP {width}x{layers} batch {batch}" + (f", row groups of {each}" if each != 1000 else "")
    for name, measured in rounds.items():
        measured.sort()
        ratio, bare, ours, begin, faults, system = measured[len(measured) // 2]
        print(
            f"{title}, {requests} requests, two stages: "
            f"bare {bare * 1e6:.1f} us, {name} {ours * 1e6:.1f} us CPU/request: "
            f"{ratio:.2f} x ({measured[0][0]:.2f}..{measured[-1][0]:.2f}); "
            f"{system * 1e6:.1f} us of it the system's, {faults:.2f} page faults/request; start-up {begin:.2f} s"
        )
    reading = float(printed(tool, "read", capture)) / requests
    peers = Path(__file__).with_name("replay_peers.py")
    some = min(requests, 3000 if batch == 1 else 500)
    seconds = json.loads(printed(sys.executable, peers, folder / "mlp.onnx", capture, str(some)))
    theirs = seconds.pop("pyarrow reading")
    print(f"{title}: reading {reading * 1e6:.2f} us/request, pyarrow {theirs * 1e6:.2f} us")
    for name, peer in seconds.items():
        print(f"{title}: {name} {peer * 1e6:.0f} us CPU/request, {peer / bare:.1f} x")


def peaks(pid: int) -> dict[str, int]:
    """KiB at most of a replay's own process and of those of its stages, until it ends."""
    seen: dict[str, int] = {}
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_text().split("\0")
                most = re.search(r"VmHWM:\s+(\d+)", (process / "status").read_text())
            except OSError:
                continue
            if most and words[1:2] in (["replay"], ["__stage"]):
                name = words[words.index("--stage") + 1] if "--stage" in words else "replay"
                seen[name] = max(seen.get(name, 0), int(most[1]))
        time.sleep(0.005)
    return seen


def memory(release: Path, folder: Path) -> None:
    """Peak memory over the rows, of the largest process and of each, and over small row groups."""
    largest, judging = [], []
    for rows, each in ((10_000, 1000), (100_000, 1000), (400_000, 1000), (100_000, 50)):
        own = folder / f"{rows}-{each}"
        own.mkdir()
        prepare(release, own, 64, 4, 1, rows, each)
        if each == 1000 and rows <= 100_000:
            largest.append(replay(release / "inferdiff", own, "run").ru_maxrss)
            judging.append(spent([release / "inferdiff", "judge", own / "run"], own / "stderr").ru_maxrss)
        command = [release / "inferdiff", "replay", own / "capture", "--run", own / "sampled", "--repeats", "1", "--probe", "none"]
        command += ["--model", own / "mlp.onnx", "--ladder", own / "ladder.toml"]
        with (own / "stderr").open("w") as stderr:
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
            found = peaks(child.pid)
            child.wait()
        told = ", ".join(f"{name} {kib / 1024:.0f} MiB" for name, kib in sorted(found.items()))
        print(f"peak memory, {rows} rows in row groups of {each}: {told}", flush=True)
    print(
        f"peak memory of the largest process: {largest[0] / 1024:.0f} MiB at 10,000 rows, "
        f"{largest[1] / 1024:.0f} MiB at 100,000: {largest[1] / largest[0]:.2f} x; "
        f"judging alone {judging[0] / 1024:.0f} and {judging[1] / 1024:.0f} MiB"
    )


def main() -> None:
    """replay.py RELEASE_FOLDER [WHAT]…"""
    # Nothing is deleted before the end: for a minute ext4 looks at each inode that was freed before it
    # gives out another, and would charge that to who makes files next.
    with tempfile.TemporaryDirectory(prefix="bench-replay-") as folder:
        measure(Path(folder))


def measure(folder: Path) -> None:
    """What is asked for, or everything."""
    release = Path(sys.argv[1]).resolve()
    asked = sys.argv[2:]
    print(describe(), flush=True)
    if not asked or "compare" in asked:
        print(printed(release / "examples/bench_compare", "0.5"), end="", flush=True)
    # First: a process is charged with what its parent held when it was started.
    if not asked or "memory" in asked:
        memory(release, folder)
    # Row groups of 50 are what a recorder of 50 requests a second writes.
    workloads = (
        ((64, 4, 1), 40000, 1000),
        ((64, 4, 1), 40000, 50),
        ((512, 8, 1), 20000, 1000),
        ((512, 8, 32), 20000, 1000),
    )
    for shape, requests, each in workloads:
        name = "x".join(str(n) for n in (shape if each == 1000 else (*shape, each)))
        if asked and name not in asked:
            continue
        own = folder / name
        own.mkdir()
        workload(release, own, shape, requests, each)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
