"""What an interpreter has for the evaluator."""

import sys

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator


class Engine:
    """Answers `open` with `{"needs": [[what, found, words], …]}`; it runs no model."""

    def open(self, request: dict) -> dict:  # noqa: ARG002 - every engine is asked this way
        """Nothing is opened."""
        python = ".".join(map(str, sys.version_info[:3]))
        return {
            "needs": [
                ["onnx", True, f"{onnx.__version__}, opset {onnx.defs.onnx_opset_version()}"],
                ["evaluator", True, f"{ReferenceEvaluator.__module__}.{ReferenceEvaluator.__name__}"],
                ["numpy", True, f"{np.__version__} on Python {python}"],
            ]
        }
