"""What the Paddle tests share: both generations' interpreters, captures, runs."""

import json
import os
import subprocess
from pathlib import Path

from conftest import FIXTURE, ROOT, binary

GENERATIONS = {"3.3.1": ("json", "pdmodel"), "2.6.2": ("pdmodel",)}
CASES = [(version, form) for version, forms in GENERATIONS.items() for form in forms]
DIGITS = {"json": FIXTURE / "digits.json", "pdmodel": FIXTURE / "digits-old.pdmodel"}
# The first output of the digits network, as each format names it.
LOGITS = {"json": "fetch_name_0", "pdmodel": "linear_0.tmp_1"}


def python(version: str) -> Path:
    """The interpreter of one generation."""
    path = ROOT / f".venvs/paddle-{version}/bin/python"
    assert path.exists(), f"run scripts/setup --paddle {version}"
    return path


class Run:
    """One replay: its exit code, what it wrote, what it said."""

    def __init__(self, folder: Path, ended: subprocess.CompletedProcess) -> None:
        self.folder, self.code, self.said = folder, ended.returncode, ended.stderr
        path = folder / "verdicts.json"
        self.verdicts = json.loads(path.read_text()) if path.exists() else {"stages": []}
        self.stages = {stage["name"]: stage for stage in self.verdicts["stages"]}

    def verdict(self, stage: str) -> str:
        """Its verdict."""
        return self.stages[stage]["verdict"]

    def reason(self, stage: str) -> str:
        """Why."""
        return self.stages[stage]["reason"]

    def max_abs(self, stage: str) -> float:
        """The largest difference of its first output."""
        return self.stages[stage]["outputs"][0]["max_abs"]

    def evidence(self, stage: str) -> dict:
        """What it really executed."""
        return json.loads((self.folder / "stages" / stage / "evidence.json").read_text())

    def options(self, stage: str) -> dict[str, tuple[str, str]]:
        """Of each option: whether it acted, and what shows it."""
        return {o["option"]: (o["acted"], o["shown_by"]) for o in self.evidence(stage)["options"]}


def replay(
    capture: Path,
    run: Path,
    ladder: str | Path,
    *more: str | Path,
    fault: str | None = None,
    bits: bytes = b"",
) -> Run:
    """Replays a capture; usage errors come back too. `fault`: see paddle_layer."""
    command = [binary(), "replay", capture, "--run", run, "--ladder", ladder, *more]
    # Every probe makes Paddle's predictors anew: what they show is tested on other runtimes.
    command += ["--repeats", "1", "--probe", "none"]
    environment = dict(os.environ)
    if fault:
        layer = str(ROOT / "tests/python/paddle_layer")
        environment |= {"PYTHONPATH": layer, "PADDLE_FAULT": fault, "PADDLE_FAULT_BITS": bits.hex()}
    ended = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=ROOT, env=environment
    )
    return Run(run, ended)


def written(folder: Path, text: str) -> Path:
    """A ladder file."""
    path = folder / "ladder.toml"
    path.write_text(text)
    return path
