"""Cases as traffic: a server that answers what the suite expects, recorded by `inferdiff record`."""

import http.client
import http.server
import json
import re
import subprocess
import threading
from pathlib import Path

from cases import Case, Value

HEADER = "Inference-Header-Content-Length"


def body(values: list[Value], kind: str) -> tuple[bytes, int]:
    """A message of the Open Inference Protocol with binary tensors, and the length of its JSON."""
    tensors = [
        {
            "name": v.name,
            "datatype": v.datatype,
            "shape": list(v.array.shape),
            "parameters": {"binary_data_size": len(v.data)},
        }
        for v in values
    ]
    head = json.dumps({kind: tensors}).encode()
    return head + b"".join(v.data for v in values), len(head)


def server(cases: dict[str, Case]) -> http.server.ThreadingHTTPServer:
    """Answers `POST /v2/models/CASE/infer` with the outputs that the suite expects."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            answer, head = body(cases[self.path.split("/")[3]].outputs, "outputs")
            self.send_response(200)
            self.send_header(HEADER, str(head))
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

    return Server(("127.0.0.1", 0), Handler)


def record(program: Path, cases: list[Case], folder: Path) -> Path:
    """Sends every case once through the recorder; the capture."""
    upstream = server({c.name: c for c in cases})
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    capture = folder / "capture"
    command = [program, "record", "--listen", "127.0.0.1:0", "--upstream"]
    command += [f"http://127.0.0.1:{upstream.server_address[1]}", "--capture", capture]
    recorder = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        port = None
        for line in recorder.stderr:
            if said := re.search(r"listening on \S+:(\d+)", line):
                port = int(said[1])
                break
        if port is None:
            raise RuntimeError("the recorder did not start")
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for case in cases:
            message, head = body(case.inputs, "inputs")
            client.request("POST", f"/v2/models/{case.name}/infer", message, {HEADER: str(head)})
            answer = client.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{case.name}: status {answer.status}")
        client.close()
    finally:
        recorder.terminate()
        recorder.stderr.read()
        recorder.wait()
        upstream.shutdown()
    if recorder.returncode != 0:
        raise RuntimeError(f"the recorder ended with {recorder.returncode}")
    return capture
