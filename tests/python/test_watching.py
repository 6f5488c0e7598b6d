"""The admin address, the upstream's metadata, memory with the sink stopped."""

import http.client
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from conftest import FIXTURE, ROOT, binary

BODY = json.dumps(
    {"inputs": [{"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.5] * 64}]}
)


def get(address: str, path: str) -> tuple[int, str]:
    """Status and body."""
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def admin_of(log: Path) -> str:
    """host:port of the admin address."""
    return re.search(r"admin on http://(\S+)", log.read_text())[1]


def test_metrics_tell_what_crossed_and_metadata_is_asked(programs, tmp_path) -> None:
    """Counters after twenty inferences; readiness follows the upstream; `_capture.json` knows it."""
    served, upstream = programs.start(
        "serve", "--model", str(FIXTURE / "digits.fp32.onnx"), "--listen", "127.0.0.1:0"
    )
    name = re.search(r"serving (\S+) on", (tmp_path / "serve-0.log").read_text())[1]
    capture = tmp_path / "capture"
    recorder, address = programs.start(
        "record", "--listen", "127.0.0.1:0", "--upstream", f"http://{upstream}",
        "--capture", str(capture), "--flush-age", "50",
    )
    admin = admin_of(tmp_path / "record-1.log")
    assert get(admin, "/healthz") == (200, "ok\n")
    assert get(admin, "/readyz") == (200, "ready\n")
    connection = http.client.HTTPConnection(address, timeout=10)
    for _ in range(20):
        connection.request("POST", f"/v2/models/{name}/infer", BODY)
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
    deadline = time.monotonic() + 10
    wanted = 'inferdiff_exchanges_total{protocol="oip-rest",outcome="complete"} 20'
    while time.monotonic() < deadline:
        metrics = get(admin, "/metrics")[1]
        asked = json.loads((capture / "_capture.json").read_text())["upstream_metadata"]
        if wanted in metrics and "inferdiff_recorded_total 20" in metrics and len(asked) == 2:
            break
        time.sleep(0.05)
    assert wanted in metrics, metrics
    assert "inferdiff_recorded_total 20" in metrics, metrics
    assert "inferdiff_accepted_total 20" in metrics, metrics
    assert f'inferdiff_body_bytes_total{{direction="up"}} {20 * len(BODY)}' in metrics, metrics
    assert "inferdiff_added_latency_seconds_count 20" in metrics, metrics
    assert "inferdiff_queue_bytes 0" in metrics and "inferdiff_storage_failing 0" in metrics
    assert metrics.endswith("# EOF\n")
    inputs = asked[f"/v2/models/{name}"]["answer"]["inputs"]
    assert (inputs[0]["name"], inputs[0]["datatype"]) == ("image", "FP32"), asked
    assert asked["/v2"]["status"] == 200 and asked["/v2"]["answer"]["name"]
    programs.stop(served)
    status, why = get(admin, "/readyz")
    assert status == 503 and "cannot be reached" in why
    programs.stop(recorder)


def test_memory_stays_within_the_budget_while_the_sink_is_stopped() -> None:
    """The short campaign; the long one is `scripts/campaign memory`."""
    upstream = str(Path(binary()).parent / "examples/bench_upstream")
    command = [sys.executable, str(ROOT / "scripts/campaign_memory.py"), binary(), upstream, "--short"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=600)
    print(out.stdout)
    assert out.returncode == 0, out.stdout + out.stderr


def test_a_steady_load_leaves_nothing_behind() -> None:
    """The short soak; the long one is `scripts/soak` for an hour."""
    upstream = str(Path(binary()).parent / "examples/bench_upstream")
    command = [sys.executable, str(ROOT / "scripts/soak"), binary(), upstream, "--seconds", "40"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300)
    print(out.stdout)
    assert out.returncode == 0, out.stdout + out.stderr


def test_a_slow_disk_costs_drops_and_no_memory() -> None:
    """The short campaign; the long one is `scripts/campaign_throttle`."""
    upstream = str(Path(binary()).parent / "examples/bench_upstream")
    command = [sys.executable, str(ROOT / "scripts/campaign_throttle"), binary(), upstream, "--short"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300)
    print(out.stdout)
    assert out.returncode == 0, out.stdout + out.stderr


def test_systemd_passes_its_socket(tmp_path: Path) -> None:
    """As systemd starts a service with a .socket unit: the socket is descriptor 3, LISTEN_FDS is 1."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port, number = listening.getsockname()[1], listening.fileno()
        # A client that came before the service was started waits in the socket's queue.
        early = socket.create_connection(("127.0.0.1", port))
        # bash: dash knows descriptors of one digit only. exec keeps the process id.
        script = f'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@" 3<&{number}'
        command = ["bash", "-c", script, binary(), "record", "--listen", "systemd", "--no-metadata"]
        command += ["--upstream", f"http://127.0.0.1:{port}", "--capture", str(tmp_path / "capture")]
        log = (tmp_path / "log").open("w+")
        recorder = subprocess.Popen(command, pass_fds=(number,), stdout=log, stderr=log)
    try:
        # What it forwards comes back to itself once; the inner request is refused as a loop ends.
        early.settimeout(20)
        early.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: x\r\n\r\n")
        assert early.recv(65536).startswith(b"HTTP/1.1 400")
        assert f"listening on 127.0.0.1:{port}" in (tmp_path / "log").read_text()
    finally:
        recorder.terminate()
        assert recorder.wait(20) == 0, (tmp_path / "log").read_text()
    alone = [a for a in command[3:]]
    out = subprocess.run(alone, capture_output=True, text=True, timeout=20, check=False)
    assert out.returncode == 2 and ".socket unit" in out.stderr, out.stderr
