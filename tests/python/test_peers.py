"""Other people's proxies around ours, names that move, bombs, and what is logged."""

import gzip
import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, ROOT, binary, rows

sys.path.insert(0, str(ROOT / "scripts"))


class Upstream:
    """Answers every request with what it got of it: head and body, byte for byte."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host, self.got, self.asked = host, b"", 0
        self.listener = socket.create_server((host, port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        """One thread a connection."""
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        """Requests of one connection, with Content-Length."""
        with client:
            buffer = b""
            while True:
                while b"\r\n\r\n" not in buffer:
                    piece = client.recv(65536)
                    if not piece:
                        return
                    buffer += piece
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                found = re.search(rb"(?im)^content-length: (\d+)", head)
                length = int(found[1]) if found else 0
                while len(buffer) < length:
                    buffer += client.recv(65536)
                self.got, buffer, self.asked = buffer[:length], buffer[length:], self.asked + 1
                me = self.host.encode()
                client.sendall(b"HTTP/1.1 200 Fine\r\nX-Me: %s\r\nContent-Length: %d\r\n\r\n%s" % (me, length, self.got))


def record(programs, upstream: str, capture: Path, *more: str) -> tuple[subprocess.Popen, str]:
    """A recorder before `upstream`."""
    return programs.start(
        "record", "--listen", "127.0.0.1:0", "--upstream", f"http://{upstream}", "--capture", str(capture),
        "--no-metadata", *more,
    )


def post(address: str, body: bytes, headers: dict | None = None) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    connection.request("POST", "/v2/models/m/infer", body, headers or {})
    answer = connection.getresponse()
    got = answer.status, answer.read()
    connection.close()
    return got


NGINX = """
user root; worker_processes 1; daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
events {{ worker_connections 256; }}
http {{
  access_log off; client_max_body_size 0; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream up {{ server {upstream}; keepalive 8; }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen all
  bind 127.0.0.1:{port}
  server up {upstream}
"""


def peer(programs, name: str, folder: Path, upstream: str) -> str:
    """nginx or HAProxy before `upstream`; its host:port."""
    assert shutil.which(name), "scripts/setup --servers installs it"
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    config = folder / f"{name}-{port}.conf"
    config.write_text((NGINX if name == "nginx" else HAPROXY).format(folder=folder, port=port, upstream=upstream))
    command = ["nginx", "-c", str(config)] if name == "nginx" else ["haproxy", "-f", str(config)]
    with (folder / f"{name}-{port}.out").open("w") as out:
        programs.running.append(subprocess.Popen(command, stdout=out, stderr=out))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return f"127.0.0.1:{port}"
        except OSError:
            time.sleep(0.02)
    raise AssertionError((folder / f"{name}-{port}.out").read_text())


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_a_peer_before_and_behind(programs, tmp_path, name) -> None:
    """client - peer - recorder - peer - upstream: every body of every size comes back."""
    upstream = Upstream()
    behind = peer(programs, name, tmp_path, f"127.0.0.1:{upstream.port}")
    child, address = record(programs, behind, tmp_path / "capture", "--bodies", "all")
    before = peer(programs, name, tmp_path, address)
    sizes = [0, 1, 640, 16_383, 65_537, 602_000, 3_000_000]
    connection = http.client.HTTPConnection(before, timeout=PATIENCE)
    for n, size in enumerate(sizes * 6):
        body = os.urandom(size)
        connection.request("POST", "/x", body)
        answer = connection.getresponse()
        assert (answer.status, answer.read() == body) == (200, True), (n, size)
    programs.stop(child)
    kept = rows(tmp_path / "capture")
    assert len(kept) == len(sizes) * 6 and {r["outcome"] for r in kept} == {"complete"}
    assert sorted(len(r["request_body"] or b"") for r in kept) == sorted(sizes * 6)
    print(f"{name}: {len(kept)} exchanges through {name}, the recorder and {name}")


def test_a_bomb_is_forwarded_kept_as_it_came_and_counted(programs, tmp_path) -> None:
    """1:1000: the upstream gets the same bytes, nothing is decoded, /metrics says so."""
    upstream = Upstream()
    child, address = record(programs, f"127.0.0.1:{upstream.port}", tmp_path / "capture", "--flush-age", "20")
    admin = re.search(r"admin on http://(\S+)", (tmp_path / "record-0.log").read_text())[1]
    bomb = gzip.compress(bytes(64 << 20), 9)
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert post(address, bomb, headers) == (200, bomb) and upstream.got == bomb
    print(f"bomb of {len(bomb)} bytes for {64 << 20}")
    wanted, metrics = 'inferdiff_undecoded_total{protocol="oip-rest"} 1', ""
    deadline = time.monotonic() + PATIENCE
    while wanted not in metrics and time.monotonic() < deadline:
        time.sleep(0.05)
        connection = http.client.HTTPConnection(admin, timeout=PATIENCE)
        connection.request("GET", "/metrics")
        metrics = connection.getresponse().read().decode()
    assert wanted in metrics, metrics
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{child.pid}/status").read_text())[1])
    programs.stop(child)
    (row,) = rows(tmp_path / "capture")
    assert (row["inputs"], row["request_body"]) == (None, bomb)
    assert "gzip bomb" in row["decode_error"]
    assert peak < 200 << 10, f"{peak} kB at its highest"


def test_the_upstreams_name_is_resolved_again(programs, tmp_path) -> None:
    """The name moves to another address: the next fresh connection goes there, without a restart."""
    if os.geteuid() != 0:
        pytest.skip("a hosts file of its own needs a mount namespace: run as root")
    first = Upstream("127.0.0.2")
    second = Upstream("127.0.0.3", first.port)
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.2 model.test\n")
    flags = f"--listen 127.0.0.1:0 --upstream http://model.test:{first.port} --capture {tmp_path}/capture --no-metadata --pool-idle 50"
    script = f"mount --bind {hosts} /etc/hosts && exec {binary()} record {flags}"
    child, address = programs.start("-m", "sh", "-c", script, program="unshare")
    for _ in range(3):
        assert post(address, b"a")[0] == 200
    assert (first.asked, second.asked) == (3, 0)
    # In place: the mount shows this file, not its name.
    with hosts.open("r+") as file:
        file.write("127.0.0.3 model.test\n")
    time.sleep(0.1)
    for _ in range(3):
        assert post(address, b"a")[0] == 200
    assert (first.asked, second.asked) == (3, 3)
    programs.stop(child)


def test_a_problem_is_logged_once_and_not_per_request(programs, tmp_path) -> None:
    """200 requests to an upstream that is not there, 50 heads that are refused."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    child, address = record(programs, f"127.0.0.1:{port}", tmp_path / "capture")
    for _ in range(200):
        status, why = post(address, b"{}")
        assert status == 502 and b"cannot be reached" in why
    host, _, number = address.rpartition(":")
    for _ in range(50):
        with socket.create_connection((host, int(number))) as s:
            s.sendall(b"GET / HTTP/1.1\nHost: h\n\n")
            assert s.recv(64).startswith(b"HTTP/1.1 400 ")
    programs.stop(child)
    log = (tmp_path / "record-0.log").read_text().splitlines()
    print("\n".join(log))
    assert len(log) < 15, log
    outcomes = [r["outcome"] for r in rows(tmp_path / "capture")]
    assert (outcomes.count("upstream_unreachable"), outcomes.count("refused")) == (200, 50)
