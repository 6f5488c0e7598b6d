"""Two configurations of ONNX Runtime, the same requests: are the answers the same?

Needs numpy and onnxruntime. Reads repro.json beside it. Ends with 1 where an output differs.
"""

import json
import os
import sys

import numpy as np
import onnxruntime as ort

HERE = os.path.dirname(os.path.abspath(__file__))
LEVELS = {
    "off": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "all": "ORT_ENABLE_ALL",
}
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
BFLOAT16 = 16  # TensorProto.BFLOAT16


def session(stage):
    """A session exactly as the stage says."""
    asked, options = stage["options"], ort.SessionOptions()
    level = LEVELS[asked["graph_optimization"]]
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.enable_mem_pattern = asked["memory_optimization"]
    options.enable_cpu_mem_arena = asked["memory_optimization"]
    options.use_deterministic_compute = asked["deterministic"]
    options.add_session_config_entry("session.disable_prepacking", str(int(not asked["prepacking"])))
    if asked["threads"]:
        options.intra_op_num_threads = asked["threads"]
    for key, value in asked["config"].items():
        options.add_session_config_entry(key, value)
    providers = [(PROVIDERS[p["name"]], p["options"]) for p in asked["providers"]]
    if "CPUExecutionProvider" not in [p[0] for p in providers]:
        providers.append(("CPUExecutionProvider", {}))
    return ort.InferenceSession(
        os.path.join(HERE, stage["model"]),
        options,
        providers=providers,
        disabled_optimizers=asked["disabled_passes"] or None,
    )


def feed(request):
    """Name to OrtValue or array."""
    values = {}
    for tensor in request["inputs"]:
        array = np.load(os.path.join(HERE, tensor["file"]))
        if tensor["datatype"] == "BF16":
            array = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, BFLOAT16)
        elif tensor["datatype"] == "BYTES":
            array = np.array([v.decode() for v in array.ravel()], object).reshape(array.shape)
        values[tensor["name"]] = array
    return values


def answers(stage, requests):
    """The answer to the last request, or the error, after all requests in their order."""
    opened, answer = session(stage), None
    names = [output.name for output in opened.get_outputs()]
    for request in requests:
        values = feed(request)
        try:
            if any(isinstance(v, ort.OrtValue) for v in values.values()):
                values = {
                    k: v if isinstance(v, ort.OrtValue) else ort.OrtValue.ortvalue_from_numpy(v)
                    for k, v in values.items()
                }
                got = opened.run_with_ort_values(names, values)
                answer = dict(zip(names, [v.numpy() for v in got]))
            else:
                answer = dict(zip(names, opened.run(names, values)))
        except Exception as error:
            answer = error
    return answer


def main():
    """Prints a line per output."""
    with open(os.path.join(HERE, "repro.json")) as file:
        case = json.load(file)
    print("onnxruntime", ort.__version__)
    reference, stage = (answers(s, case["requests"]) for s in case["stages"])
    first, second = (s["name"] for s in case["stages"])
    if isinstance(reference, Exception) or isinstance(stage, Exception):
        print("%s: %s\n%s: %s" % (first, reference, second, stage))
        if isinstance(reference, Exception) != isinstance(stage, Exception):
            print("DIFFERENT: only one of them answers")
            return 1
        return 0
    different = False
    for name, a in reference.items():
        b = stage.get(name)
        if b is None or np.shape(a) != np.shape(b):
            print("DIFFERENT %s: %s against %s" % (name, np.shape(a), None if b is None else np.shape(b)))
            different = True
        elif np.asarray(a).dtype == np.asarray(b).dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes():
            print("equal %s: every bit" % name)
        else:
            different = True
            try:
                distance = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
                worst = np.unravel_index(np.nanargmax(distance), distance.shape)
                print(
                    "DIFFERENT %s: max |a - b| = %.6e at %s: %r in %s, %r in %s"
                    % (name, distance[worst], tuple(int(i) for i in worst), a[worst], first, b[worst], second)
                )
            except (TypeError, ValueError):
                print("DIFFERENT %s: %r against %r" % (name, a, b))
    return int(different)


if __name__ == "__main__":
    sys.exit(main())
