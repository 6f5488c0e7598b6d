"""The runtime `endpoint`: live servers as stages, over REST and gRPC."""

import http.client
import http.server
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import PATIENCE, Programs, rows
from paddle_support import Run, replay, written
from test_readers import record, traffic
from test_servers import MODEL, free_port, server

DIGITS = 24
ORT = '[[stage]]\nname = "reference"\nruntime = "onnxruntime"\n'


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Digits with the answers of a sound endpoint."""
    folder = tmp_path_factory.mktemp("digits")
    programs = Programs(folder)
    recorder, address = record(programs, serve(programs), folder / "capture")
    assert traffic(address, "--limit", str(DIGITS)) == DIGITS
    programs.stop(recorder)
    yield folder / "capture"
    programs.close()


@pytest.fixture(scope="module", params=["kserve", "mlserver"])
def served(request, tmp_path_factory):
    """A server's name and ports."""
    child, http_port, grpc_port = server(tmp_path_factory.mktemp(request.param), request.param)
    yield request.param, http_port, grpc_port
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def serve(programs: Programs, *more: str) -> str:
    """The digits network, with the runtime's defaults unless told."""
    args = ("serve", "--model", MODEL, "--model-name", "digits", "--listen", "127.0.0.1:0")
    return programs.start(*args, *more)[1]


def live(name: str, url: str, *more: str) -> str:
    """A stage."""
    keys = [f'name = "{name}"', 'runtime = "endpoint"', f'url = "{url}"']
    if not any(line.startswith("model_name") for line in more):
        keys.append('model_name = "digits"')
    return "\n".join(["[[stage]]", *keys, *more]) + "\n"


def run(capture: Path, folder: Path, ladder: str, *more: str) -> Run:
    """Replays it."""
    return replay(capture, folder / "run", written(folder, ORT + ladder), "--model", MODEL, *more)


def test_an_endpoint_with_everything_off_has_the_reference_s_bits(digits, programs, tmp_path) -> None:
    off = written(tmp_path, ORT)
    address = serve(programs, "--ladder", str(off), "--stage", "reference")
    text = live("blobs", f"http://{address}") + live("json", f"http://{address}", "binary = false")
    ended = run(digits, tmp_path, text)
    for stage, binary in (("blobs", "true"), ("json", "false")):
        assert ended.verdict(stage) == "identical", ended.said
        assert ended.stages[stage]["outcomes"] == {"compared": DIGITS}
        evidence = ended.evidence(stage)
        assert evidence["version"].startswith("inferdiff serve ")
        assert evidence["signature"]["inputs"][0]["name"] == "image"
        requested = {o["option"]: o["requested"] for o in evidence["options"]}
        assert requested["binary"] == binary
    assert ended.code == 0


def test_real_servers_answer_over_both_forms(digits, served, tmp_path) -> None:
    """KServe and MLServer run ONNX Runtime with its defaults: rounding apart from the reference."""
    name, http_port, grpc_port = served
    rest, grpc = f"http://127.0.0.1:{http_port}", f"grpc://127.0.0.1:{grpc_port}"
    text = live("rest", rest) + live("grpc", grpc)
    if name == "kserve":  # it understands blobs, and does not say so
        text += live("blobs", rest, "binary = true")
    text += ORT.replace("reference", "defaults") + 'graph_optimization = "all"\nprepacking = true\n'
    ended = run(digits, tmp_path, text, "--keep-outputs", "all")
    stages = [s for s in ended.stages if s not in ("reference", "recorded", "defaults")]
    assert len(stages) == (3 if name == "kserve" else 2)
    for stage in stages:
        assert ended.verdict(stage) in ("equivalent", "identical"), (stage, ended.said)
        assert ended.stages[stage]["outcomes"] == {"compared": DIGITS}
        assert ended.max_abs(stage) == ended.max_abs("rest") <= 1e-4
        print(name, stage, ended.verdict(stage), ended.max_abs(stage), ended.evidence(stage)["version"])


def test_requests_carry_ids_headers_and_secrets_and_keep_no_secret(digits, programs, tmp_path, monkeypatch) -> None:
    recorder, address = record(programs, serve(programs), tmp_path / "seen", "--keep-header", "x-team", "--bodies", "all")
    monkeypatch.setenv("STAGING_TOKEN", "Bearer canary-5a7f")
    headers = 'headers = { x-team = "ranking", authorization = { env = "STAGING_TOKEN" } }'
    ended = run(digits, tmp_path, live("staging", f"http://{address}", headers))
    assert ended.verdict("staging") in ("equivalent", "identical"), ended.said
    programs.stop(recorder)
    seen = [row for row in rows(tmp_path / "seen") if row["inputs"]]
    assert len(seen) == DIGITS
    asked = {row["client_request_id"] for row in seen}
    assert asked == {row["id"] for row in rows(digits)}
    assert all({"name": "x-team", "value": "ranking"} in row["request_headers"] for row in seen)
    kept = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert kept and not any(b"canary-5a7f" in path.read_bytes() for path in kept)
    monkeypatch.delenv("STAGING_TOKEN")
    ended = run(digits, tmp_path / "run", live("staging", f"http://{address}", headers))
    assert ended.verdict("staging") == "failed" and "STAGING_TOKEN is not set" in ended.reason("staging")


def test_what_is_not_there_is_unavailable_in_words_and_the_exit_code_minds(digits, programs, tmp_path) -> None:
    address = serve(programs)
    text = (
        live("nobody", f"http://127.0.0.1:{free_port()}")
        + live("nobody-grpc", f"grpc://127.0.0.1:{free_port()}")
        + live("other-model", f"http://{address}", 'model_name = "digit"')
        + live("other-version", f"http://{address}", 'model_version = "7"')
        + live("no-grpc", f"grpc://{address}")
    )
    ended = run(digits, tmp_path, text)
    said = {
        "nobody": "refused",
        "nobody-grpc": "refused",
        "other-model": "no model `digit`",
        "other-version": "version `7`",
        "no-grpc": f"grpc://{address}: ",
    }
    for stage, words in said.items():
        assert ended.verdict(stage) == "unavailable", (stage, ended.stages[stage])
        assert words in ended.reason(stage), ended.reason(stage)
    assert ended.code == 3


def faulty(address: str, faults: dict[int, str]) -> http.server.HTTPServer:
    """A server before `address` whose n-th inference goes wrong."""
    counter = itertools.count(1)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            fault = faults.get(next(counter)) if self.path.endswith("/infer") else None
            if fault == "no answer":
                self.close_connection = True
                return
            if fault == "busy":
                self.answer(503, b'{"error": "the queue is full"}', [])
                return
            if fault == "no protocol":
                self.answer(200, b"<html>", [])
                return
            upstream = http.client.HTTPConnection(address, timeout=PATIENCE)
            upstream.request(self.command, self.path, body, dict(self.headers))
            got = upstream.getresponse()
            keep = [(k, v) for k, v in got.getheaders() if k.startswith(("content-type", "inference-"))]
            self.answer(got.status, got.read(), keep)
            # Nothing said so: the client must find out.
            self.close_connection = fault == "closes when idle"

        do_GET = do_POST = relay

        def answer(self, status: int, body: bytes, headers: list) -> None:
            self.send_response(status)
            for key, value in [*headers, ("content-length", str(len(body)))]:
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    started = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=started.serve_forever, daemon=True).start()
    return started


def test_a_fault_costs_its_own_request_and_no_other(digits, programs, tmp_path) -> None:
    faults = {5: "busy", 8: "no answer", 11: "closes when idle", 14: "no protocol", DIGITS: "no answer"}
    server_ = faulty(serve(programs), faults)
    ended = run(digits, tmp_path, live("live", f"http://127.0.0.1:{server_.server_port}"))
    assert ended.stages["live"]["outcomes"] == {"compared": DIGITS - 4, "stage_failed": 4}, ended.said
    rows_ = [row for file in (tmp_path / "run/stages/live").glob("comparisons/*") for row in pq.read_table(file).to_pylist()]
    reasons = " ".join(str(row["error"]) for row in rows_)
    for words in ("status 503: the queue is full", "it gave no answer", "cannot be read"):
        assert words in reasons, reasons
    server_.shutdown()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('model_name = "digits"', "it has no `url`"),
        ('url = "http://127.0.0.1:1"', "it has no `model_name`"),
        ('url = "127.0.0.1:1"\nmodel_name = "digits"', "must begin with http://"),
        ('url = "http://127.0.0.1:1/v2"\nmodel_name = "digits"', "paths"),
        ('url = "grpc://127.0.0.1:1"\nmodel_name = "digits"\nbinary = true', "means nothing over gRPC"),
        ('url = "http://127.0.0.1:1"\nmodel_name = "digits"\ntrust = "ca.pem"', "ca.pem"),
        ('url = "http://127.0.0.1:1"\nmodel_name = "digits"\nheaders = { authorization = "Bearer x" }', "run.json"),
        ('url = "http://127.0.0.1:1"\nmodel_name = "digits"\nmodel_versoin = "1"', "did you mean `model_version`?"),
    ],
)
def test_keys_that_cannot_be_meant_are_refused_before_anything_runs(digits, tmp_path, keys, said) -> None:
    ended = run(digits, tmp_path, f'[[stage]]\nname = "live"\nruntime = "endpoint"\n{keys}\n')
    assert ended.code == 2 and said in ended.said, ended.said
