"""What a replay says while it works: bars with rate and time left on a terminal, plain lines elsewhere."""

import os
import pty
import re
import subprocess
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from conftest import FIXTURE, Programs, binary

MODEL = FIXTURE / "digits.fp32.onnx"
EXCHANGES = 300


def capture(programs: Programs, folder: Path) -> Path:
    """Recorded requests of a real client."""
    _, upstream = programs.start("serve", "--model", str(MODEL), "--model-name", "digits", "--listen", "127.0.0.1:0")
    path = folder / "capture"
    recorder, address = programs.start(
        "record", "--listen", "127.0.0.1:0", "--upstream", upstream_url(upstream), "--capture", str(path)
    )
    client = triton.InferenceServerClient(address.rstrip(","))
    rng = np.random.default_rng(0)
    for _ in range(EXCHANGES):
        image = triton.InferInput("image", [4, 1, 8, 8], "FP32")
        image.set_data_from_numpy(rng.random((4, 1, 8, 8), dtype=np.float32))
        client.infer("digits", [image])
    client.close()
    programs.stop(recorder)
    return path


def upstream_url(address: str) -> str:
    """With a scheme, whether or not the program prints one."""
    return address if address.startswith("http") else f"http://{address}"


def on_a_terminal(command: list[str], limit: float) -> tuple[int, str]:
    """Runs the command with a terminal as its stderr; its exit code and what the terminal got."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says so where the last writer is gone
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return child.wait(limit), shown.decode(errors="replace")


def test_rate_and_time_left_on_a_terminal_and_lines_elsewhere(programs: Programs, tmp_path: Path) -> None:
    path = capture(programs, tmp_path)
    command = [binary(), "replay", str(path), "--model", str(MODEL), "--run"]
    code, shown = on_a_terminal([*command, str(tmp_path / "one")], 60)
    assert code == 0, shown
    assert re.search(rf"reference .*\d+/{EXCHANGES} [\d.,]+/s \d+s", shown), shown[:2000]

    done = subprocess.run([*command, str(tmp_path / "two")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stderr
    assert f"{EXCHANGES} exchanges" in done.stderr
    assert "reference: completed" in done.stderr
