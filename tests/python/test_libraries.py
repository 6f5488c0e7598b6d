"""Several runtime libraries in one ladder: a really different engine, and what is not there."""

from pathlib import Path

from conftest import FIXTURE, ROOT
from paddle_support import replay, written
from test_mapping import PLAIN, capture

__all__ = ["capture"]

INT8 = FIXTURE / "digits.int8-bad.onnx"


def test_openvino_in_f32_is_equivalent_and_bf16_is_a_difference_with_its_size(capture, tmp_path) -> None:
    assert (ROOT / ".venvs/openvino").exists(), "run scripts/setup --openvino"
    # A margin that only rounding of another precision exceeds.
    text = 'base = "onnxruntime-openvino"\n[tolerance]\nlogits = { rtol = 1e-4, atol = 1e-5 }\n'
    ended = replay(capture, tmp_path / "run", written(tmp_path, text), *PLAIN)
    for stage in ("library", "openvino-f32"):
        assert ended.verdict(stage) in ("identical", "equivalent"), ended.reason(stage)
    sizes = {stage: ended.max_abs(stage) for stage in ("openvino-f32", "openvino-f16", "openvino-bf16")}
    print(sizes)
    assert sizes["openvino-f32"] < 1e-4 < 1e-3 < sizes["openvino-bf16"], sizes
    bf16 = ended.stages["openvino-bf16"]["outputs"][0]
    assert bf16["items_beyond_tolerance"] > 0, bf16
    assert ended.verdict("openvino-bf16") not in ("identical", "equivalent")
    assert ended.code != 0
    # Each stage had the library that it names, and the engine really took the network.
    libraries = {s: ended.evidence(s)["version"] for s in ("reference", "library", "openvino-f32")}
    assert libraries == {"reference": "1.32.0", "library": "1.24.1", "openvino-f32": "1.24.1"}
    assert ended.options("openvino-f32")["providers.openvino"][0] == "acted", ended.options("openvino-f32")


def on_cpu(tmp_path: Path, name: str, keys: str) -> Path:
    return written(tmp_path, f'base = "onnxruntime-cpu"\n[[stage]]\nname = "{name}"\ninherits = "reference"\n{keys}\n')


def test_engines_without_a_gpu_are_unavailable_in_the_runtimes_words(capture, tmp_path) -> None:
    for provider, engine in (("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")):
        folder = tmp_path / provider
        folder.mkdir()
        ladder = on_cpu(folder, provider, f'providers = [{{ name = "{provider}" }}]')
        ended = replay(capture, folder / "run", ladder, *PLAIN)
        assert (ended.code, ended.verdict(provider)) == (3, "unavailable"), ended.said
        assert engine in ended.reason(provider)


def test_a_misspelt_pass_is_refused(capture, tmp_path) -> None:
    keys = 'graph_optimization = "all"\ndisabled_passes = ["ConvActivationFusio"]'
    ended = replay(capture, tmp_path / "run", on_cpu(tmp_path, "slip", keys), *PLAIN)
    assert (ended.code, ended.verdict("slip")) == (4, "failed")
    assert "ConvActivationFusion" in ended.reason("slip")


def test_a_library_that_is_none_is_said(capture, tmp_path) -> None:
    text = tmp_path / "libonnxruntime.so.1.0.0"
    text.write_text("no library\n")
    ended = replay(capture, tmp_path / "a", on_cpu(tmp_path, "other", f'library = "{text}"'), *PLAIN)
    assert ended.code == 2 and "is no shared library" in ended.said, ended.said
    (capi,) = (ROOT / ".venv/lib").glob("python3*/site-packages/onnxruntime/capi")
    foreign = capi / "libonnxruntime_providers_shared.so"
    ended = replay(capture, tmp_path / "b", on_cpu(tmp_path, "other", f'library = "{foreign}"'), *PLAIN)
    assert (ended.code, ended.verdict("other")) == (3, "unavailable"), ended.said
    assert "no usable ONNX Runtime library" in ended.reason("other")
    ended = replay(capture, tmp_path / "c", on_cpu(tmp_path, "other", 'library = "onnxruntime-gpu"'), *PLAIN)
    assert ended.code == 2 and "pip install onnxruntime-gpu" in ended.said, ended.said
