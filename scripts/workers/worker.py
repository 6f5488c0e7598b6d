"""The Python side of a worker: an engine of this language behind two pipes.

A frame, in both directions: u32 little-endian length of the header, the header as JSON, then the raw
bytes of every tensor of `header["tensors"]` one after the other, in that order. A tensor is
`{"name", "datatype", "shape", "bytes"}` with the Open Inference Protocol's datatype names,
little-endian and row-major.

The first frame brings the engine: `{"op": "start", "modules": [{"name", "bytes"}, …], "shared": fd}`
with the sources behind it, dependencies first; the last module must define `Engine`. Then `open` (once or
more), then `infer`. Every request gets one answer: the engine's own header, or `{"error": {"kind",
"message"}}` with kind `unavailable`, `failed`, `bad_request` or `engine`. End of input ends the
process. A request with `"shared": true` has its bytes in the memory behind that descriptor, from its
start on, and not in the pipe.

Needs the standard library and numpy.
"""

import ctypes
import json
import mmap
import os
import signal
import struct
import sys
import types

MOST_HEADER = 1 << 24
MOST_BYTES = 1 << 32


def protect_descriptors() -> tuple[int, int]:
    """Moves the protocol away from descriptors 0 and 1, where libraries read and print."""
    requests, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return requests, answers


def die_with_parent() -> None:
    """A worker that hangs in native code would not see the end of its input (Linux: PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() == 1:
        sys.exit(0)


def keep_memory() -> None:
    """What one request frees serves the next: else glibc gives it back to the kernel, and every request
    pays the page faults anew (M_TRIM_THRESHOLD is -1, M_MMAP_THRESHOLD -3 and at most 32 MiB)."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(-3, 32 << 20)
        library.mallopt(-1, 512 << 20)


class Refusal(Exception):
    """What cannot be done, and whose fault it is."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Channel:
    """Frames over two descriptors. Arrays that it returns live until the next frame is read."""

    def __init__(self, requests: int, answers: int) -> None:
        self.requests, self.answers = requests, answers
        self.buffer = bytearray(1 << 16)
        # Memory that the other side writes large bodies into: told by the start frame.
        self.shared, self.mapped = None, b""

    def read_into(self, view: memoryview) -> None:
        """Fills `view`. EOFError where the other side is gone."""
        while len(view):
            n = os.readv(self.requests, [view])
            if n == 0:
                raise EOFError
            view = view[n:]

    def read(self) -> tuple[dict, memoryview]:
        """The header and all raw bytes behind it."""
        head = bytearray(4)
        self.read_into(memoryview(head))
        (length,) = struct.unpack("<I", head)
        if length > MOST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        text = bytearray(length)
        self.read_into(memoryview(text))
        header = json.loads(text)
        size = sum(t["bytes"] for t in header.get("tensors", header.get("modules", ())))
        if size > MOST_BYTES:
            raise ValueError(f"a body of {size} bytes")
        self.shared = header["shared"] if header["op"] == "start" else self.shared
        if header.get("shared") is True:
            if size > len(self.mapped):
                self.mapped = mmap.mmap(self.shared, os.fstat(self.shared).st_size)
            return header, memoryview(self.mapped)[:size]
        if size > len(self.buffer):
            # Grown, never shrunk: fresh memory for every request costs page faults.
            self.buffer = bytearray(size)
        body = memoryview(self.buffer)[:size]
        self.read_into(body)
        return header, body

    def write(self, header: dict, bodies: list) -> None:
        """One frame; `bodies` are contiguous buffers."""
        text = json.dumps(header).encode()
        pieces = [struct.pack("<I", len(text)) + text]
        pieces += [b for b in (memoryview(b).cast("B") for b in bodies) if len(b)]
        while pieces:
            n = os.writev(self.answers, pieces[:64])
            while pieces and n >= len(pieces[0]):
                n -= len(pieces.pop(0))
            if n:
                pieces[0] = memoryview(pieces[0])[n:]


def load(header: dict, body: memoryview) -> types.ModuleType:
    """Makes the modules that the start frame brings; returns the last one."""
    at, module = 0, None
    for spec in header["modules"]:
        source = bytes(body[at : at + spec["bytes"]])
        at += spec["bytes"]
        module = types.ModuleType(spec["name"])
        sys.modules[spec["name"]] = module
        exec(compile(source, f"<inferdiff {spec['name']}.py>", "exec"), module.__dict__)
    return module


def said(error: BaseException) -> dict:
    """An exception as an answer. What no one foresaw is the engine's."""
    kind = getattr(error, "kind", None) or ("unavailable" if isinstance(error, ImportError) else "engine")
    # Engines write paragraphs; a reason is one line.
    text = " ".join(str(error).split()) or repr(error)
    return {"error": {"kind": kind, "message": f"{type(error).__name__}: {text}" if kind == "engine" else text}}


def serve(channel: Channel) -> None:
    """Answers until the other side is gone."""
    engine, tensors = None, None
    while True:
        try:
            header, body = channel.read()
        except EOFError:
            return
        answer, bodies = {}, []
        try:
            if header["op"] == "start":
                engine = load(header, body).Engine()
                tensors = sys.modules["tensors"]
            elif header["op"] == "open":
                answer = engine.open(header)
            else:
                outputs = engine.infer(tensors.unpack(header["tensors"], body))
                answer["tensors"], bodies = tensors.pack(outputs)
        except Exception as error:  # noqa: BLE001 - every exception is an answer
            answer, bodies = said(error), []
        # What the engine printed must be in the log before the answer is read.
        sys.stdout.flush()
        sys.stderr.flush()
        channel.write(answer, bodies)


if __name__ == "__main__":
    # `-c` puts the working directory first, where a file named like a library would be imported.
    sys.path[:] = [p for p in sys.path if p]
    # Engines import `Refusal` from here.
    sys.modules["worker"] = sys.modules["__main__"]
    ends = protect_descriptors()
    die_with_parent()
    keep_memory()
    serve(Channel(*ends))
