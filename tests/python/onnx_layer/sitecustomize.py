"""A scripted layer in ONNX's evaluator, for the tests of what replay makes of faults.

Python imports this at its start where the folder is in PYTHONPATH. ONNX_FAULT says what to do:

* `operator`: its Gemm answers half as much again;
* `narrow`: its Gemm answers in FP32, whatever it is given;
* `kill`: the process dies of SIGKILL on the request whose input is ONNX_FAULT_BITS.
"""

import builtins
import os
import signal

FAULT = os.environ.get("ONNX_FAULT")


def plant() -> None:
    """Wraps the operator and the evaluator."""
    import onnx.reference.ops.op_gemm as gemm
    from onnx.reference import ReferenceEvaluator

    for kind in [k for k in vars(gemm).values() if isinstance(k, type) and "_run" in vars(k)]:
        right = kind._run

        def wrong(self, *arguments, _right=right, **named):  # noqa: ANN001, ANN002, ANN003, ANN202
            (value,) = _right(self, *arguments, **named)
            return ((value * 1.5) if FAULT == "operator" else value.astype("float32"),)

        if FAULT in ("operator", "narrow"):
            kind._run = wrong
    run = ReferenceEvaluator.run

    def dying(self, names, feeds, **named):  # noqa: ANN001, ANN003, ANN202
        first = next(iter(feeds.values()))
        if FAULT == "kill" and first.tobytes().hex() == os.environ["ONNX_FAULT_BITS"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return run(self, names, feeds, **named)

    ReferenceEvaluator.run = dying


if FAULT:
    original = builtins.__import__
    planted = []

    def importing(name, *arguments, **named):  # noqa: ANN001, ANN002, ANN003, ANN202
        # The worker's engine imports this one after onnx.
        if name == "onnx_double" and not planted:
            planted.append(True)
            plant()
        return original(name, *arguments, **named)

    builtins.__import__ = importing
