"""ONNX Runtime: irdet's own models, and foreign ones whose input and output allow it."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import IrdetError, ModelError
from irdet.core.extras import require
from irdet.core.info import METADATA_KEY, ModelInfo
from irdet.engines.base import BaseEngine
from irdet.engines.graphs import Head, Inlet, adapt_foreign, read_inlet

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxEngine(BaseEngine):
    """Runs an ONNX file with ONNX Runtime.

    Args:
        path: The file.
        device: `"auto"`, `"cpu"` or `"cuda"`. `"auto"` takes CUDA where the installed ONNX Runtime has it and it
            starts; otherwise the CPU, with a note when a GPU package could not use its GPU.
        threads: CPU threads within an operator; None for one per core.

    Raises:
        ModelError: Not an ONNX model, or one whose input or output does not fit.
        IrdetError: The device cannot be used.
        MissingDependency: ONNX Runtime is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], device: str = "auto", threads: int | None = None) -> None:
        self._path = Path(path)
        if not self._path.is_file():
            raise ModelError(f"no such file: {self._path}")
        ort = require("onnxruntime", "cpu", "running ONNX models")
        self._session, where, self.notes = _open_session(ort, self._path, device, threads)
        self.runtime = f"onnxruntime {ort.__version__} {where}"
        try:
            self._inlet = read_inlet(self._session.get_inputs())
            self.max_batch = self._inlet.batch
            record = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
            if record is None:
                self.info, self._head, notes = adapt_foreign(self._inlet, self._outputs, self._feed)
                self.notes += notes
            else:
                self.info, self._head = _own(ModelInfo.from_json(record), self._inlet)
        except ModelError as error:
            raise ModelError(f"{self._path}: {error}") from error
        self._names = [self._outputs[self._head.output].name]

    @property
    def _outputs(self) -> Any:
        return self._session.get_outputs()

    def _compute(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        (raw,) = self._feed(batch, self._names)
        return self._head.probability(raw)

    def _feed(self, batch: NDArray[np.float32], names: list[str] | None = None) -> list[NDArray[Any]]:
        """Runs the graph on a batch [N, 1, H, W], in the form that its input wants; all outputs unless named."""
        count = batch.shape[0]
        try:
            outputs = self._session.run(names, {self._inlet.name: self._inlet.prepare(batch)})
        except Exception as error:  # its errors share no base but Exception
            raise ModelError(f"{self._path}: {self.runtime} failed: {brief(error)}") from error
        return [output[:count] if isinstance(output, np.ndarray) and output.ndim else output for output in outputs]

    def _release(self) -> None:
        del self._session


def _own(info: ModelInfo, inlet: Inlet) -> tuple[ModelInfo, Head]:
    if (info.height, info.width) != (inlet.height, inlet.width) or inlet.channels != 1:
        raise ModelError(
            f"its record says input {info.width}x{info.height}, its graph {inlet}; one of them was edited, export again"
        )
    return info, Head()


def _open_session(ort: Any, path: Path, device: str, threads: int | None) -> tuple[Any, str, tuple[str, ...]]:
    """Returns a session, the device it runs on, and notes."""
    if device == "cpu":
        return _session(ort, path, threads, cuda=False), "cpu", ()
    if _CUDA not in ort.get_available_providers():
        if device == "cuda":
            raise IrdetError(
                f"device cuda: the installed onnxruntime {ort.__version__} is built for the CPU alone; "
                "replace it by onnxruntime-gpu: pip uninstall onnxruntime, then pip install 'irdet[gpu]'"
            )
        return _session(ort, path, threads, cuda=False), "cpu", ()
    said = _preload(ort)
    session = _session(ort, path, threads, cuda=True)
    if _CUDA in session.get_providers():
        return session, "cuda", ()
    reason = f"onnxruntime-gpu {ort.__version__} could not start CUDA ({said or 'no usable GPU, driver or library'})"
    if device == "cuda":
        raise IrdetError(f"device cuda: {reason}")
    return session, "cpu", (f"{reason}; running on the CPU",)


def _session(ort: Any, path: Path, threads: int | None, *, cuda: bool) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # TF32 has 10 bits of mantissa: a model that says fp32 shall compute fp32.
    providers: list[Any] = [(_CUDA, {"use_tf32": "0"})] if cuda else []
    try:
        return ort.InferenceSession(str(path), options, providers=[*providers, _CPU])
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


def brief(error: object, limit: int = 200) -> str:
    """Returns the first line of an error of the runtime, without its prefix."""
    text = str(error).strip().partition("\n")[0].removeprefix("[ONNXRuntimeError] : ")
    return text if len(text) <= limit else f"{text[:limit]} ..."
