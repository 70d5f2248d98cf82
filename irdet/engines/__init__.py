"""Engines: one protocol, one module per runtime, chosen by the suffix of the model's file or the method's name."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import MappingProxyType

from irdet.core.errors import ModelError, UsageError, unknown_name
from irdet.core.machine import read_machine
from irdet.engines.base import DEVICES, BaseEngine, Engine
from irdet.engines.classical import METHODS, open_method
from irdet.engines.shipped import DEFAULT_MODEL, shipped_models, shipped_path

__all__ = ["BaseEngine", "Engine", "open_engine", "resolve_model", "shipped_models"]

#: Suffix of a model's file -> the module and the class that run it.
RUNTIMES = MappingProxyType(
    {
        ".onnx": ("irdet.engines.onnx", "OnnxEngine"),
        ".pt": ("irdet.engines.torch", "TorchEngine"),
        ".pth": ("irdet.engines.torch", "TorchEngine"),
        ".trt": ("irdet.engines.tensorrt.engine", "TensorRTEngine"),
        ".engine": ("irdet.engines.tensorrt.engine", "TensorRTEngine"),
        ".plan": ("irdet.engines.tensorrt.engine", "TensorRTEngine"),
        ".xml": ("irdet.engines.openvino", "OpenVinoEngine"),
    }
)


def open_engine(
    model: str | os.PathLike[str] | None = None, *, device: str = "auto", threads: int | None = None
) -> BaseEngine:
    """Opens a model for inference.

    Args:
        model: A file (the runtime is chosen by its suffix), the name of a shipped model or of a classical method
            (`irdet.engines.classical.METHODS`), or None for the default one.
        device: `"auto"` takes the GPU where it works, else the CPU; for an ONNX file on the CPU it takes the faster of
            ONNX Runtime and OpenVINO, where both are installed. All others take that or fail: `"cpu"`, `"cuda"`, and
            for ONNX files `"tensorrt"` (ONNX Runtime's provider) and `"openvino"`.
        threads: CPU threads, of which no more than there are cores are used; None for one per core.

    Returns:
        The engine: use it as a context manager, or close it. Its `notes` say what had to be assumed.

    Raises:
        UsageError: No such model, device or runtime; suggests the nearest name.
        ModelError: The file is not a model that can be run; says why.
        MissingDependency: The runtime is not installed; names the extra.
    """
    if device not in DEVICES:
        raise UsageError(f"device {device!r}: choose one of {', '.join(DEVICES)}")
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads: at least 1 is needed")
    # More wait for each other: 64 on two cores take twenty times as long as two.
    threads = threads and min(threads, read_machine().cores)
    if isinstance(model, str) and model in METHODS and not Path(model).is_file():
        if device not in ("auto", "cpu"):
            raise UsageError(f"{model} is computed on the CPU alone: leave --device {device} out")
        return open_method(model)
    path = resolve_model(model)
    suffix = path.suffix.lower()
    if device in ("openvino", "tensorrt") and suffix not in (".onnx", ".xml"):
        raise UsageError(f"{path}: --device {device} is for ONNX files")
    module, name = RUNTIMES[".xml" if device == "openvino" else suffix]
    engine = getattr(importlib.import_module(module), name)(path, device=device, threads=threads)
    assert isinstance(engine, BaseEngine)
    if suffix == ".onnx" and device == "auto" and engine.device == "cpu":
        from irdet.engines.fastest import fastest

        return fastest(engine, path, threads)
    return engine


def resolve_model(model: str | os.PathLike[str] | None = None) -> Path:
    """Returns the file that a name or a path means: a shipped model's ONNX file, or the file itself.

    Raises:
        UsageError: No such name, or a suffix that no engine runs.
        ModelError: No such file.
    """
    name = os.fspath(DEFAULT_MODEL if model is None else model)
    path = Path(name)
    if not path.suffix and path.name == name and not path.is_file():  # a folder of that name is none
        for suffix in RUNTIMES:
            if shipped := shipped_path(name, suffix):
                return shipped
        if name in METHODS:
            raise UsageError(f"{name} is a method without weights: there is no file of it")
        if not path.exists():
            raise unknown_name("model", name, (*shipped_models(), *METHODS))
    if not path.exists():
        raise ModelError(f"no such file: {path}")
    if not path.is_file():
        raise ModelError(f"{path} is a folder, not a model")
    suffix = path.suffix.lower()
    if suffix not in RUNTIMES:
        raise UsageError(f"{path}: no engine runs {suffix or 'files without a suffix'}; known: {', '.join(RUNTIMES)}")
    return path
