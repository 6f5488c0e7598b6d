"""Wall time of a Paddle stage per request against a direct Python loop over the same inputs.

A convolutional network on 1x3x224x224 FP32, one thread, everything off. The first stage answers and
keeps its outputs; the second one is compared with it, exchange by exchange. Reading the capture is in
both, starting Python and making the predictor in neither.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import describe

REQUESTS, ROUNDS = 500, 13
WIDTH = 3 * 224 * 224
LADDER = """
[[stage]]
name = "off"
runtime = "paddle"
[[stage]]
name = "again"
inherits = "off"
"""
MODEL = """
import sys
import paddle
from paddle import nn

class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2D(3, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2D(16, 24, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2D(24, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2D(1))
        self.head = nn.Linear(32, 1000)

    def forward(self, x):
        x = paddle.reshape(x, [-1, 3, 224, 224])
        return self.head(paddle.flatten(self.body(x), 1))

net = Net()
net.eval()
paddle.jit.save(net, sys.argv[1], input_spec=[paddle.static.InputSpec([None, 3 * 224 * 224], "float32", "x")])
"""
DIRECT = """
import sys, time
import numpy as np
from paddle import inference
config = inference.Config(sys.argv[1] + ".json", sys.argv[1] + ".pdiparams")
config.disable_glog_info()
config.disable_gpu()
config.disable_mkldnn()
config.set_cpu_math_library_num_threads(1)
config.switch_ir_optim(False)
config.set_optimization_level(0)
predictor = inference.create_predictor(config)
x = predictor.get_input_handle(predictor.get_input_names()[0])
y = predictor.get_output_handle(predictor.get_output_names()[0])
rng = np.random.default_rng(0)
images = [rng.uniform(-1, 1, (1, 3 * 224 * 224)).astype("float32") for _ in range(int(sys.argv[2]))]
begin = time.perf_counter()
for image in images:
    x.copy_from_cpu(image)
    predictor.run()
    y.copy_to_cpu()
print(time.perf_counter() - begin)
"""


def seconds(run: Path, stage: str) -> float:
    """Seconds that one stage replayed."""
    return json.loads((run / "stages" / stage / "status.json").read_text())["replay_seconds"]


def main() -> None:
    """paddle.py RELEASE_FOLDER"""
    release = Path(sys.argv[1]).resolve()
    python = str(Path(".venvs/paddle-3.3.1/bin/python").absolute())
    print(describe())
    folder = Path(tempfile.mkdtemp(prefix="bench-paddle-"))
    try:
        model = str(folder / "net")
        quiet = {"check": True, "capture_output": True, "text": True}
        # Paddle translates a network by its source, which must be a file.
        source = folder / "net.py"
        source.write_text(MODEL)
        subprocess.run([python, "-W", "ignore", source, model], **quiet)
        (folder / "ladder.toml").write_text(LADDER)
        tool = [release / "examples/bench_replay", "capture", folder / "capture"]
        subprocess.run([*tool, str(REQUESTS), "1", str(WIDTH)], check=True)
        rows = []
        for i in range(ROUNDS):
            direct = subprocess.run([python, "-W", "ignore", "-c", DIRECT, model, str(REQUESTS)], **quiet)
            run = folder / f"run{i}"
            command = [release / "inferdiff", "replay", folder / "capture", "--run", run]
            command += ["--model", f"{model}.json", "--ladder", folder / "ladder.toml"]
            command += ["--python", python, "--repeats", "1", "--probe", "none"]
            ended = subprocess.run(command, capture_output=True, text=True)
            verdicts = json.loads((run / "verdicts.json").read_text())
            assert verdicts["stages"][1]["verdict"] == "identical", ended.stderr
            rows.append((float(direct.stdout), seconds(run, "off"), seconds(run, "again")))
            shutil.rmtree(run)
        # A disturbed round is slower and never faster: the fastest ones are compared, as timeit does.
        direct = min(row[0] for row in rows)
        print(f"direct loop: {direct / REQUESTS * 1e3:.2f} ms a request, the fastest of {ROUNDS} rounds")
        for name, column in (("answers kept", 1), ("answers compared", 2)):
            fastest = min(row[column] for row in rows)
            middle = sorted(row[column] / row[0] for row in rows)[ROUNDS // 2]
            print(
                f"{name}: {fastest / REQUESTS * 1e3:.2f} ms, {fastest / direct:.2f} x "
                f"(median of the rounds' ratios {middle:.2f})"
            )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
