"""Payload columns, as pyarrow and DuckDB read them: null, empty, small, huge, mixed in one file."""

import json
import random
import subprocess
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from conftest import Programs, binary

MIB = 1 << 20
INFER = "/v2/models/m/infer"
HEADER = "Inference-Header-Content-Length"


def message(side: str, rest: dict, tensors: list[bytes]) -> tuple[bytes, dict[str, str]]:
    """A body of the binary extension with UINT8 tensors, and its header field."""
    described = [
        {"name": str(i), "datatype": "UINT8", "shape": [len(t)], "parameters": {"binary_data_size": len(t)}}
        for i, t in enumerate(tensors)
    ]
    head = json.dumps({**rest, side: described}).encode()
    return head + b"".join(tensors), {HEADER: str(len(head)), "Content-Type": "application/octet-stream"}


class Echo(BaseHTTPRequestHandler):
    """Answers inferences with their own tensors, last first, and anything else with 404."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(404, b"", {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != INFER:
            return self.answer(404, body[:100], {})
        at = int(self.headers[HEADER])
        tensors = []
        for tensor in json.loads(body[:at])["inputs"]:
            size = tensor["parameters"]["binary_data_size"]
            tensors.append(body[at : at + size])
            at += size
        self.answer(200, *message("outputs", {"model_name": "m"}, tensors[::-1]))

    def answer(self, status: int, body: bytes, fields: dict[str, str]) -> None:
        self.send_response(status)
        for field in fields.items():
            self.send_header(*field)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def upstream():
    """host:port of an upstream that echoes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield "{}:{}".format(*server.server_address)
    server.shutdown()
    thread.join()
    server.server_close()


def requests() -> list[list[bytes] | bytes | None]:
    """Tensors of an inference, a body that nobody decodes, or no body."""
    draw = random.Random(7)
    sizes: list[list[int] | int | None] = [
        None, [], [0], 5 * MIB, [0, 5, 16383, 16384, 700_000, 1_200_000], [MIB - 4], [MIB - 5, 3], 3,
        [40 * MIB, 30 * MIB, 1],  # longer than a page may become
    ]  # fmt: skip
    for _ in range(60):
        tensors = [draw.choice([0, 4, 300, 20_000, 602_112]) for _ in range(draw.randrange(4))]
        sizes.append(draw.choice([None, draw.randrange(1, 50_000), tensors, tensors, tensors]))
    whole = draw.randbytes(40 * MIB)

    def some(n: int) -> bytes:
        at = draw.randrange(len(whole) - n + 1)
        return whole[at : at + n]

    return [[some(n) for n in s] if isinstance(s, list) else s and some(s) for s in sizes]


def test_null_empty_and_huge_payloads_are_read_by_strangers(
    programs: Programs, upstream: str, tmp_path: Path
) -> None:
    capture = tmp_path / "capture"
    args = ("record", "--listen", "127.0.0.1:0", "--upstream", f"http://{upstream}", "--capture", str(capture))
    recorder, address = programs.start(*args, "--no-metadata", "--flush-age", "60000", "--memory-budget", "1024")
    client = HTTPConnection(address)
    sent = requests()
    for i, request in enumerate(sent):
        if request is None:
            client.request("GET", f"/raw/{i}")
        elif isinstance(request, bytes):
            client.request("POST", f"/raw/{i}", request)
        else:
            body, fields = message("inputs", {"id": str(i)}, request)
            client.request("POST", INFER, body, fields)
        answer = client.getresponse()
        assert answer.status == (200 if isinstance(request, list) else 404)
        answer.read()
    programs.stop(recorder)
    # What a row must hold: data of inputs and of outputs, and bodies.
    expected = []
    for request in sent:
        decoded = isinstance(request, list)
        inputs, outputs = (request, request[::-1]) if decoded else (None, None)
        body = request if isinstance(request, bytes) else None
        expected.append((inputs, outputs, body, body and body[:100]))
    columns = ["seq", "inputs", "outputs", "request_body", "response_body"]
    files = sorted(capture.glob("*.parquet"))
    groups = [pq.ParquetFile(f).num_row_groups for f in files]
    assert sum(groups) < len(sent) / 4, "values are mixed in one row group"

    def check(rows: list[tuple], reader: str) -> None:
        assert [row[0] for row in rows] == list(range(len(sent)))
        for (seq, inputs, outputs, *bodies), row in zip(rows, expected, strict=True):
            data = [t if t is None else [x["data"] for x in t] for t in (inputs, outputs)]
            # Not by comparing in the assertion: a report of megabytes is no report.
            assert all(a == b for a, b in zip((*data, *bodies), row, strict=True)), f"{reader}: row {seq}"

    table = pq.read_table(capture, columns=columns).sort_by("seq")
    check([tuple(row[c] for c in columns) for row in table.to_pylist()], "pyarrow")
    query = f"select {', '.join(columns)} from '{capture}/*.parquet' order by seq"
    check(duckdb.sql(query).fetchall(), "DuckDB")
    verified = subprocess.run([binary(), "captures", "verify", str(capture)], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout
    print(f"{len(sent)} exchanges in row groups {groups}: equal in pyarrow and DuckDB")
