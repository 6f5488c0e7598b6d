#!/usr/bin/env python3
"""Memory with the sink stopped: the recorder's threads are halted, production goes on.

    scripts/campaign_memory.py BINARY UPSTREAM [--short]

Prints one line per load: requests, resident memory at its highest, what was dropped. Exit code 1
where resident memory went over budget + 64 MiB, where a request failed, or where the books do not
balance after the thread goes on.
"""

import argparse
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
ALLOWANCE_MIB = 64
JSON = b'{"inputs":[{"name":"x","shape":[1,64],"datatype":"FP32","data":[%s]}]}'


class Halted:
    """The recorder, stopped by ptrace for as long as the block runs.

    Two threads bear its name, of which one waits while the other works: both are stopped, and the
    block fails at its end where one of them was not.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.threads = self.named()
        self.libc = ctypes.CDLL(None, use_errno=True)

    def named(self) -> list[int]:
        """The recorder's threads."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sorted(int(task.name) for task in tasks if (task / "comm").read_text().strip() == "recorder")

    def trace(self, request: int, thread: int) -> None:
        """One ptrace call."""
        if self.libc.ptrace(request, thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def __enter__(self) -> "Halted":
        for thread in self.threads:
            self.trace(SEIZE, thread)
            self.trace(INTERRUPT, thread)
            os.waitpid(thread, 0x40000000)  # __WALL: it is a thread, not a child process
        return self

    def __exit__(self, failed: object, *_exception: object) -> None:
        stat = {t: Path(f"/proc/{self.pid}/task/{t}/stat").read_text() for t in self.named()}
        states = {t: text.rpartition(")")[2].split()[0] for t, text in stat.items()}
        for thread in self.threads:
            self.trace(DETACH, thread)
        if not failed and states != dict.fromkeys(self.threads, "t"):
            raise AssertionError(f"the recorder was not halted: {states}")


def resident_mib(pid: int) -> float:
    """VmRSS."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024


def request(size: int) -> bytes:
    """An inference request whose body has `size` bytes."""
    if size < 10_000:
        body = JSON % ",".join(f"{i * 0.37:.4f}" for i in range(64)).encode()
        body += b" " * (size - len(body))
        extra = b"Content-Type: application/json\r\n"
    else:
        n = size // 4 * 4
        header = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"FP32","parameters":{"binary_data_size":%d}}]}' % (n // 4, n)
        body = header + bytes(n)
        extra = b"Inference-Header-Content-Length: %d\r\n" % len(header)
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\n%sContent-Length: %d\r\n\r\n"
    return head % (extra, len(body)) + body


def load(address: tuple[str, int], messages: list[bytes], count: int) -> int:
    """Sends `count` requests on one connection, in turn; returns how many were answered 200."""
    good = 0
    with socket.create_connection(address) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.settimeout(20)
        for i in range(count):
            s.sendall(messages[i % len(messages)])
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += s.recv(65536)
            head, _, body = answer.partition(b"\r\n\r\n")
            left = int(re.search(rb"(?i)content-length: (\d+)", head)[1]) - len(body)
            while left > 0:
                left -= len(s.recv(left))
            good += head.startswith(b"HTTP/1.1 200")
    return good


def one(binary: str, upstream: str, title: str, sizes: list[int], count: int, budget: int) -> bool:
    """One load against a fresh recorder."""
    with tempfile.TemporaryDirectory(prefix="campaign-memory-") as folder:
        log = Path(folder) / "log"
        command = [binary, "record", "--listen", "127.0.0.1:0", "--upstream", f"http://{upstream}"]
        command += ["--capture", f"{folder}/capture", "--memory-budget", str(budget), "--no-metadata"]
        with log.open("w") as file:
            child = subprocess.Popen(command, stdout=file, stderr=file)
        while not (found := re.search(r"listening on (\S+):(\d+)", log.read_text())):
            time.sleep(0.02)
        address = (found[1], int(found[2]))
        highest, done = 0.0, threading.Event()

        def watch() -> None:
            nonlocal highest
            while not done.wait(0.02):
                highest = max(highest, resident_mib(child.pid))

        load(address, [request(s) for s in sizes], 2)
        watcher = threading.Thread(target=watch)
        with Halted(child.pid):
            watcher.start()
            good = load(address, [request(s) for s in sizes], count)
            time.sleep(0.1)
        done.set()
        watcher.join()
        child.send_signal(signal.SIGTERM)
        code = child.wait(120)
        closing = log.read_text().splitlines()[-1]
        numbers = [int(n) for n in re.findall(r"(\d+)", closing.split(";")[0])]
        balanced = numbers[0] == sum(numbers[1:]) == count + 2
        fine = good == count and highest <= budget + ALLOWANCE_MIB and balanced and code == 0
        verdict = "ok" if fine else "FAILED"
        print(f"{title:34} {count:>9} requests  budget {budget} MiB  resident {highest:6.1f} MiB  {closing}  {verdict}", flush=True)
        return fine


def main() -> int:
    """Every load."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("upstream", help="program that serves any request")
    parser.add_argument("--short", action="store_true", help="smaller budget, fewer requests")
    arguments = parser.parse_args()
    with tempfile.NamedTemporaryFile("w+") as log:
        up = subprocess.Popen([arguments.upstream], stdout=log, stderr=log)
        try:
            while not (found := re.search(r"listening on (\S+)", Path(log.name).read_text())):
                time.sleep(0.02)
            budget, scale = (32, 50) if arguments.short else (256, 1)
            loads = [
                ("1 MiB binary", [1 << 20], 10_000 // scale),
                ("640 B JSON", [640], 2_000_000 // scale),
                ("640 B and 600 kB on one connection", [640, 600_000], 10_000 // scale),
            ]
            results = [one(arguments.binary, found[1], *each, budget) for each in loads]
        finally:
            up.kill()
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
