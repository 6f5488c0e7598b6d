"""What people do today instead of a replay: CPU seconds per request of the same two stages.

`replay_peers.py MODEL CAPTURE REQUESTS` prints one JSON object: the name of each peer and its seconds.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
from polygraphy.backend.onnxrt import OnnxrtRunner
from polygraphy.comparator import Comparator, CompareFunc
from polygraphy.logger import G_LOGGER

LEVELS = (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)


def sessions(model: str) -> list[ort.InferenceSession]:
    """Both stages, one thread each."""
    out = []
    for level in LEVELS:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = level
        out.append(ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]))
    return out


def rows(capture: Path, most: int):
    """Input arrays of the capture, that share the bytes that pyarrow read."""
    left = most
    for path in sorted(capture.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(columns=["inputs"], batch_size=1024):
            tensors = batch.column("inputs").flatten()
            shapes, data = tensors.field("shape"), tensors.field("data")
            for i in range(len(tensors)):
                if left == 0:
                    return
                left -= 1
                yield np.frombuffer(data[i].as_buffer(), np.float32).reshape(shapes[i].as_py())


def numbers(r: np.ndarray, t: np.ndarray) -> list[float]:
    """The numbers that a comparison has, of one item."""
    d = np.abs(r - t)
    a = np.abs(r)
    p50, p99, p999 = np.percentile(d, (50, 99, 99.9))
    norm_r, norm_t = np.linalg.norm(r), np.linalg.norm(t)
    return [
        float(d.max()), float(d.mean()), float(p50), float(p99), float(p999),
        float((d / np.maximum(a, 2**-14)).max()), float(np.linalg.norm(d) / norm_r),
        float(r.dot(t) / (norm_r * norm_t)), float(np.log(norm_t / norm_r)),
        float((d > 1e-5 + 1e-3 * a).sum()), float(d.argmax()), float(r.argmax()), float(t.argmax()),
        float(np.abs(r.view(np.int32).astype(np.int64) - t.view(np.int32)).max()),
    ]  # fmt: skip


def numpy_loop(model: str, capture: Path, most: int) -> float:
    """pyarrow, ONNX Runtime's Python and NumPy; a row of numbers per item into a Parquet file."""
    off, on = sessions(model)
    before = time.process_time()
    out = []
    for x in rows(capture, most):
        reference, stage = off.run(None, {"x": x})[0], on.run(None, {"x": x})[0]
        out.extend(numbers(r, t) for r, t in zip(reference, stage, strict=True))
    columns = [pa.array(c) for c in zip(*out, strict=True)]
    table = pa.table(columns, names=[f"c{i}" for i in range(len(columns))])
    pq.write_table(table, capture / "../numpy_loop.parquet")
    return (time.process_time() - before) / most


def polygraphy(model: str, capture: Path, most: int) -> float:
    """Comparator.run over the two sessions and Comparator.compare_accuracy."""
    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    runners = [OnnxrtRunner(s, name=n) for s, n in zip(sessions(model), ("off", "all"), strict=True)]
    before = time.process_time()
    results = Comparator.run(runners, data_loader=[{"x": x} for x in rows(capture, most)])
    compare = CompareFunc.simple(rtol=1e-3, atol=1e-5)
    assert bool(Comparator.compare_accuracy(results, compare_func=compare))
    return (time.process_time() - before) / most


def read(capture: Path, most: int) -> float:
    """Every row's input as an array, and nothing else."""
    before = time.process_time()
    count = sum(1 for x in rows(capture, most) if x.size)
    return (time.process_time() - before) / count


def main() -> None:
    """replay_peers.py MODEL CAPTURE REQUESTS"""
    model, capture, most = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    out = {
        "pyarrow reading": read(capture, most),
        "pyarrow + numpy loop": numpy_loop(model, capture, most),
        "Polygraphy": polygraphy(model, capture, min(most, 300)),
    }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
