#!/usr/bin/env python3
"""Makes replay/tests/paddle_logs: what real predictors of the digits network print.

    scripts/setup --paddle 3.3.1
    .venvs/paddle-3.3.1/bin/python scripts/make_paddle_logs.py

Writes the logs of the generation whose interpreter runs it, one process for each.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "replay/tests/paddle_logs"
OFF = {
    "params": None,
    "engine": "inference",
    "ir_optimization": "off",
    "memory_optimization": False,
    "onednn": "off",
    "openvino": "off",
    "new_executor": False,
    "threads": 1,
    "gpu": None,
    "tensorrt": None,
    "disabled_passes": [],
}
STAGES = {
    "off": {},
    "switch-off": {"ir_optimization": "switch_off"},
    "memory": {"memory_optimization": True},
    "ir": {"ir_optimization": "on"},
    "onednn": {"ir_optimization": "on", "onednn": "fp32"},
    "bf16": {"ir_optimization": "on", "onednn": "bf16"},
    "openvino": {"ir_optimization": "on", "openvino": "fp32"},
}
MODELS = {"pdmodel": "digits-old.pdmodel", "json": "digits.json"}


def print_log(kind: str, stage: str) -> None:
    """Opens one stage in this process, as a worker does."""
    sys.path.insert(0, str(ROOT / "scripts/workers"))
    from paddle_engine import Engine

    model = ROOT / "tests/fixtures/digits" / MODELS[kind]
    Engine().open({"model": str(model), "options": OFF | STAGES[stage]})


def main() -> None:
    """Every stage that this generation knows."""
    if len(sys.argv) == 3:
        print_log(*sys.argv[1:])
        return
    from importlib.metadata import version

    paddle = version("paddlepaddle")
    OUT.mkdir(exist_ok=True)
    old = paddle.startswith("2.")
    for kind in ("pdmodel",) if old else ("pdmodel", "json"):
        for stage in STAGES:
            if old and stage == "openvino":
                continue
            command = [sys.executable, "-W", "ignore", __file__, kind, stage]
            ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if ended.returncode != 0:
                sys.exit(f"{paddle} {kind} {stage}: {ended.stdout.decode()}")
            path = OUT / f"{paddle}-{kind}-{stage}.log"
            path.write_bytes(ended.stdout)
            print(path.relative_to(ROOT), len(ended.stdout))


if __name__ == "__main__":
    os.environ["GLOG_minloglevel"] = "0"
    main()
