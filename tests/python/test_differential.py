"""The client's socket gets the same bytes with and without the proxy, whatever the sink does."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import PATIENCE, ROOT, rows

sys.path.insert(0, str(ROOT / "scripts"))
from campaign_memory import Halted  # noqa: E402 - after the path is set

GOLDEN = ROOT / "tests/golden/wire"


def chunked(body: bytes) -> bytes:
    """In chunks of odd sizes, with an extension and a trailer that nobody declared."""
    out, at, size = b"", 0, 1
    while at < len(body):
        piece = body[at : at + size]
        out, at, size = out + b"%x;n=%d\r\n%s\r\n" % (len(piece), at, piece), at + size, size * 3 + 1
    return out + b"0\r\nX-End: yes\r\n\r\n"


def cases() -> list[tuple[str, bytes, bytes]]:
    """Name, request, answer: every golden exchange of HTTP/1.1, in every framing, and bare methods."""
    found = []
    for expected in sorted(GOLDEN.glob("*/*.json")):
        golden = json.loads(expected.read_text())
        if "grpc" in expected.parent.name:
            continue  # HTTP/2: tests/proxy_http2.rs and test_servers.py
        request, answer = (expected.with_suffix(s).read_bytes() for s in (".request", ".response"))
        status = golden.get("status", 200)
        for up in ("length", "chunks"):
            for down in ("length", "chunks", "close"):
                head = f"POST {golden['path']} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
                head += "".join(f"{k.title()}: {v}\r\n" for k, v in golden["request_headers"].items())
                body = chunked(request) if up == "chunks" else request
                head += "Transfer-Encoding: chunked\r\n\r\n" if up == "chunks" else f"Content-Length: {len(request)}\r\n\r\n"
                back = f"HTTP/1.1 {status} As  Sent\r\nx-lower: 1\r\nX-Lower: 2\r\n"
                back += "".join(f"{k}: {v}\r\n" for k, v in golden["response_headers"].items())
                if down == "chunks":
                    back, out = back + "Transfer-Encoding: chunked\r\n\r\n", chunked(answer)
                else:
                    back, out = back + ("" if down == "close" else f"Content-Length: {len(answer)}\r\n") + "\r\n", answer
                name = f"{expected.parent.name}/{expected.stem} {up} {down}"
                found.append((name, head.encode() + body, back.encode() + out))
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
        head = f"{method} /v2/models/m?x=1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        found.append((method, head.encode(), b"HTTP/1.1 204 Nothing\r\nDate: never\r\n\r\n"))
    return found


class Scripted:
    """Reads one request to its end, sends the answer of its turn, closes."""

    def __init__(self) -> None:
        self.answer = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        """Until the listener is closed."""
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client:
                got = b""
                while b"\r\n\r\n" not in got:
                    piece = client.recv(65536)
                    if not piece:
                        break
                    got += piece
                head, _, body = got.partition(b"\r\n\r\n")
                length = re.search(rb"(?im)^content-length: (\d+)", head)
                while length and len(body) < int(length[1]):
                    body += client.recv(65536)
                while b"chunked" in head and not body.endswith(b"X-End: yes\r\n\r\n"):
                    body += client.recv(65536)
                client.sendall(self.answer)


def ask(port: int, request: bytes) -> bytes:
    """Everything that the client's socket gets. `Connection` belongs to the hop."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as s:
        s.sendall(request)
        out = b""
        while piece := s.recv(65536):
            out += piece
    head, _, body = out.partition(b"\r\n\r\n")
    kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join(kept) + b"\r\n\r\n" + body


@pytest.mark.parametrize("sink", ["well", "stopped", "full", "failing"])
def test_the_clients_socket_gets_the_same_bytes(programs, tmp_path, sink) -> None:
    """All cases under one state of the sink."""
    upstream = Scripted()
    capture = tmp_path / "capture"
    capture.mkdir()
    if sink == "full":
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", capture]).returncode:
            pytest.skip("a full disk needs a file system of its own: run as root")
    try:
        child, address = programs.start(
            "record", "--listen", "127.0.0.1:0", "--upstream", f"http://127.0.0.1:{upstream.port}",
            "--capture", str(capture), "--flush-age", "20", "--no-metadata", "--bodies", "all",
            *(("--storage-fault", "write=eio,after=20000") if sink == "failing" else ()),
        )
        port = int(address.rsplit(":", 1)[1])

        def all_of_them() -> int:
            for name, request, answer in cases():
                upstream.answer = answer
                assert ask(port, request) == ask(upstream.port, request), name
            return len(cases())

        if sink == "stopped":
            with Halted(child.pid):
                n = all_of_them()
        else:
            n = all_of_them()
        child.terminate()
        child.wait(PATIENCE)
        closing = (tmp_path / "record-0.log").read_text().splitlines()[-1]
        print(f"sink {sink}: {n} exchanges, equal at the client's socket; {closing}")
        numbers = [int(x) for x in re.findall(r"\d+", closing.split(";")[0])]
        assert numbers[0] == sum(numbers[1:]) == n
        if sink in ("well", "stopped"):
            assert numbers[1] == n
            kept = rows(capture)
            assert {r["outcome"] for r in kept} <= {"complete", "error_in_stream"}
        else:
            assert numbers[1] < n, "the sink was not in trouble: the test shows nothing"
    finally:
        if sink == "full":
            subprocess.run(["umount", capture], check=False)
        upstream.listener.close()
