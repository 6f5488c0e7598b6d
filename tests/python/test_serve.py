"""`inferdiff serve` before a real client."""

import http.client
import json

import numpy as np
import onnxruntime
import pytest
import tritonclient.http as triton
from conftest import FIXTURE
from test_readers import serve


@pytest.fixture
def client(programs):
    """A tritonclient before the digits network."""
    return triton.InferenceServerClient(serve(programs))


def test_health_metadata_and_answers(client) -> None:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("digits")
    assert not client.is_model_ready("other")
    metadata = client.get_model_metadata("digits")
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]
    images = np.load(FIXTURE / "heldout.npz")["images"][:5]
    session = onnxruntime.InferenceSession(FIXTURE / "digits.int8-bad.onnx")
    (expected,) = session.run(None, {"image": images})
    for binary in (False, True):
        tensor = triton.InferInput("image", list(images.shape), "FP32")
        tensor.set_data_from_numpy(images, binary_data=binary)
        output = triton.InferRequestedOutput("logits", binary_data=not binary)
        answer = client.infer("digits", [tensor], outputs=[output], request_id="a-1")
        assert answer.get_response()["id"] == "a-1"
        assert answer.as_numpy("logits").tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/v2/models/none/infer", b"{}", 404, "no model `none`"),
        ("/v2/models/digits/infer", b"{", 400, "EOF"),
        (
            "/v2/models/digits/infer",
            b'{"inputs":[{"name":"image","shape":[1],"datatype":"FP32","data":[1]}]}',
            400,
            "the model wants [-1, 1, 8, 8]",
        ),
        (
            "/v2/models/digits/infer",
            b'{"inputs":[{"name":"img","shape":[1],"datatype":"FP32","data":[1]}]}',
            400,
            "no input `img`",
        ),
        ("/v2/models/digits/nothing", b"{}", 404, "no route"),
    ],
)
def test_what_is_wrong_is_said(programs, path, body, status, says) -> None:
    connection = http.client.HTTPConnection(serve(programs))
    connection.request("POST", path, body)
    answer = connection.getresponse()
    error = json.loads(answer.read())["error"]
    assert answer.status == status and says in error, error
