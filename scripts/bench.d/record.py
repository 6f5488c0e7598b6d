"""CPU per request of the whole proxy process against nginx passing through.

The upstream reads the body; 32 connections; wrk on one thread. Rounds alternate between the
candidates, medians are shown. A run of the recorder with drops does not count. 640-byte requests
come as fast as they are answered, 602 kB ones at a rate that a disk can take.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe

ROUNDS, SECONDS, CONNECTIONS = 5, 4, 32

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
-- not count. About 450 requests (270 MB) a second, the same for every candidate.
function delay() return 64 end
"""
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 2m;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream up {{ server {upstream}; keepalive 256; }}
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_request_buffering off; proxy_buffering off; }} }}
}}
"""
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


def cpu(pid: int) -> float:
    """User and system seconds of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(url: str, script: Path, pid: int) -> tuple[float, float, str]:
    """CPU µs per request, requests per second, p99."""
    before = cpu(pid)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-s", script, url]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent = cpu(pid) - before
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"{url}: {out}")
    n = int(re.search(r"(\d+) requests in", out)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    return spent / n * 1e6, rate, re.search(r"99%\s+(\S+)", out)[1]


def recorder(release: Path, folder: Path, upstream: str, name: str, *more: str):
    """A recorder; its pid, url and log."""
    log = folder / f"{name}.log"
    capture = folder / f"capture-{name}"
    args = ["record", "--listen", "127.0.0.1:0", "--upstream", f"http://{upstream}"]
    child = start(log, str(release / "inferdiff"), *args, "--capture", str(capture), *more)
    return child, f"http://{address(log)}", log


def main() -> None:
    """record.py RELEASE_FOLDER"""
    release = Path(sys.argv[1]).resolve()
    folder = Path(tempfile.mkdtemp(prefix="bench-record-"))
    try:
        up_log = folder / "upstream.log"
        start(up_log, str(release / "examples/bench_upstream"))
        upstream = address(up_log)
        port = 20000 + os.getpid() % 20000
        (folder / "nginx.conf").write_text(
            NGINX.format(folder=folder, upstream=upstream, port=port)
        )
        nginx = start(folder / "nginx.out", "nginx", "-c", str(folder / "nginx.conf"))
        time.sleep(0.5)
        children_of = Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read_text().split()
        print(f"{describe()}; {ROUNDS} rounds of {SECONDS} s, {CONNECTIONS} connections")
        for title, script in (("640-byte JSON", SMALL), ("602 kB binary", LARGE)):
            measure(title, script, release, folder, upstream, port, int(children_of[0]))
    finally:
        for child in children:
            child.kill()
        shutil.rmtree(folder, ignore_errors=True)


def measure(title, script, release, folder, upstream, port, nginx_pid) -> None:
    """All candidates on one workload."""
    lua = folder / "load.lua"
    lua.write_text(script)
    results: dict[str, list] = {"nginx": [], "forwarding": [], "recording": []}
    for round_ in range(ROUNDS):
        results["nginx"].append(load(f"http://127.0.0.1:{port}", lua, nginx_pid))
        for name, more in (("forwarding", ["--no-record"]), ("recording", [])):
            child, url, log = recorder(release, folder, upstream, f"{name}{round_}", *more)
            results[name].append(load(url, lua, child.pid))
            child.terminate()
            child.wait()
            closing = log.read_text().splitlines()[-1]
            if name == "recording" and not closing.endswith("dropped 0"):
                print(f"  round {round_} does not count: {closing}")
                results[name].pop()
            shutil.rmtree(folder / f"capture-{name}{round_}", ignore_errors=True)
    base = statistics.median(r[0] for r in results["nginx"])
    print(f"{title}:")
    for name, runs in results.items():
        if not runs:
            print(f"  {name:11} no run without drops")
            continue
        spent = [r[0] for r in runs]
        middle = statistics.median(spent)
        rate = statistics.median(r[1] for r in runs)
        print(
            f"  {name:11} {middle:7.1f} us CPU/request ({min(spent):.1f}..{max(spent):.1f})"
            f"  {middle / base:5.2f} x nginx  {rate:8.0f} req/s  p99 {runs[len(runs) // 2][2]}"
        )


if __name__ == "__main__":
    main()
