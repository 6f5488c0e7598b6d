"""Raw bytes of a frame to numpy arrays and back, by the Open Inference Protocol's datatype names."""

import numpy as np
from worker import Refusal

NUMPY = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "BF16": "<u2",
    "FP32": "<f4",
    "FP64": "<f8",
}
OIP = {np.dtype(code): name for name, code in NUMPY.items() if name != "BF16"}


class Named:
    """One tensor: `datatype` is kept beside `array` because numpy has no bfloat16 (its bits are u2)."""

    def __init__(self, name: str, array: np.ndarray, datatype: str | None = None) -> None:
        self.name, self.array = name, array
        self.datatype = datatype or OIP.get(array.dtype)
        if self.datatype is None:
            raise Refusal("engine", f"output `{name}` is of type {array.dtype}, which no request can carry")


def unpack(specs: list[dict], body: memoryview) -> list[Named]:
    """The arrays of a frame, as views of its bytes."""
    at, out = 0, []
    for spec in specs:
        size, code = spec["bytes"], NUMPY.get(spec["datatype"])
        if spec["datatype"] == "BYTES":
            array = strings(body[at : at + size], spec["shape"])
        elif code is None:
            raise Refusal("bad_request", f"input `{spec['name']}` is {spec['datatype']}")
        else:
            array = np.frombuffer(body[at : at + size], code).reshape(spec["shape"])
        out.append(Named(spec["name"], array, spec["datatype"]))
        at += size
    return out


def strings(body: memoryview, shape: list[int]) -> np.ndarray:
    """BYTES: each element is its length as u32 little-endian and its UTF-8."""
    at, out = 0, []
    while at < len(body):
        size = int.from_bytes(body[at : at + 4], "little")
        out.append(bytes(body[at + 4 : at + 4 + size]).decode())
        at += 4 + size
    return np.array(out, dtype=object).reshape(shape)


def pack(outputs: list[Named]) -> tuple[list[dict], list]:
    """Specifications and buffers of the answer."""
    specs, bodies = [], []
    for one in outputs:
        if one.datatype == "BYTES":
            texts = [str(e).encode() for e in one.array.ravel()]
            buffer = b"".join(len(t).to_bytes(4, "little") + t for t in texts)
        else:
            array = np.ascontiguousarray(one.array, one.array.dtype.newbyteorder("<"))
            # A 0-dimensional array must not become one of rank 1.
            buffer = array.reshape(-1).view("u1").data
        shape = list(one.array.shape)
        specs.append({"name": one.name, "datatype": one.datatype, "shape": shape, "bytes": len(buffer)})
        bodies.append(buffer)
    return specs, bodies
