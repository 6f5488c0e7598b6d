"""Real servers and real clients: KServe, MLServer, tritonclient REST and gRPC, curl, h2load."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from conftest import FIXTURE, PATIENCE, ROOT, binary, rows
from tritonclient.grpc import service_pb2

MODEL = str(FIXTURE / "digits.fp32.onnx")
SERVERS = ROOT / "tests/python/servers"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until_ready(port: int, child: subprocess.Popen, log: Path) -> None:
    """Until `/v2/health/ready` answers 200."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert child.poll() is None, log.read_text()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def server(folder: Path, name: str) -> tuple[subprocess.Popen, int, int]:
    """Starts a server; its process, HTTP and gRPC ports."""
    http_port, grpc_port = free_port(), free_port()
    python = ROOT / f".venvs/{name}/bin/python"
    log = folder / f"{name}.log"
    env = {**os.environ, "DIGITS": MODEL, "PYTHONPATH": str(SERVERS)}
    if name == "kserve":
        command = [str(python), str(SERVERS / "kserve_digits.py"), MODEL, str(http_port), str(grpc_port)]
    else:
        home = folder / "mlserver"
        home.mkdir()
        settings = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": free_port(), "host": "127.0.0.1", "parallel_workers": 0}
        (home / "settings.json").write_text(json.dumps(settings))
        (home / "model-settings.json").write_text(json.dumps({"name": "digits", "implementation": "mlserver_digits.Digits"}))
        command = [str(python.parent / "mlserver"), "start", str(home)]
    with log.open("w") as file:
        child = subprocess.Popen(command, stdout=file, stderr=file, env=env, cwd=folder, start_new_session=True)
    wait_until_ready(http_port, child, log)
    return child, http_port, grpc_port


@pytest.fixture(scope="module", params=["kserve", "mlserver"])
def served(request, tmp_path_factory):
    """A server's name and ports."""
    child, http_port, grpc_port = server(tmp_path_factory.mktemp(request.param), request.param)
    yield request.param, http_port, grpc_port
    os.killpg(child.pid, 9)
    child.wait()


def recorder(programs, port: int, capture: Path, *more: str) -> tuple[subprocess.Popen, str]:
    """A recorder before that port."""
    return programs.start("record", "--listen", "127.0.0.1:0", "--upstream", f"http://127.0.0.1:{port}", "--capture", str(capture), *more)


def images(count: int) -> np.ndarray:
    """FP32 [count, 1, 1, 8, 8], every request another image."""
    held_out = np.load(FIXTURE / "heldout.npz")["images"].reshape(-1, 1, 1, 8, 8).astype(np.float32)
    scale = 1 + np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1, 1) / 4096
    return held_out[np.arange(count) % len(held_out)] * scale


def json_body(image: np.ndarray) -> dict:
    """A V2 request as Python's json writes it."""
    return {"inputs": [{"name": "image", "shape": list(image.shape), "datatype": "FP32", "data": image.ravel().tolist()}]}


def typed(image: np.ndarray) -> service_pb2.ModelInferRequest:
    """A gRPC request with typed contents."""
    request = service_pb2.ModelInferRequest(model_name="digits")
    tensor = request.inputs.add(name="image", datatype="FP32", shape=image.shape)
    tensor.contents.fp32_contents.extend(image.ravel().tolist())
    return request


def test_a_thousand_inferences_have_equal_digests_in_every_protocol(programs, tmp_path, served) -> None:
    """REST JSON, REST binary, gRPC raw, gRPC typed, and V1 where the server speaks it."""
    name, http_port, grpc_port = served
    count = 1000
    rest, rest_address = recorder(programs, http_port, tmp_path / "rest")
    grpc_, grpc_address = recorder(programs, grpc_port, tmp_path / "grpc")
    connection = http.client.HTTPConnection(rest_address, timeout=PATIENCE)
    binary_client = triton_http.InferenceServerClient(rest_address)
    grpc_client = triton_grpc.InferenceServerClient(grpc_address)
    direct = triton_grpc.InferenceServerClient(f"127.0.0.1:{grpc_port}")

    def post(path: str, body: dict) -> dict:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return json.loads(text)

    for i, image in enumerate(images(count)):
        logits = np.array(post("/v2/models/digits/infer", json_body(image))["outputs"][0]["data"], np.float32)
        sent = triton_http.InferInput("image", list(image.shape), "FP32")
        sent.set_data_from_numpy(image, binary_data=True)
        if name == "kserve":  # MLServer's REST has no binary extension
            got = binary_client.infer("digits", [sent]).as_numpy("logits")
            assert np.array_equal(got.ravel(), logits.ravel())
            v1 = post("/v1/models/digits:predict", {"instances": [{"image": image[0].tolist()}]})
            assert np.array_equal(np.array(v1["predictions"], np.float32).ravel(), logits.ravel())
        raw = triton_grpc.InferInput("image", list(image.shape), "FP32")
        raw.set_data_from_numpy(image)
        got = grpc_client.infer("digits", [raw], request_id=str(i)).as_numpy("logits")
        assert np.array_equal(got.ravel(), logits.ravel())
        answer = grpc_client._client_stub.ModelInfer(typed(image))
        if i < 20:
            twin = direct._client_stub.ModelInfer(typed(image))
            answer.ClearField("id"), twin.ClearField("id")
            assert answer.SerializeToString() == twin.SerializeToString()
    for client in (binary_client, grpc_client, direct):
        client.close()
    connection.close()
    programs.stop(rest)
    programs.stop(grpc_)
    found: dict[str, list[bytes]] = {}
    for row in rows(tmp_path / "rest") + rows(tmp_path / "grpc"):
        if row["inputs"] is None:
            continue
        assert row["outcome"] == "complete" and row["decode_error"] is None, row["decode_error"]
        assert row["outputs"][0]["name"] in ("logits", "outputs"), row["outputs"]
        kind = row["protocol"]
        if kind == "oip-grpc":
            assert row["grpc_status"] == 0
            kind = "gRPC raw" if row["client_request_id"] else "gRPC typed"
        found.setdefault(kind, []).append(row["input_digest"])
    print({kind: len(all_) for kind, all_ in found.items()})
    expected = ["gRPC raw", "gRPC typed", "oip-rest"]
    expected += ["oip-rest-binary", "tfs-rest"] if name == "kserve" else []
    assert sorted(found) == sorted(expected)
    digests = found["oip-rest"]
    assert len(set(digests)) == count
    for kind, others in found.items():
        assert Counter(others) == Counter(digests), kind


def test_the_upstreams_own_metadata_is_kept(programs, tmp_path, served) -> None:
    """`GET /v2` and `GET /v2/models/digits`, asked by the recorder itself."""
    _, http_port, _ = served
    child, address = recorder(programs, http_port, tmp_path / "capture")
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    connection.request("POST", "/v2/models/digits/infer", json.dumps(json_body(images(1)[0])), {"content-type": "application/json"})
    assert connection.getresponse().status == 200
    meta: dict = {}
    deadline = time.monotonic() + PATIENCE
    while len(meta) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
        meta = json.loads((tmp_path / "capture/_capture.json").read_text())["upstream_metadata"]
    assert meta["/v2"]["server"] and meta["/v2/models/digits"]["answer"]["name"] == "digits", meta
    programs.stop(child)


def test_curl_and_h2load_over_http2_and_http1(programs, tmp_path) -> None:
    """Prior knowledge, on the same port as HTTP/1.1; the answers of both are those of the server."""
    grpc_log = tmp_path / "up.log"
    upstream = str(Path(binary()).parent / "examples/bench_upstream")
    with grpc_log.open("w") as file:
        up = subprocess.Popen([upstream, "--grpc"], stdout=file, stderr=file)
    programs.running.append(up)
    while "listening on" not in grpc_log.read_text():
        time.sleep(0.02)
    port = int(grpc_log.read_text().rsplit(":", 1)[1])
    # 140 MB come within a third of a second: this is about HTTP, not about pressure.
    child, address = recorder(programs, port, tmp_path / "capture", "--memory-budget", "1024")
    curl = ["curl", "-s", "-o", "-", "-D", "-", "--http2-prior-knowledge", "-d", "body"]

    def answer(target: str) -> bytes:
        return subprocess.run([*curl, f"http://{target}/some/path?q=1"], check=True, capture_output=True).stdout

    assert answer(address) == answer(f"127.0.0.1:{port}")
    assert shutil.which("h2load"), "scripts/setup installs nghttp2-client"
    body = tmp_path / "body"
    body.write_bytes(bytes(70_000))
    load = ["h2load", "-n", "2000", "-c", "20", "-m", "10", "-d", str(body)]
    out = subprocess.run([*load, f"http://{address}/x"], check=True, capture_output=True, text=True).stdout
    assert "2000 succeeded, 0 failed, 0 errored" in out, out
    programs.stop(child)
    kept = rows(tmp_path / "capture")
    assert len(kept) == 2001 and {r["outcome"] for r in kept} == {"complete"}


def test_slow_clients_are_cut_and_delay_nobody(programs, tmp_path, served) -> None:
    """slowhttptest opens 200 connections that never finish their head; others are served meanwhile."""
    _, http_port, _ = served
    child, address = programs.start(
        "record", "--listen", "127.0.0.1:0", "--upstream", f"http://127.0.0.1:{http_port}",
        "--capture", str(tmp_path / "capture"), "--head-timeout", "2",
    )
    assert shutil.which("slowhttptest"), "scripts/setup installs it"
    command = ["slowhttptest", "-H", "-c", "200", "-r", "200", "-i", "1", "-l", "6", "-u", f"http://{address}/v2"]
    slow = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    worst, deadline = 0.0, time.monotonic() + 4
    while time.monotonic() < deadline:
        began = time.monotonic()
        connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        connection.request("GET", "/v2/health/ready")
        assert connection.getresponse().status == 200
        worst = max(worst, time.monotonic() - began)
    out = slow.communicate(timeout=30)[0]
    print(f"worst answer while under attack: {worst * 1000:.0f} ms")
    programs.stop(child)
    refused = [r for r in rows(tmp_path / "capture") if r["outcome"] == "refused"]
    assert len(refused) >= 200 and {r["status"] for r in refused} == {408}, out
