"""The second opinion: the same engine through its Python API, compared by numpy."""

import numpy as np
import onnxruntime
from cases import Case, Value
from onnx import TensorProto

# rtol and atol by datatype, as docs/comparison.md states inferdiff's defaults; others are exact.
TOLERANCES = {"FP64": (1e-7, 1e-7), "FP32": (1e-3, 1e-5), "FP16": (1e-3, 1e-5), "BF16": (1.6e-2, 1e-5)}


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Every bit is equal."""
    if a.dtype == object:
        return a.shape == b.shape and a.tolist() == b.tolist()
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def run(model: bytes, case: Case) -> list[np.ndarray] | None:
    """The model's answers, without optimisation; None where it does not open or run."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        values = {v.name: ort_value(v) for v in case.inputs}
        return [numpy(o) for o in session.run_with_ort_values(None, values)]
    except Exception:  # noqa: BLE001 - the engine raises whatever it likes
        return None


def ort_value(value: Value) -> onnxruntime.OrtValue:
    """BF16 has no numpy type that the engine takes: its bits go in by type."""
    if value.datatype == "BF16":
        bits = value.array.view(np.uint16)
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, TensorProto.BFLOAT16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(value.array, order="C"))


def numpy(value: onnxruntime.OrtValue) -> np.ndarray:
    """An answer; BF16 has no numpy type."""
    if value.element_type() == TensorProto.BFLOAT16:
        raise TypeError("BF16")
    return value.numpy()


def agrees(answers: list[np.ndarray], case: Case) -> bool:
    """The suite's outputs are within tolerance of the engine's."""
    return len(answers) == len(case.outputs) and all(
        close(a, o.array, *TOLERANCES.get(o.datatype, (0.0, 0.0))) for a, o in zip(answers, case.outputs, strict=True)
    )


def close(r: np.ndarray, t: np.ndarray, rtol: float, atol: float) -> bool:
    """|r - t| <= atol + rtol |r| everywhere; non-finite values are equal or not."""
    if r.shape != t.shape:
        return False
    if rtol == 0.0 or r.dtype == object:
        return same(r, t)
    r, t = r.astype(np.float64), t.astype(np.float64)
    with np.errstate(invalid="ignore"):
        near = np.abs(r - t) <= atol + rtol * np.abs(r)
    return bool(np.all((near & np.isfinite(r)) | (r == t) | (np.isnan(r) & np.isnan(t))))
