"""A Paddle model's files: which format they are, and the signature that they declare."""

import contextlib
import os

import paddle
from worker import Refusal

# In dynamic mode Paddle 2 takes no program apart.
paddle.enable_static()

# How long `str(dtype)` is spelt differs by version: the last word does not.
OIP = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
}


def generation() -> tuple[int, ...]:
    """The version as numbers, so that 3.10 is newer than 3.9."""
    return tuple(int(p) for p in paddle.__version__.split(".") if p.isdigit())


class Model:
    """`program` (`.json` of PIR or `.pdmodel` of the old IR), `parameters` (None: it has none), `pir`."""

    def __init__(self, program: str, parameters: str | None) -> None:
        self.program = program
        self.prefix, kind = os.path.splitext(program)
        if kind not in (".json", ".pdmodel"):
            raise Refusal("failed", f"{program} is no Paddle model: it must end in .json or .pdmodel")
        self.pir = kind == ".json"
        if self.pir and generation() < (3,):
            raise Refusal(
                "failed",
                f"{program} is a model of Paddle 3 (PIR), this interpreter has Paddle {paddle.__version__}: "
                "give --python one with Paddle 3, or save the model as .pdmodel",
            )
        self.check_content()
        self.inputs, self.outputs, persistable = self.signature_of_pir() if self.pir else self.signature_of_old()
        beside = self.prefix + ".pdiparams"
        self.parameters = parameters or beside
        if not os.path.exists(self.parameters):
            if parameters or persistable:
                raise Refusal("failed", f"the parameter file {self.parameters} of {program} is not there")
            self.parameters = None

    def check_content(self) -> None:
        """Paddle aborts the process on a file that is no model: look first."""
        with open(self.program, "rb") as file:
            head = file.read(4096)
        if not head:
            raise Refusal("failed", f"{self.program} is empty: it is no model")
        if self.pir and not (head.lstrip().startswith(b"{") and b"base_code" in head):
            raise Refusal("failed", f"{self.program} is no model of Paddle 3: it has no `base_code`")

    def signature_of_pir(self) -> tuple[list[dict], list[dict], bool]:
        """Inputs, outputs and whether there are parameters, of the new IR."""
        from paddle.base import core

        program = paddle.static.Program()
        core.deserialize_pir_program(self.program, program)
        inputs, outputs, persistable = [], [], False
        for op in program.global_block().ops:
            if op.name() == "pd_op.data":
                value = op.results()[0]
                inputs.append(spec(op.attrs()["name"], value.shape, value.dtype))
            elif op.name() == "pd_op.fetch":
                value = op.operand_source(0)
                outputs.append((op.attrs()["col"], spec(op.attrs()["name"], value.shape, value.dtype)))
            elif op.name() == "builtin.parameter":
                persistable = True
        return inputs, [s for _, s in sorted(outputs, key=lambda o: o[0])], persistable

    def signature_of_old(self) -> tuple[list[dict], list[dict], bool]:
        """Inputs, outputs and whether there are parameters, of the old IR."""
        with open(self.program, "rb") as file:
            content = file.read()
        with old_ir():
            try:
                program = paddle.static.Program.parse_from_string(content)
            except Exception as error:
                raise Refusal("failed", f"{self.program} is no model of Paddle: {error}") from error
            block = program.global_block()
            inputs, outputs = [], []
            for op in block.ops:
                if op.type in ("feed", "fetch"):
                    feed = op.type == "feed"
                    var = block.var((op.output_arg_names if feed else op.input_arg_names)[0])
                    (inputs if feed else outputs).append((op.attr("col"), spec(var.name, var.shape, var.dtype)))
            special = {"feed", "fetch"}
            persistable = any(v.persistable and v.name not in special for v in block.vars.values())
        if not outputs:
            raise Refusal("failed", f"{self.program} is no inference model: it has no output")
        ordered = [[s for _, s in sorted(side, key=lambda o: o[0])] for side in (inputs, outputs)]
        return ordered[0], ordered[1], persistable


def old_ir():  # noqa: ANN201 - a context manager of Paddle's or none
    """Where Paddle 3 must be told that a program is of the old IR."""
    return paddle.pir_utils.OldIrGuard() if generation() >= (3,) else contextlib.nullcontext()


def spec(name: str, shape, dtype) -> dict:  # noqa: ANN001 - Paddle's own types
    """One input or output, as it is declared; −1 = any."""
    word = str(dtype).rsplit(".", 1)[-1].lower()
    return {"name": name, "datatype": OIP.get(word, word), "shape": [int(d) for d in shape]}
