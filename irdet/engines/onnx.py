"""ONNX Runtime: irdet's own models, and foreign ones whose input and output allow it, on CPU, CUDA and TensorRT."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import IrdetError, ModelError
from irdet.core.extras import require
from irdet.core.files import cache_folder, sha256
from irdet.core.info import METADATA_KEY, ModelInfo
from irdet.core.machine import read_machine
from irdet.engines.external import check_external
from irdet.engines.graphs import GraphEngine, brief
from irdet.engines.record import read_record

_CPU = "CPUExecutionProvider"

#: Device -> ONNX Runtime's provider of it.
PROVIDERS = MappingProxyType({"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"})

#: Runs at once on a CPU, at most: each holds the features of a frame, 20 to 40 MB of mlcl-edge's at 640x512.
MOST_RUNS = 4


class OnnxEngine(GraphEngine):
    """Runs an ONNX file with ONNX Runtime.

    Args:
        path: The file.
        device: `"auto"`, `"cpu"`, `"cuda"` or `"tensorrt"`. `"auto"` takes CUDA where the installed ONNX Runtime has it
            and it starts; otherwise the CPU, with a note when a GPU package could not use its GPU. `"tensorrt"` is
            ONNX Runtime's TensorRT provider, which builds its engines at the first run of each size and keeps them in
            `cache_folder("tensorrt")`; what it does not take runs on CUDA.
        threads: CPU threads within an operator; None for one per core.

    Raises:
        ModelError: Not an ONNX model, or one whose input or output does not fit.
        IrdetError: The device cannot be used; says why.
        MissingDependency: ONNX Runtime is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], device: str = "auto", threads: int | None = None) -> None:
        self._path = Path(path)
        if not self._path.is_file():
            raise ModelError(f"no such file: {self._path}")
        check_external(self._path)
        ort = require("onnxruntime", "cpu", "running ONNX models")
        self._threads = threads
        self._session, self.device, self.notes = _open_session(ort, self._path, device, threads)
        self.runtime = f"onnxruntime {ort.__version__} {self.device}"
        try:
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
            self._input: str = next((port.name for port in inputs), "")
            self._outputs = [port.name for port in outputs]
            record = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        except UnicodeDecodeError as error:
            raise ModelError(f"{self._path} cannot be loaded as an ONNX model: a name in it is no text") from error
        self._adopt(inputs, outputs, record)

    def _execute(self, prepared: NDArray[np.generic], only: int | None) -> list[NDArray[Any]]:
        names = self._outputs if only is None else [self._outputs[only]]
        outputs: list[NDArray[Any]] = self._session.run(names, {self._input: prepared})
        return outputs

    def spread(self) -> None:
        """On the CPU: as many runs as there are threads, `MOST_RUNS` at most, that share them (`BaseEngine.spread`)."""
        threads = self._threads or read_machine().cores
        if self.device == "cpu" and threads > 1:
            each = -(-threads // MOST_RUNS)
            self._session = _session(require("onnxruntime", "cpu", "running ONNX models"), self._path, each, {})
            self.runs = threads // each

    def _release(self) -> None:
        del self._session


def _open_session(ort: Any, path: Path, device: str, threads: int | None) -> tuple[Any, str, tuple[str, ...]]:
    """Returns a session, the device it runs on, and notes."""
    wanted = "cuda" if device == "auto" else device
    if wanted == "tensorrt" and (record := _record(path)) and record.target == "cpu":
        # TensorRT would take the uint8 numbers for int8, without a word.
        raise ModelError(
            f"{path} is INT8 for CPUs, which TensorRT misreads; export one for it: irdet export --int8 --calib DIR"
        )
    if wanted == "cpu" or (device == "auto" and PROVIDERS["cuda"] not in ort.get_available_providers()):
        return _session(ort, path, threads, {}), "cpu", ()
    if PROVIDERS[wanted] not in ort.get_available_providers():
        raise IrdetError(
            f"device {wanted}: the installed onnxruntime {ort.__version__} is built without it; replace it by "
            "onnxruntime-gpu: pip uninstall onnxruntime, then pip install 'irdet[gpu]'"
        )
    said = _preload(ort)
    # TF32 has 10 bits of mantissa: a model that says fp32 shall compute fp32.
    providers: dict[str, Mapping[str, str]] = {PROVIDERS["cuda"]: {"use_tf32": "0"}}
    if wanted == "tensorrt":
        providers = {PROVIDERS["tensorrt"]: tensorrt_options(ort, path), **providers}
    session = _session(ort, path, threads, providers)
    if PROVIDERS[wanted] in session.get_providers():
        return session, wanted, ()
    missing = said or ("no usable GPU, or no libnvinfer" if wanted == "tensorrt" else "no usable GPU or library")
    told = missing if read_machine().driver else f"{missing}; no NVIDIA driver is loaded"
    reason = f"onnxruntime-gpu {ort.__version__} could not start {wanted} ({told})"
    if device != "auto":
        raise IrdetError(f"device {wanted}: {reason}; irdet doctor tells what is missing")
    return session, "cpu", (f"{reason}; running on the CPU",)


def tensorrt_options(ort: Any, path: Path) -> dict[str, str]:
    """Returns the options of ONNX Runtime's TensorRT provider for a model.

    Its engines are kept in a folder of their own for each model, ONNX Runtime and GPU driver, as an engine of another
    one must not be loaded; the GPU's architecture stands in the files' names.

    Args:
        ort: ONNX Runtime.
        path: The model.
    """
    record = _record(path)
    precision = record.precision if record else "fp32"
    key = hashlib.sha256(f"{sha256(path)} {ort.__version__} {read_machine().driver}".encode()).hexdigest()[:16]
    folder = cache_folder("tensorrt") / f"{path.stem}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        # The provider builds weakly typed: without these a graph in half precision would be computed in float32.
        "trt_fp16_enable": str(int("fp16" in precision)),
        "trt_int8_enable": str(int("int8" in precision)),
    }


def _record(path: Path) -> ModelInfo | None:
    try:
        return read_record(path)
    except ModelError:  # a foreign model
        return None


def _session(ort: Any, path: Path, threads: int | None, providers: Mapping[str, Mapping[str, str]]) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what is wrong is said in our own line
    named = [(name, dict(values)) for name, values in providers.items()]
    try:
        return ort.InferenceSession(str(path), options, providers=[*named, _CPU])
    except Exception as error:  # its errors share no base but Exception
        raise ModelError(f"{path} cannot be loaded as an ONNX model: {brief(error)}") from error


def _preload(ort: Any) -> str:
    """Loads CUDA's libraries out of their Python packages, where there are any; returns what went wrong."""
    if not hasattr(ort, "preload_dlls"):  # onnxruntime < 1.21
        return ""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        ort.preload_dlls()
    return brief(said.getvalue()) if "Failed" in said.getvalue() else ""
