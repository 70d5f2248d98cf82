"""Opening: by name, by suffix, on a device; and every way in which it cannot be."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from irdet.core.errors import IrdetError, ModelError, UsageError
from irdet.core.info import ModelInfo
from irdet.core.machine import read_machine
from irdet.engines import open_engine, resolve_model, shipped, shipped_models
from irdet.engines.base import check_probability
from irdet.engines.onnx import PROVIDERS


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own folder of shipped models."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(shipped, "WEIGHTS", folder)
    return folder


def test_shipped_models_by_name(weights: Path, foreign: Callable[..., Path]) -> None:
    assert shipped_models() == ()
    shutil.copy(foreign((1, 1, 64, 64)), weights / "mlcl-edge.onnx")
    (weights / "mlcl-edge.pt").touch()
    (weights / "mlcl-edge.md").touch()
    assert shipped_models() == ("mlcl-edge",)
    assert resolve_model() == resolve_model("mlcl-edge") == weights / "mlcl-edge.onnx"
    with open_engine(device="cpu") as engine:
        assert engine.info.height == 64


def test_unknown_names(weights: Path) -> None:
    (weights / "mlcl-edge.onnx").touch()
    with pytest.raises(UsageError, match="'mlcl-egde'; did you mean mlcl-edge"):
        open_engine("mlcl-egde")
    with pytest.raises(UsageError, match=r"no model is called .*known: mlcl-edge"):
        open_engine("yolo")


def test_a_file_comes_before_a_name(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (weights / "mlcl-edge.onnx").touch()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlcl-edge").touch()
    with pytest.raises(UsageError, match="without a suffix"):
        open_engine("mlcl-edge")
    with pytest.raises(ModelError, match="no such file"):
        open_engine("mlcl-edge.onnx")


def test_no_more_threads_than_cores() -> None:
    """A slip of the finger would take all memory, and hang."""
    with open_engine("mlcl-edge", device="cpu", threads=10**6) as engine:
        assert engine._threads == read_machine().cores  # type: ignore[attr-defined]


def test_a_folder_of_that_name_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training leaves a folder `mlcl-edge`."""
    monkeypatch.chdir(tmp_path)
    for name in ("mlcl-edge", "tophat", "other"):
        (tmp_path / name).mkdir()
    assert resolve_model().is_file() and resolve_model("mlcl-edge") == resolve_model()
    with open_engine("tophat") as engine:
        assert engine.info.variant == "tophat"
    for other in ("other", tmp_path / "mlcl-edge"):
        with pytest.raises(ModelError, match="is a folder, not a model"):
            open_engine(other)


@pytest.mark.parametrize("name", ["x.onnx", "folder/x.pt", "x.plan", "./x"])
def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        open_engine(name)


def test_suffixes_that_nothing_runs(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(b"x")
    with pytest.raises(UsageError, match="no engine runs"):
        open_engine(path)


@pytest.mark.parametrize("device", ["tensorrt", "openvino"])
def test_devices_of_onnx_files_alone(tmp_path: Path, device: str) -> None:
    path = tmp_path / "x.trt"
    path.write_bytes(b"x")
    with pytest.raises(UsageError, match=f"--device {device} is for ONNX files"):
        open_engine(path, device=device)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").mkdir()
    with pytest.raises(ModelError, match="folder"):
        open_engine(tmp_path / "x.onnx")


@pytest.mark.parametrize("device", ["gpu", "cuda:0", ""])
def test_unknown_devices(foreign: Callable[..., Path], device: str) -> None:
    with pytest.raises(UsageError, match="auto, cpu, cuda"):
        open_engine(foreign(), device=device)
    with pytest.raises(UsageError, match="0 threads"):
        open_engine(foreign(), threads=0)


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.9])
def test_damaged_onnx(foreign: Callable[..., Path], keep: float) -> None:
    path = foreign((1, 1, 64, 64))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    told(path, "cannot be loaded as an ONNX model")


@pytest.mark.parametrize(
    ("name", "what"), [("x.onnx", "cannot be loaded as an ONNX model"), ("x.pt", "not a PyTorch checkpoint")]
)
def test_text_named_onnx_or_pt(tmp_path: Path, name: str, what: str) -> None:
    if name == "x.pt":
        pytest.importorskip("torch", reason="torch is not installed: pip install 'irdet[train]'")
    path = tmp_path / name
    path.write_text("hello, I am no model\n" * 10)
    told(path, what)


def told(path: Path, what: str) -> None:
    with pytest.raises(ModelError, match=what) as caught:
        open_engine(path, device="cpu")
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 400


def test_cuda_that_is_not_built_in_is_an_error(foreign: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(IrdetError, match="onnxruntime-gpu"):
        open_engine(foreign((1, 1, 64, 64)), device="cuda")
    with open_engine(foreign((1, 1, 64, 64))) as engine:
        assert engine.runtime.endswith(" cpu")


def test_cuda_that_does_not_start_is_no_silent_fallback(
    foreign: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As onnxruntime-gpu does without a driver: it lists CUDA, and gives a session on the CPU."""
    path = foreign((1, 1, 64, 64))
    real = onnxruntime.InferenceSession

    def session(file: str, options: Any, providers: list[Any]) -> Any:
        names = [entry[0] if isinstance(entry, tuple) else entry for entry in providers]
        assert names == ["CUDAExecutionProvider", "CPUExecutionProvider"]
        return real(file, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcudnn.so.9: no"), raising=False)
    with pytest.raises(IrdetError, match=r"could not start cuda \(Failed to load libcudnn"):
        open_engine(path, device="cuda")
    with open_engine(path) as engine:
        assert engine.runtime.endswith(" cpu")
        assert "running on the CPU" in engine.notes[0]


def test_the_tensorrt_provider(foreign: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its precisions are the record's, its cache is a folder for this model alone, and CUDA takes what it leaves."""
    info = ModelInfo("mlcl-edge", height=64, width=64, precision="int8+fp16", opset=19)
    path = foreign((1, 1, 64, 64), "probability", metadata=info.to_json())
    plain = foreign((1, 1, 64, 64), "logits")
    real, seen = onnxruntime.InferenceSession, []

    def session(file: str, options: Any, providers: list[Any]) -> Any:
        seen.append(providers)
        return real(file, options, providers=["CPUExecutionProvider"])

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*PROVIDERS.values()])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    for file in (path, plain):
        with pytest.raises(IrdetError, match=r"could not start tensorrt .*libnvinfer.*irdet doctor"):
            open_engine(file, device="tensorrt")
    assert [entry[0] for entry in seen[0][:2]] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    first, second = (providers[0][1] for providers in seen)
    assert (first["trt_fp16_enable"], first["trt_int8_enable"]) == ("1", "1")
    assert (second["trt_fp16_enable"], second["trt_int8_enable"]) == ("0", "0")
    folders = {Path(options["trt_engine_cache_path"]) for options in (first, second)}
    assert len(folders) == 2 and all(folder.is_dir() for folder in folders)
    assert {folder.parent for folder in folders} == {tmp_path / "cache" / "irdet" / "tensorrt"}


def test_torch_without_cuda(tmp_path: Path, sharp_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from irdet.engines.torch import TorchEngine, _device

    def torch(available: bool, built: str | None) -> Any:
        cuda = SimpleNamespace(is_available=lambda: available)
        return SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda=built), __version__="2.9")

    assert _device(torch(True, "12.8"), "auto") == _device(torch(True, "12.8"), "cuda") == "cuda"
    assert _device(torch(True, "12.8"), "cpu") == _device(torch(False, None), "auto") == "cpu"
    with pytest.raises(IrdetError, match="built for the CPU alone"):
        _device(torch(False, None), "cuda")
    with pytest.raises(IrdetError, match="no usable GPU"):
        _device(torch(False, "12.8"), "cuda")
    with TorchEngine(sharp_model("mlcl-edge"), device="cpu") as engine:
        assert engine.runtime.endswith(" cpu")


def test_output_checks() -> None:
    good = np.array([[[[0.0, 0.5, 1.0]]]], np.float32)
    assert check_probability(good, good.shape, "it") is good
    rounded = check_probability(good + np.float32(5e-4), good.shape, "it")
    assert rounded.max() == 1.0 and rounded.dtype == np.float32
    for wrong in (good * 1.01, good - 0.01, good * np.nan, good + np.inf):
        with pytest.raises(ModelError, match=r"^it gave values"):
            check_probability(wrong.astype(np.float32), good.shape, "it")
    with pytest.raises(ModelError, match="float64"):
        check_probability(good.astype(np.float64), good.shape, "it")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"\[1, 1, 1, 3\] for frames \[1, 1, 3, 1\]"):
        check_probability(good, (1, 1, 3, 1), "it")


def test_importing_engines_loads_no_runtime() -> None:
    code = (
        "import sys, irdet.engines, irdet.engines.onnx, irdet.engines.golden;"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
