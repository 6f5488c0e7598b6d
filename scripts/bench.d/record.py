"""CPU per request of the whole proxy process against nginx and HAProxy passing through.

The upstream reads the body; 32 connections. HTTP/1.1 load comes from wrk, gRPC load from h2load,
each on one thread. Rounds alternate between the candidates, medians are shown. A run of the
recorder with drops, or with bodies not copied, does not count. Small requests come as fast as they
are answered, 602 kB ones at a rate that a disk can take. The tail is measured by h2load at a fixed
rate, half of what nginx saturates at. BENCH_ONLY=small|large|grpc|tail measures that alone, and
BENCH_AGAINST=BINARY another build of the program by turns with this one.
"""

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS, CONNECTIONS = int(os.environ.get("BENCH_SECONDS", "4")), 32
HELD_RATE = 430
# Another build of the program, measured beside this one.
AGAINST = os.environ.get("BENCH_AGAINST")

SMALL = """
local t={} for i=1,64 do t[i]=string.format("%.4f",i*0.37) end
wrk.method="POST"
wrk.body='{"id":"r1","inputs":[{"name":"x","shape":[1,64],"datatype":"FP32","data":['..table.concat(t,",")..']}]}'
while #wrk.body < 640 do wrk.body = wrk.body.." " end
wrk.headers["Content-Type"]="application/json"
wrk.path="/v2/models/m/infer"
"""
LARGE = """
local n=1*3*224*224*4
local h='{"inputs":[{"name":"x","shape":[1,3,224,224],"datatype":"FP32","parameters":{"binary_data_size":'..n..'}}]}'
wrk.method="POST"
wrk.body=h..string.rep("\\63\\128\\1\\2",n/4)
wrk.headers["Content-Type"]="application/octet-stream"
wrk.headers["Inference-Header-Content-Length"]=tostring(#h)
wrk.path="/v2/models/m/infer"
-- Each connection pauses: at saturation the load is faster than a disk, and a run with drops does
-- not count. About 430 requests (260 MB) a second, the same for every candidate.
function delay() return 64 end
"""
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 2m; keepalive_requests 100000000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream up {{ server {upstream}; keepalive 256; }}
  upstream grpc {{ server {grpc}; keepalive 256; }}
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_request_buffering off; proxy_buffering off; }} }}
  server {{ listen 127.0.0.1:{grpc_port} http2; location / {{ grpc_pass grpc://grpc; }} }}
}}
"""
HAPROXY = """
global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  server s {upstream}
"""
GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
children: list[subprocess.Popen] = []


def start(log: Path, *command: str) -> subprocess.Popen:
    """Starts a program with its output in `log`."""
    with log.open("w") as file:
        children.append(subprocess.Popen(command, stdout=file, stderr=file))
    return children[-1]


def address(log: Path) -> str:
    """host:port that the program says it listens on."""
    for _ in range(200):
        found = re.search(r"listening on (\S+)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.05)
    sys.exit(f"nothing listens: {log.read_text()}")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu(pid: int) -> float:
    """User and system seconds of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wrk(script: Path):
    """A load of HTTP/1.1: takes host:port, returns requests and their rate."""

    def run(target: str) -> tuple[int, float]:
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", script, f"http://{target}"]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        if "Non-2xx" in out or "Socket errors" in out:
            sys.exit(f"{target}: {out}")
        return int(re.search(r"(\d+) requests in", out)[1]), float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])

    return run


def h2load(body: Path, path: str, *more: str):
    """A load from h2load."""

    def run(target: str) -> tuple[int, float]:
        command = ["h2load", f"-c{CONNECTIONS}", "-t1", f"-D{SECONDS}", "-d", str(body), *more, f"http://{target}{path}"]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        done = re.search(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored", out)
        if done[3] != "0" or done[4] != "0" or done[2] == "0":
            sys.exit(f"{target}: {out}")
        return int(done[2]), float(re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", out)[1])

    return run


def varint(n: int) -> bytes:
    """A protobuf varint."""
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def grpc_request(elements: int) -> bytes:
    """A framed ModelInferRequest with one raw FP32 input [1, elements]."""
    shape = field(3, varint(1) + varint(elements))
    tensor = field(1, b"x") + field(2, b"FP32") + shape
    message = field(1, b"m") + field(3, b"r1") + field(5, tensor) + field(7, b"\x3f\x80\x01\x02" * elements)
    return b"\0" + len(message).to_bytes(4, "big") + message


class Bench:
    """The programs, and what is measured of them."""

    def __init__(self, release: Path, folder: Path) -> None:
        self.release, self.folder, self.count = release, folder, 0
        self.upstream, self.grpc = (self.serve(*more) for more in ((), ("--grpc",)))
        self.port, self.grpc_port, haproxy_port = free_port(), free_port(), free_port()
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, upstream=self.upstream, grpc=self.grpc, port=self.port, grpc_port=self.grpc_port))
        nginx = start(folder / "nginx.out", "nginx", "-c", str(config))
        (folder / "haproxy.cfg").write_text(HAPROXY.format(port=haproxy_port, upstream=self.upstream))
        haproxy = start(folder / "haproxy.out", "haproxy", "-q", "-f", str(folder / "haproxy.cfg"))
        time.sleep(0.7)
        worker = int(Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read_text().split()[0])
        self.nginx = (f"127.0.0.1:{self.port}", worker)
        self.nginx_grpc = (f"127.0.0.1:{self.grpc_port}", worker)
        self.haproxy = (f"127.0.0.1:{haproxy_port}", haproxy.pid)

    def serve(self, *more: str) -> str:
        """An upstream's host:port."""
        self.count += 1
        log = self.folder / f"upstream{self.count}.log"
        start(log, str(self.release / "examples/bench_upstream"), *more)
        return address(log)

    def recorder(self, upstream: str, *more: str, binary: str | None = None):
        """A fresh recorder: its process, host:port, log and capture."""
        self.count += 1
        log, capture = self.folder / f"record{self.count}.log", self.folder / f"capture{self.count}"
        child = start(log, binary or str(self.release / "inferdiff"), "record", "--listen", "127.0.0.1:0", "--upstream", f"http://{upstream}", "--capture", str(capture), "--no-metadata", *more)
        return child, address(log), log, capture

    def peer(self, run, peer: tuple[str, int]):
        """CPU us per request of a peer, and its rate."""
        target, pid = peer
        before = cpu(pid)
        n, rate = run(target)
        return (cpu(pid) - before) / n * 1e6, rate

    def ours(self, run, upstream: str, *more: str, binary: str | None = None):
        """The same of a recorder; None where the run does not count."""
        child, target, log, capture = self.recorder(upstream, *more, binary=binary)
        before = cpu(child.pid)
        n, rate = run(target)
        child.terminate()
        pid, _status, usage = os.wait4(child.pid, 0)
        child.returncode = 0
        # What is written at the very end is part of the work.
        spent = usage.ru_utime + usage.ru_stime - before
        closing = log.read_text().splitlines()[-1]
        shutil.rmtree(capture, ignore_errors=True)
        if "--no-record" not in more and not closing.endswith("dropped 0"):
            print(f"  a run does not count: {closing}")
            return None
        return spent / n * 1e6, rate

    def compare(self, title: str, run, upstream: str, peers: dict, candidates: dict) -> None:
        """All of them in turn, medians and ratios."""
        other = ["recording, other build"] if AGAINST else []
        results: dict[str, list] = {name: [] for name in [*peers, *candidates, *other]}
        for _ in range(ROUNDS):
            for name, peer in peers.items():
                results[name].append(self.peer(run, peer))
            for name, more in candidates.items():
                results[name].append(self.ours(run, upstream, *more))
            for name in other:
                results[name].append(self.ours(run, upstream, binary=AGAINST))
        print(f"{title}:")
        bases = {name: statistics.median(r[0] for r in results[name]) for name in peers}
        for name, runs in results.items():
            runs = [r for r in runs if r]
            if not runs:
                print(f"  {name:22} no run without drops")
                continue
            spent = [r[0] for r in runs]
            middle, rate = statistics.median(spent), statistics.median(r[1] for r in runs)
            ratios = "  ".join(f"{middle / base:5.2f} x {peer}" for peer, base in bases.items())
            print(f"  {name:22} {middle:7.1f} us CPU/request ({min(spent):.1f}..{max(spent):.1f})  {ratios}  {rate:8.0f} req/s", flush=True)

    def tail(self, body: Path) -> None:
        """p99 at half of nginx's saturation, 640 bytes."""
        path, json = "/v2/models/m/infer", ("--h1", "-H", "content-type: application/json")
        _, saturated = h2load(body, path, *json)(self.nginx[0])
        rate = max(1, int(saturated / 2 / CONNECTIONS))
        builds = {"recording": None, **({"recording, other build": AGAINST} if AGAINST else {})}
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in ("nginx", *builds)}
        log = self.folder / "latencies"
        run = h2load(body, path, *json, f"--rps={rate}", f"--log-file={log}")

        def slowest() -> tuple[float, float]:
            took = sorted(int(line.split()[2]) for line in log.read_text().splitlines())
            log.unlink()
            return took[int(len(took) * 0.99)] / 1000, took[int(len(took) * 0.999)] / 1000

        for _ in range(ROUNDS):
            run(self.nginx[0])
            results["nginx"].append(slowest())
            for name, binary in builds.items():
                if self.ours(run, self.upstream, binary=binary):
                    results[name].append(slowest())
        print(f"p99 at {rate * CONNECTIONS} req/s, half of what nginx saturates at, 640-byte JSON:")
        base = statistics.median(p99 for p99, _ in results["nginx"])
        for name, measured in results.items():
            values, p999 = zip(*measured)
            middle = statistics.median(values)
            print(f"  {name:22} {middle:7.2f} ms ({min(values):.2f}..{max(values):.2f})  {middle / base:5.2f} x nginx; p99.9 {statistics.median(p999):.2f} ms")

    def idle(self) -> None:
        """Resident memory at rest, and per idle connection."""

        def resident(pid: int) -> int:
            return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])

        child, target, _log, _capture = self.recorder(self.upstream)
        time.sleep(0.3)
        empty = resident(child.pid)
        host, port = target.split(":")
        request = b"GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n"
        open_ = []
        for _ in range(500):
            open_.append(socket.create_connection((host, int(port))))
            open_[-1].sendall(request)
            open_[-1].recv(65536)
        time.sleep(1.5)
        full = resident(child.pid)
        print(f"idle: {empty / 1024:.1f} MiB resident, {(full - empty) / len(open_):.1f} kB for each of {len(open_)} idle connections that were used once")
        child.terminate()
        child.wait()


def main() -> None:
    """record.py RELEASE_FOLDER"""
    folder = Path(tempfile.mkdtemp(prefix="bench-record-"))
    only = os.environ.get("BENCH_ONLY", "")
    try:
        bench = Bench(Path(sys.argv[1]).resolve(), folder)
        versions = [subprocess.run(c, capture_output=True, text=True) for c in (["nginx", "-v"], ["haproxy", "-v"])]
        print(describe(), *((v.stderr or v.stdout).splitlines()[0] for v in versions), sep="; ")
        print(f"{ROUNDS} rounds of {SECONDS} s, {CONNECTIONS} connections")
        http1 = {"nginx": bench.nginx, "haproxy": bench.haproxy}
        candidates = {"forwarding": ("--no-record",), "recording": (), "recording, bodies all": ("--bodies", "all")}
        (folder / "small.lua").write_text(SMALL)
        (folder / "large.lua").write_text(LARGE)
        small, large = folder / "small.grpc", folder / "large.grpc"
        small.write_bytes(grpc_request(160))
        large.write_bytes(grpc_request(3 * 224 * 224))
        if only in ("", "small"):
            bench.compare("640-byte JSON", wrk(folder / "small.lua"), bench.upstream, http1, candidates)
        if only in ("", "large"):
            bench.compare("602 kB binary", wrk(folder / "large.lua"), bench.upstream, http1, candidates)
        grpc = ("-H", "content-type: application/grpc", "-H", "te: trailers")
        peers = {"nginx grpc_pass": bench.nginx_grpc}
        candidates.pop("recording, bodies all")
        if only in ("", "grpc"):
            bench.compare(f"gRPC ModelInfer, {small.stat().st_size} bytes", h2load(small, GRPC_PATH, *grpc), bench.grpc, peers, candidates)
            held = f"--rps={HELD_RATE // CONNECTIONS}"
            bench.compare("gRPC ModelInfer, 602 kB", h2load(large, GRPC_PATH, *grpc, held, "-w22", "-W26"), bench.grpc, peers, candidates)
        if only in ("", "tail"):
            values = ",".join(f"{i * 0.37:.4f}" for i in range(1, 65))
            text = '{"id":"r1","inputs":[{"name":"x","shape":[1,64],"datatype":"FP32","data":[' + values + "]}]}"
            (folder / "small.json").write_text(text.ljust(640))
            bench.tail(folder / "small.json")
            bench.idle()
    finally:
        for child in children:
            # Gently first: a master that is killed leaves its workers behind.
            child.terminate()
        for child in children:
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
