"""Makes tests/golden/wire: recorded-looking exchanges and what a decoder must make of them.

Requests come from real clients where pip has one (tritonclient), else from the published schema
alone; the expected tensors come from the numpy arrays, never from this project's code. Which is
which: tests/golden/wire/PROVENANCE.md, written here too.

    python -m pip install 'tritonclient[http,grpc]' numpy
    python scripts/make_wire_golden.py
"""

import base64
import gzip
import json
import shutil
import struct
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from tritonclient.grpc import service_pb2
from tritonclient.grpc._utils import _get_inference_request

ROOT = Path(__file__).resolve().parent.parent / "tests" / "golden" / "wire"
NAMES = {
    np.dtype(t): n
    for t, n in [
        (np.bool_, "BOOL"), (np.uint8, "UINT8"), (np.uint16, "UINT16"), (np.uint32, "UINT32"),
        (np.uint64, "UINT64"), (np.int8, "INT8"), (np.int16, "INT16"), (np.int32, "INT32"),
        (np.int64, "INT64"), (np.float16, "FP16"), (np.float32, "FP32"), (np.float64, "FP64"),
    ]
}
X = np.array([[1.0, 2.0]], np.float32)
EVERY = {
    "bool": np.array([[True, False]]),
    "u8": np.array([0, 255], np.uint8),
    "u16": np.array([0, 65535], np.uint16),
    "u32": np.array([0, 2**32 - 1], np.uint32),
    "u64": np.array([0, 2**64 - 1], np.uint64),
    "i8": np.array([-128, 127], np.int8),
    "i16": np.array([-32768, 32767], np.int16),
    "i32": np.array([-(2**31), 2**31 - 1], np.int32),
    "i64": np.array([-(2**63), 2**63 - 1], np.int64),
    "f32": np.array([[0.1, -0.0, 1.4e-45], [np.inf, -np.inf, 16777217.0]], np.float32),
    "f64": np.array([0.1, 5e-324], np.float64),
    "text": np.array([["", "ä"]], dtype=object),
}
HALF = {"f16": np.array([0.1, -65504], np.float16)}


def little_endian(array: np.ndarray) -> bytes:
    """The bytes that a capture must hold."""
    if array.dtype == object:
        items = [i.encode() if isinstance(i, str) else i for i in array.flatten()]
        return b"".join(struct.pack("<I", len(i)) + i for i in items)
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def tensor(name: str, array: np.ndarray, message: int = 0, datatype: str | None = None, **more):
    """An expected tensor."""
    return {
        "name": name,
        "message": message,
        "datatype": datatype or NAMES.get(array.dtype, "BYTES"),
        "shape": list(array.shape),
        "hex": little_endian(array).hex(),
        **more,
    }


def shm(name: str, datatype: str, shape: list[int]):
    """An expected tensor of which only the description crossed the wire."""
    return {"name": name, "message": 0, "datatype": datatype, "shape": shape, "hex": None}


CASES: list[tuple[str, str, str]] = []


def case(protocol: str, name: str, source: str, path: str, request: bytes, response: bytes, **more):
    """Writes one case: bodies as they are, everything else as JSON."""
    folder = ROOT / protocol
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.request").write_bytes(request)
    (folder / f"{name}.response").write_bytes(response)
    expected = {"inputs": None, "outputs": None, **more.pop("expected")}
    described = {
        "path": path, "request_headers": {}, "response_headers": {}, "response_trailers": {},
        **more, "expected": {"protocol": protocol, **expected},
    }
    (folder / f"{name}.json").write_text(json.dumps(described, indent=1) + "\n")
    CASES.append((protocol, name, source))


def triton_inputs(module, arrays: dict, **how):
    """tritonclient's inputs."""
    out = []
    for name, array in arrays.items():
        i = module.InferInput(name, list(array.shape), NAMES.get(array.dtype, "BYTES"))
        i.set_data_from_numpy(array, **how)
        out.append(i)
    return out


def all_of(arrays: dict, message: int = 0):
    """Expected tensors of named arrays."""
    return [tensor(n, a, message) for n, a in arrays.items()]


TRITON = f"tritonclient {version('tritonclient')}"
SCHEMA = "published schema, Python json/struct"


def oip_rest():
    """JSON, binary, coded, raw input."""
    finite = {n: a for n, a in EVERY.items() if n not in ("f32",)} | {"x": X}
    body, _ = triton_http.InferenceServerClient.generate_request_body(
        triton_inputs(triton_http, finite, binary_data=False),
        outputs=[triton_http.InferRequestedOutput("y", binary_data=False)], request_id="id-1",
    )
    answer = json.dumps({
        "model_name": "m", "model_version": "3",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}],
    }).encode()
    case("oip-rest", "every", TRITON, "/v2/models/m/infer", body, answer, expected={
        "model": "m", "client_request_id": "id-1", "requested_outputs": ["y"],
        "inputs": all_of(finite), "outputs": [tensor("y", X)]})
    every = EVERY | HALF
    body, length = triton_http.InferenceServerClient.generate_request_body(
        triton_inputs(triton_http, every, binary_data=True), sequence_id=7, sequence_start=True)
    head = json.dumps({
        "model_name": "m", "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2],
                     "parameters": {"binary_data_size": 8}}],
    }).encode()
    answer = head + little_endian(X)
    headers = {"inference-header-content-length": str(length)}
    answered = {"inference-header-content-length": str(len(head))}
    expected = {"model": "m", "sequence_id": "7", "inputs": all_of(every),
                "outputs": [tensor("y", X)]}
    case("oip-rest-binary", "every", TRITON, "/v2/models/m/infer", body, answer,
         request_headers=headers, response_headers=answered, expected=expected)
    # The header's length counts the body before it was compressed.
    case("oip-rest-binary", "gzip-and-deflate", TRITON, "/v2/models/m/infer",
         gzip.compress(body, mtime=0), zlib.compress(answer),
         request_headers=headers | {"content-encoding": "gzip"},
         response_headers=answered | {"content-encoding": "deflate"}, expected=expected)
    raw = np.arange(6, dtype=np.float32).reshape(2, 3)
    metadata = {"m": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
                      "outputs": []}}
    case("oip-rest-binary", "raw-input", SCHEMA, "/v2/models/m/infer", little_endian(raw), answer,
         request_headers={"inference-header-content-length": "0"}, response_headers=answered,
         models=metadata, expected={"inputs": [tensor("x", raw)], "outputs": [tensor("y", X)]})
    metadata = {"m": {"inputs": [{"name": "s", "datatype": "BYTES", "shape": [-1, 1]}],
                      "outputs": []}}
    case("oip-rest-binary", "raw-bytes", SCHEMA, "/v2/models/m/infer", b"\x00jpeg", answer,
         request_headers={"inference-header-content-length": "0"}, response_headers=answered,
         models=metadata, expected={"inputs": [tensor("s", np.array([[b"\x00jpeg"]], object))],
                                    "outputs": [tensor("y", X)]})


def frame(message: bytes, coding: str | None = None) -> bytes:
    """One gRPC message as it travels."""
    if coding == "gzip":
        message = gzip.compress(message, mtime=0)
    if coding == "deflate":
        message = zlib.compress(message)
    return struct.pack(">BI", int(coding is not None), len(message)) + message


GRPC = {"content-type": "application/grpc"}
SERVICE = "/inference.GRPCInferenceService/"


def infer_request(arrays: dict, request_id: str = "", **more):
    """tritonclient's own request message."""
    arguments = {
        "model_name": "m", "inputs": triton_inputs(triton_grpc, arrays), "model_version": "",
        "request_id": request_id, "outputs": [triton_grpc.InferRequestedOutput("y")],
        "sequence_id": 0, "sequence_start": False, "sequence_end": False, "priority": 0,
        "timeout": None, "parameters": None,
    } | more
    return _get_inference_request(**arguments)


def infer_response(array: np.ndarray, request_id: str = ""):
    """A server's answer with raw contents."""
    answer = service_pb2.ModelInferResponse(model_name="m", model_version="2", id=request_id)
    answer.outputs.add(name="y", datatype=NAMES[array.dtype], shape=list(array.shape))
    answer.raw_output_contents.append(little_endian(array))
    return answer


def oip_grpc():
    """Raw, typed, shared memory, compressed, failed, streamed."""
    every = EVERY | HALF
    request = infer_request(every, "id-2", sequence_id=9, sequence_start=True,
                            parameters={"note": "a", "half": 0.5})
    answer = frame(infer_response(X).SerializeToString())
    ok = {"grpc-status": "0"}
    case("oip-grpc", "raw", TRITON, SERVICE + "ModelInfer", frame(request.SerializeToString()),
         answer, request_headers=GRPC, response_headers=GRPC, response_trailers=ok, expected={
             "model": "m", "client_request_id": "id-2", "sequence_id": "9", "grpc_status": 0,
             "requested_outputs": ["y"], "inputs": all_of(every), "outputs": [tensor("y", X)]})
    typed = service_pb2.ModelInferRequest(model_name="m")
    fields = {"bool": "bool_contents", "u8": "uint_contents", "u16": "uint_contents",
              "u32": "uint_contents", "u64": "uint64_contents", "i8": "int_contents",
              "i16": "int_contents", "i32": "int_contents", "i64": "int64_contents",
              "f32": "fp32_contents", "f64": "fp64_contents", "text": "bytes_contents"}
    for name, array in EVERY.items():
        t = typed.inputs.add(name=name, datatype=NAMES.get(array.dtype, "BYTES"),
                             shape=list(array.shape))
        values = [v.encode() if isinstance(v, str) else v for v in array.flatten().tolist()]
        getattr(t.contents, fields[name]).extend(values)
    proto = f"{TRITON}'s protobuf classes"
    case("oip-grpc", "typed-gzip", proto, SERVICE + "ModelInfer",
         frame(typed.SerializeToString(), "gzip"),
         frame(infer_response(X).SerializeToString(), "deflate"),
         request_headers=GRPC | {"grpc-encoding": "gzip"},
         response_headers=GRPC | {"grpc-encoding": "deflate"}, response_trailers=ok,
         expected={"model": "m", "inputs": all_of(EVERY), "outputs": [tensor("y", X)]})
    shared = triton_grpc.InferInput("far", [4], "FP32")
    shared.set_shared_memory("region", 16, 0)
    inputs = [*triton_inputs(triton_grpc, {"a": X}), shared,
              *triton_inputs(triton_grpc, {"b": X + 1})]
    request = infer_request({}, inputs=inputs)
    case("oip-grpc", "shared-memory", TRITON, SERVICE + "ModelInfer",
         frame(request.SerializeToString()), answer, request_headers=GRPC, response_headers=GRPC,
         response_trailers=ok, expected={
             "inputs": [tensor("a", X), shm("far", "FP32", [4]), tensor("b", X + 1)],
             "outputs": [tensor("y", X)]})
    case("oip-grpc", "refused", TRITON, SERVICE + "ModelInfer",
         frame(infer_request({"x": X}).SerializeToString()), b"", request_headers=GRPC,
         response_headers=GRPC | {"grpc-status": "5", "grpc-message": "no model%20m"},
         expected={"inputs": [tensor("x", X)], "grpc_status": 5, "grpc_message": "no model m"})
    sent = [X, X + 1, X + 2]
    requests = b"".join(frame(infer_request({"x": a}, str(i)).SerializeToString())
                        for i, a in enumerate(sent))
    answers = [service_pb2.ModelStreamInferResponse(infer_response=infer_response(a, str(i)))
               for i, a in enumerate(sent[:2])]
    answers.append(service_pb2.ModelStreamInferResponse(error_message="too late"))
    case("oip-grpc-stream", "error-in-stream", TRITON, SERVICE + "ModelStreamInfer", requests,
         b"".join(frame(a.SerializeToString()) for a in answers), request_headers=GRPC,
         response_headers=GRPC, response_trailers=ok, expected={
             "inputs": [tensor("x", a, i) for i, a in enumerate(sent)],
             "outputs": [tensor("y", a, i) for i, a in enumerate(sent[:2])],
             "outcome": "error_in_stream", "request_message_ids": ["0", "1", "2"],
             "response_message_ids": ["0", "1", None]})


def tfs():
    """Rows, columns, names dropped, base64, NaN, metadata."""
    def both(name, request, response, inputs, outputs, path="/v1/models/m:predict", **more):
        case("tfs-rest", name, SCHEMA, path, json.dumps(request).encode(),
             json.dumps(response).encode(), **more,
             expected={"model": "m", "inputs": inputs, "outputs": outputs})

    nan = np.array([[1.0, np.nan], [np.inf, -np.inf]], np.float32)
    both("columns", {"signature_name": "s", "inputs": {"x": X.tolist(), "n": [[1], [2]]}},
         {"outputs": {"y": X.tolist(), "ok": [True, False]}},
         [tensor("x", X), tensor("n", np.array([[1], [2]]))],
         [tensor("y", X), tensor("ok", np.array([True, False]))])
    blobs = np.array([b"\x00\xff", b"b"], object)
    rows = [{"image_bytes": {"b64": base64.b64encode(b).decode()}, "x": x.tolist()}
            for b, x in zip(blobs, nan, strict=True)]
    both("rows", {"instances": rows}, {"predictions": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]},
         [tensor("image_bytes", blobs), tensor("x", nan)],
         [tensor("a", np.array([1, 2])), tensor("b", np.array(["x", "y"], object))],
         path="/v1/models/m/labels/stable:predict")
    both("unnamed", {"instances": X.tolist()}, {"predictions": nan.tolist()},
         [tensor("inputs", X)], [tensor("outputs", nan)], path="/v1/models/m/versions/2:predict")

    def of(dtype, *dims):
        return {"dtype": dtype, "name": "t:0", "tensor_shape": {
            "dim": [{"size": str(d), "name": ""} for d in dims], "unknown_rank": False}}
    metadata = {"m": {"metadata": {"signature_def": {"signature_def": {"serving_default": {
        "inputs": {"image": of("DT_UINT8", -1, 2)}, "outputs": {"p": of("DT_DOUBLE", -1)}}}}}}}
    both("metadata", {"instances": [[1, 2]]}, {"predictions": [1]},
         [tensor("image", np.array([[1, 2]], np.uint8))],
         [tensor("p", np.array([1], np.float64))], models=metadata)
    case("tfs-rest", "classify", SCHEMA, "/v1/models/m:classify",
         json.dumps({"context": {"lang": "en"}, "examples": [{"f": 1.5}, {"f": 2.5}]}).encode(),
         json.dumps({"result": [[["a", 0.5]], [["b", 0.5]]]}).encode(),
         expected={"inputs": [tensor("f", np.array([1.5, 2.5], np.float32)),
                              tensor("lang", np.array("en", object))]})


def paddle_messages():
    """The C++ server's messages, from the field numbers of its published .proto."""
    file = descriptor_pb2.FileDescriptorProto(name="p.proto", package="p", syntax="proto3")
    kinds = {"int64": 3, "float": 2, "int32": 5, "double": 1, "uint32": 13, "bool": 8, "string": 9,
             "bytes": 12, "uint64": 4}

    def message(name, *fields):
        m = file.message_type.add(name=name)
        for number, kind, field, repeated in fields:
            f = m.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind in kinds:
                f.type = kinds[kind]
            else:
                f.type, f.type_name = 11, f".p.{kind}"

    message("Tensor", (1, "int64", "int64_data", True), (2, "float", "float_data", True),
            (3, "int32", "int_data", True), (4, "double", "float64_data", True),
            (5, "uint32", "uint32_data", True), (6, "bool", "bool_data", True),
            (9, "string", "data", True), (10, "int32", "elem_type", False),
            (11, "int32", "shape", True), (12, "int32", "lod", True), (13, "string", "name", False),
            (14, "string", "alias_name", False), (15, "bytes", "tensor_content", False))
    message("Request", (1, "Tensor", "tensor", True), (2, "string", "fetch_var_names", True),
            (3, "bool", "profile_server", False), (4, "uint64", "log_id", False))
    message("ModelOutput", (1, "Tensor", "tensor", True), (2, "string", "engine_name", False))
    message("Response", (1, "ModelOutput", "outputs", True), (2, "int64", "profile_time", True),
            (3, "bool", "profile_server", False), (4, "uint64", "log_id", False),
            (5, "int32", "err_no", False), (6, "string", "err_msg", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClassesForFiles(["p.proto"], pool)


def paddle():
    """Every element type, protobuf and JSON; an error; the pipeline."""
    m = paddle_messages()
    request = m["p.Request"](fetch_var_names=["y"], log_id=77)
    lists = {"i64": (0, "int64_data"), "f32": (1, "float_data"), "i32": (2, "int_data"),
             "f64": (3, "float64_data"), "bool": (9, "bool_data"), "text": (20, "data"),
             "i16": (4, None), "f16": (5, None), "u8": (7, None), "i8": (8, None)}
    arrays = {n: (EVERY | HALF)[n] for n in lists}
    arrays["f32"] = X
    for name, (elem_type, field) in lists.items():
        t = request.tensor.add(name=f"inner_{name}", alias_name=name, elem_type=elem_type,
                               shape=list(arrays[name].shape))
        if field:
            getattr(t, field).extend(arrays[name].flatten().tolist())
        else:
            t.tensor_content = little_endian(arrays[name])
    bf16 = request.tensor.add(name="bf16", elem_type=6, shape=[2])
    bf16.tensor_content = b"\x80\x3f\x00\x40"
    inputs = [tensor(n, a) for n, a in arrays.items()]
    inputs.append({"name": "bf16", "message": 0, "datatype": "BF16", "shape": [2],
                   "hex": "803f0040"})
    answer = m["p.Response"]()
    output = answer.outputs.add(engine_name="general_infer_0")
    y = output.tensor.add(name="y", alias_name="y", elem_type=1, shape=[1, 2], lod=[0, 1])
    y.float_data.extend([1.0, 2.0])
    outputs = [tensor("y", X, parameters={"lod": [0, 1], "engine_name": "general_infer_0"})]
    expected = {"client_request_id": "77", "requested_outputs": ["y"], "inputs": inputs,
                "outputs": outputs}
    source = f"published .proto, protobuf {version('protobuf')}"
    path = "/GeneralModelService/inference"
    proto = {"content-type": "application/x-protobuf"}
    case("paddle-serving", "protobuf", source, path, request.SerializeToString(),
         answer.SerializeToString(), request_headers=proto,
         response_headers={"content-type": "application/proto"}, expected=expected)

    def as_json(message):
        return json_format.MessageToJson(message, preserving_proto_field_name=True).encode()
    case("paddle-serving", "json", source, path, as_json(request), as_json(answer),
         request_headers={"content-type": "application/json"}, expected=expected)
    failed = m["p.Response"](err_no=5, err_msg="bad shape")
    case("paddle-serving", "err-no", source, path, request.SerializeToString(),
         failed.SerializeToString(), request_headers=proto, response_headers=proto,
         expected={"inputs": inputs, "error": "err_no 5: bad shape"})
    case("paddle-pipeline", "strings", SCHEMA, "/ocr/prediction",
         json.dumps({"key": ["image", "lang"], "value": ["aGk=", "ä"], "logid": 3}).encode(),
         json.dumps({"err_no": 0, "err_msg": "", "key": ["res"], "value": ["['a']"],
                     "tensors": []}).encode(),
         expected={"model": "ocr", "client_request_id": "3", "inputs": [
             tensor("image", np.array(["aGk="], object)), tensor("lang", np.array(["ä"], object))],
             "outputs": [tensor("res", np.array(["['a']"], object))]})


def generate_and_events():
    """Triton's generate extension, and events that are nobody's."""
    request = json.dumps({"id": "g", "text_input": "hi", "max_tokens": 4, "temperature": 0.5,
                          "stop": ["a", "b"], "parameters": {"stream": False}}).encode()
    inputs = [tensor("text_input", np.array(["hi"], object)), tensor("max_tokens", np.array([4])),
              tensor("temperature", np.array([0.5], np.float32)),
              tensor("stop", np.array(["a", "b"], object))]
    answer = {"model_name": "m", "model_version": "1", "text_output": "hello"}
    case("triton-generate", "one", SCHEMA, "/v2/models/m/generate", request,
         json.dumps(answer).encode(), expected={
             "model": "m", "client_request_id": "g", "inputs": inputs,
             "outputs": [tensor("text_output", np.array(["hello"], object))]})
    events = ["hel", "lo"]
    stream = "".join(f"data: {json.dumps(answer | {'text_output': e})}\n\n" for e in events)
    sse = {"content-type": "text/event-stream; charset=utf-8"}
    case("triton-generate-stream", "two-events", SCHEMA, "/v2/models/m/generate_stream", request,
         stream.encode(), response_headers=sse, expected={
             "inputs": inputs, "outputs": [tensor("text_output", np.array([e], object), i)
                                           for i, e in enumerate(events)]})
    case("triton-generate-stream", "error", SCHEMA, "/v2/models/m/generate_stream", request,
         (stream + 'data: {"error":"out of memory"}\n\n').encode(), response_headers=sse, expected={
             "inputs": inputs, "outputs": [tensor("text_output", np.array([e], object), i)
                                           for i, e in enumerate(events)],
             "outcome": "error_in_stream", "error": "out of memory"})
    chat = b': ping\n\nid: 1\ndata: {"choices":[]}\n\nid: 2\ndata: a\ndata: b\n\ndata: [DONE]\n\n'
    case("sse", "chat", SCHEMA, "/v1/chat/completions", b'{"stream":true}', chat,
         response_headers=sse, expected={"response_message_ids": ["1", "2", None]})


def main():
    """Everything anew."""
    shutil.rmtree(ROOT, ignore_errors=True)
    for make in (oip_rest, oip_grpc, tfs, paddle, generate_and_events):
        make()
    lines = ["# Where the golden bodies come from",
             "Made by `scripts/make_wire_golden.py`; expected tensors from numpy "
             f"{np.__version__}. None is made or read by this project's code.", "",
             "| protocol | case | request made by |", "|---|---|---|"]
    lines += [f"| {p} | {n} | {s} |" for p, n, s in CASES]
    lines += ["", "Answers of tritonclient cases: its protobuf classes (gRPC), Python json and "
              "struct (REST). The Paddle messages are built from the field numbers of "
              "`core/general-server/proto/general_model_service.proto` (Paddle Serving 0.9)."]
    (ROOT / "PROVENANCE.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
