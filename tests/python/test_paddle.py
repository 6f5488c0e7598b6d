"""The guide's ladder on real Paddle Inference: both generations, both formats."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Programs
from paddle_support import CASES, DIGITS, LOGITS, Run, python, replay, written
from test_readers import record, serve, traffic


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """60 digits, recorded before a real endpoint (of another engine)."""
    folder = tmp_path_factory.mktemp("digits")
    programs = Programs(folder)
    recorder, address = record(programs, serve(programs), folder / "capture")
    assert traffic(address, "--limit", "60") == 60
    programs.stop(recorder)
    yield folder / "capture"
    programs.close()


def on(version: str, form: str) -> tuple[str | Path, ...]:
    """The digits network in that format on that generation."""
    return "--model", DIGITS[form], "--python", python(version)


@pytest.mark.parametrize(("version", "form"), CASES)
def test_the_whole_cpu_ladder(digits, tmp_path, version, form) -> None:
    text = f"""
        base = "paddle-cpu"
        [[stage]]
        name = "production"
        runtime = "recorded"
        [stage.outputs]
        "{LOGITS[form]}" = {{ from = 0 }}
    """
    run = replay(digits, tmp_path / "run", written(tmp_path, text), *on(version, form))
    pir = form == "json"
    assert run.stages["reference"]["verdict"] == "reference", run.said
    # The training forward pass and the engine with everything off are the same bits.
    assert run.verdict("executor") == "identical"
    assert run.verdict("switch-ir-optim") == ("not_applied" if pir else "identical")
    assert run.verdict("memory") == ("not_applied" if pir else "identical")
    if pir:
        assert "set_optimization_level(0)" in run.reason("switch-ir-optim")
        assert ".pdmodel" in run.reason("memory")
    # Logits of up to 20: differences of the last bits.
    assert run.verdict("ir-onednn") == "equivalent"
    assert 0 < run.max_abs("ir-onednn") < 5e-5
    assert 1e-3 < run.max_abs("bf16") < 0.5
    if (version, form) == ("3.3.1", "pdmodel"):
        assert run.verdict("openvino") == "equivalent"
        assert 0 < run.max_abs("openvino") < 5e-5
    else:
        assert run.verdict("openvino") == "unavailable"
        expected = ".pdmodel has it" if pir else "no Config.enable_openvino_engine"
        assert expected in run.reason("openvino")
    # Production was the badly calibrated int8 network on another engine.
    assert run.max_abs("production") > 0.5
    check_evidence(run, version, pir)


def check_evidence(run: Run, version: str, pir: bool) -> None:
    """Passes, hits and counts of the log; off is proved off."""
    reference = run.evidence("reference")
    assert reference["version"].startswith(f"{version} (commit ")
    assert reference["library"] == str(python(version))
    assert run.options("reference")["ir_optimization"][0] == "acted"
    assert len(reference["passes"]) == (5 if pir else 7)
    assert len(run.evidence("memory")["passes"]) == (5 if pir else 8)
    hits = {p["name"]: p["count"] for p in run.evidence("ir-onednn")["passes"] if p["hit"]}
    expected = {"conv2d_bn_onednn_fuse_pass": 2} if pir else {"conv_bn_fuse_pass": 2}
    assert expected.items() <= hits.items(), hits
    assert run.options("ir-onednn")["onednn"][0] == "acted"
    assert run.options("bf16")["onednn.precision"][0] == "acted"
    first = reference["calls"][0]
    assert first == "disable_gpu()", reference["calls"]


def test_a_gpu_and_tensorrt_that_are_not_there_say_so_in_paddles_words(digits, tmp_path) -> None:
    model = on("3.3.1", "json")
    gpu = replay(digits, tmp_path / "gpu", "paddle-gpu", *model)
    tensorrt = replay(digits, tmp_path / "tensorrt", "paddle-tensorrt", *model)
    for run, stages in ((gpu, ("gpu", "gpu-ir", "gpu-fp16")), (tensorrt, ("tensorrt-fp16",))):
        for stage in stages:
            assert run.verdict(stage) == "unavailable"
            assert "Please use PaddlePaddle with GPU version" in run.reason(stage)
    assert "please compile with TENSORRT first" in tensorrt.reason("tensorrt-int8")


def test_passes_are_kept_out_by_name_or_refused(digits, tmp_path) -> None:
    text = """
        [[stage]]
        name = "reference"
        runtime = "paddle"
        [[stage]]
        name = "without"
        inherits = "reference"
        ir_optimization = "on"
        onednn = "fp32"
        disabled_passes = ["conv2d_bn_onednn_fuse_pass", "conv_activation_mkldnn_fuse_pass"]
        [[stage]]
        name = "slip"
        inherits = "without"
        disabled_passes = ["conv2d_bn_onednn_fuse_pas"]
    """
    run = replay(digits, tmp_path / "run", written(tmp_path, text), *on("3.3.1", "json"))
    options = run.options("without")
    for name in ("conv2d_bn_onednn_fuse_pass", "conv_activation_mkldnn_fuse_pass"):
        assert options[f"disabled_passes.{name}"][0] == "acted", options
    assert run.verdict("slip") == "failed"
    assert "did you mean `conv2d_bn_onednn_fuse_pass`?" in run.reason("slip")


def test_a_reference_that_the_switch_does_not_turn_off_ends_the_run(digits, tmp_path) -> None:
    text = """
        [[stage]]
        name = "reference"
        runtime = "paddle"
        ir_optimization = "switch_off"
    """
    ladder = written(tmp_path, text)
    refused = replay(digits, tmp_path / "pir", ladder, *on("3.3.1", "json"))
    assert refused.code == 2
    assert "PIR ignores switch_ir_optim(False)" in refused.said
    assert replay(digits, tmp_path / "old", ladder, *on("2.6.2", "pdmodel")).stages
