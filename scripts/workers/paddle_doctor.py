"""What an installed Paddle has, and what it was built without."""

import os

# What it logs is no finding.
os.environ["GLOG_minloglevel"] = "3"

import paddle
from paddle import inference


class Engine:
    """Answers `open` with `{"needs": [[what, found, words], …]}`; it runs no model."""

    def open(self, request: dict) -> dict:  # noqa: ARG002 - every engine is asked this way
        """Nothing is opened."""
        config, needs = inference.Config(), []

        def need(what: str, found: bool, words: str) -> None:
            needs.append([what, found, words])

        new = not paddle.__version__.startswith(("1.", "2."))
        need("paddle", True, f"{paddle.__version__} (commit {paddle.version.commit[:12]})")
        need("formats", True, ".json (PIR) and .pdmodel" if new else ".pdmodel; .json needs Paddle 3")
        config.disable_gpu()
        config.enable_mkldnn()
        need("oneDNN", config.mkldnn_enabled(), "compiled in" if config.mkldnn_enabled() else "not compiled in")
        openvino = hasattr(config, "enable_openvino_engine")
        need("OpenVINO engine", openvino, "for .pdmodel" if openvino else "this Paddle has none; 3.x has it")
        cuda, devices = paddle.device.is_compiled_with_cuda(), 0
        if cuda:
            devices = paddle.device.cuda.device_count()
        words = f"CUDA {paddle.version.cuda()}, {devices} devices" if cuda else "compiled without CUDA: paddlepaddle-gpu has it"
        need("GPU", devices > 0, words)
        version = inference.get_trt_compile_version()
        trt = any(version)
        words = ".".join(map(str, version)) if trt else "compiled without TensorRT"
        need("TensorRT", trt, words)
        return {"needs": needs}
