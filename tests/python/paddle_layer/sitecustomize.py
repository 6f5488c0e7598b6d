"""A scripted layer between Paddle and its callers, for the tests of what replay makes of faults.

Python imports this at its start where the folder is in PYTHONPATH. PADDLE_FAULT says what to do:

* `operator`: what the operators compute is wrong, whoever runs them;
* `engine`: what the predictor answers is wrong, the training forward pass is right;
* `memory`: what the predictor answers is wrong where memory optimisation is on;
* `ir`: what the predictor answers is wrong where IR optimisation is on;
* `kill`: the process dies of SIGKILL on the request whose first input begins with PADDLE_FAULT_BITS.
"""

import builtins
import os
import signal

FAULT = os.environ.get("PADDLE_FAULT")


def plant() -> None:
    """Wraps Config, predictor and executor."""
    import paddle
    from paddle import inference

    switched = {"memory": False, "ir": False}
    config = inference.Config
    memory, optimise = config.enable_memory_optim, config.switch_ir_optim

    def enable_memory_optim(self, *arguments):  # noqa: ANN001, ANN002, ANN202
        switched["memory"] = True
        return memory(self, *arguments)

    def switch_ir_optim(self, on):  # noqa: ANN001, ANN202
        switched["ir"] = on
        return optimise(self, on)

    config.enable_memory_optim, config.switch_ir_optim = enable_memory_optim, switch_ir_optim
    tensor = inference.Tensor
    take, give = tensor.copy_to_cpu, tensor.copy_from_cpu

    def copy_to_cpu(self):  # noqa: ANN001, ANN202
        wrong = FAULT in ("operator", "engine") or switched.get(FAULT, False)
        return take(self) * (1.5 if wrong else 1)

    def copy_from_cpu(self, array):  # noqa: ANN001, ANN202
        if FAULT == "kill" and array.tobytes().hex() == os.environ["PADDLE_FAULT_BITS"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return give(self, array)

    tensor.copy_to_cpu, tensor.copy_from_cpu = copy_to_cpu, copy_from_cpu
    run = paddle.static.Executor.run

    def executor_run(self, *arguments, **named):  # noqa: ANN001, ANN002, ANN003, ANN202
        values = run(self, *arguments, **named)
        fetched = named.get("fetch_list")
        return [v * 1.5 for v in values] if FAULT == "operator" and fetched else values

    paddle.static.Executor.run = executor_run


if FAULT:
    original = builtins.__import__
    planted = []

    def importing(name, *arguments, **named):  # noqa: ANN001, ANN002, ANN003, ANN202
        module = original(name, *arguments, **named)
        # The worker's engine imports this one after paddle.
        if name == "paddle_configure" and not planted:
            planted.append(True)
            plant()
        return module

    builtins.__import__ = importing
