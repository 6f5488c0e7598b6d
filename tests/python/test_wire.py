"""Bodies made by tritonclient, every datatype, JSON and binary: recorded bit for bit."""

import http.client
import http.server
import struct
import threading

import numpy as np
import pytest
import tritonclient.http as triton
from conftest import rows

ANSWER = b'{"model_name":"m","outputs":[]}'

VALUES = {
    "BOOL": np.array([[True, False, True]]),
    "UINT8": np.array([[0, 7, 255]], np.uint8),
    "UINT16": np.array([[0, 7, 65535]], np.uint16),
    "UINT32": np.array([[0, 7, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 7, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 0, 127]], np.int8),
    "INT16": np.array([[-32768, 0, 32767]], np.int16),
    "INT32": np.array([[-(2**31), 0, 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 0, 2**63 - 1]], np.int64),
    "FP16": np.array([[0.1, -65504, 6e-8]], np.float16),
    "FP32": np.array([[0.1, -3.4028235e38, 1.4e-45, 16777217.0, -0.0]], np.float32),
    "FP64": np.array([[0.1, -1.7976931348623157e308, 5e-324, 1 / 3]], np.float64),
    "BYTES": np.array([["", "ä", "three"]], dtype=object),
}


class Upstream(http.server.BaseHTTPRequestHandler):
    """Reads a request, answers 200."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Any POST."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_args) -> None:
        """Quiet."""


@pytest.fixture
def upstream():
    """host:port of a server that answers everything."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def little_endian(datatype: str, value: np.ndarray) -> bytes:
    """The bytes that a capture must hold, made by numpy and struct alone."""
    if datatype == "BYTES":
        encoded = [text.encode() for text in value.ravel()]
        return b"".join(struct.pack("<I", len(e)) + e for e in encoded)
    return value.astype(value.dtype.newbyteorder("<")).tobytes()


def test_every_datatype_in_json_and_binary(programs, tmp_path, upstream) -> None:
    capture = tmp_path / "capture"
    args = ("record", "--listen", "127.0.0.1:0", "--upstream", f"http://{upstream}")
    recorder, address = programs.start(*args, "--capture", str(capture))
    client = http.client.HTTPConnection(address)
    expected = {}
    for datatype, value in VALUES.items():
        for binary in (False, True):
            if datatype == "FP16" and not binary:
                continue  # the client refuses it
            tensor = triton.InferInput("x", list(value.shape), datatype)
            tensor.set_data_from_numpy(value, binary_data=binary)
            key = f"{datatype}-{'binary' if binary else 'json'}"
            make = triton.InferenceServerClient.generate_request_body
            body, length = make([tensor], request_id=key)
            headers = {"Inference-Header-Content-Length": str(length)} if length else {}
            client.request("POST", "/v2/models/m/infer", body, headers)
            assert client.getresponse().read() == ANSWER
            expected[key] = (datatype, list(value.shape), little_endian(datatype, value))
    programs.stop(recorder)
    found, digests = {}, {}
    for row in rows(capture):
        assert row["decode_error"] is None and row["request_body"] is None, row
        (tensor,) = row["inputs"]
        key = row["client_request_id"]
        found[key] = (tensor["datatype"], tensor["shape"], tensor["data"])
        digests.setdefault(key.split("-")[0], set()).add(row["input_digest"])
    assert found == expected
    assert all(len(d) == 1 for d in digests.values()), "JSON and binary give one digest"


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b'{"inputs":[{"name":"x","shape":[-1],"datatype":"FP32","data":[1]}]}', None),
        (b'{"inputs":[{"name":"x","shape":[4611686018427387904,4],"datatype":"FP32","data":[]}]}', None),
        (b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1]}]}', None),
        (b'{"inputs":[{"name":"x","shape":[2,2],"datatype":"INT8","data":[[1,2,3],[4]]}]}', None),
        (b'{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[300]}]}', None),
        (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP8","data":[1]}]}', None),
        (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}abc', 88),
        (b"{}", 3),
        (b"not json", None),
        (b"[" * 5000, None),
    ],
    ids=[
        "negative dimension",
        "product overflows",
        "too few values",
        "ragged lists",
        "out of range",
        "unknown datatype",
        "blob too short",
        "header longer than the body",
        "no JSON",
        "nested too deep",
    ],
)
def test_bodies_that_lie_are_kept_raw_with_the_reason(
    programs, tmp_path, upstream, body, length
) -> None:
    capture = tmp_path / "capture"
    args = ("record", "--listen", "127.0.0.1:0", "--upstream", f"http://{upstream}")
    recorder, address = programs.start(*args, "--capture", str(capture))
    client = http.client.HTTPConnection(address)
    headers = {"Inference-Header-Content-Length": str(length)} if length else {}
    client.request("POST", "/v2/models/m/infer", body, headers)
    assert client.getresponse().read() == ANSWER
    programs.stop(recorder)
    (row,) = rows(capture)
    assert row["inputs"] is None and row["request_body"] == body
    assert row["decode_error"].startswith("request: "), row["decode_error"]
    print(row["decode_error"])
