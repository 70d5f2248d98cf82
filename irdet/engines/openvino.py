"""OpenVINO on the CPU: ONNX files, and OpenVINO's own (.xml with its .bin), which keep irdet's record."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import ModelError, UsageError
from irdet.core.extras import require
from irdet.core.info import METADATA_KEY
from irdet.engines.external import check_external
from irdet.engines.graphs import GraphEngine, brief

#: OpenVINO's element types -> ONNX's words, in which `irdet.engines.graphs` speaks.
_TYPES = {"f32": "tensor(float)", "f16": "tensor(float16)", "u8": "tensor(uint8)"}


@dataclass(frozen=True)
class _Port:
    name: str
    type: str
    shape: tuple[int | None, ...]


class OpenVinoEngine(GraphEngine):
    """Runs an ONNX or OpenVINO file with OpenVINO on the CPU.

    Args:
        path: The file.
        device: `"auto"`, `"cpu"` or `"openvino"`.
        threads: CPU threads; None for one per core.

    Raises:
        ModelError: Not such a model, or one whose input or output does not fit.
        UsageError: A GPU is asked for.
        MissingDependency: OpenVINO is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], device: str = "auto", threads: int | None = None) -> None:
        self._path = Path(path)
        if not self._path.is_file():
            raise ModelError(f"no such file: {self._path}")
        if device not in ("auto", "cpu", "openvino"):
            raise UsageError(f"{self._path}: OpenVINO runs on the CPU here, so leave --device {device} out")
        if self._path.suffix.lower() == ".onnx":
            check_external(self._path)
        openvino = require("openvino", "openvino", "running models with OpenVINO")
        self.device = "cpu"
        self.runtime = f"openvino {openvino.__version__.split('-')[0]} cpu"
        config = {
            # Newer CPUs would compute in bfloat16: a model that says fp32 shall compute fp32.
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        if self._path.suffix.lower() == ".xml" and not _is_network(self._path):
            # OpenVINO would try each of its formats on it, which say what they think of it on stderr.
            raise ModelError(f"{self._path} cannot be loaded by OpenVINO: no <net> stands in it")
        try:
            core = openvino.Core()
            model = core.read_model(self._path)
            self._request: Any = core.compile_model(model, "CPU", config).create_infer_request()
        except Exception as error:  # its errors share no base but Exception
            raise ModelError(f"{self._path} cannot be loaded by OpenVINO: {_reason(error)}") from error
        try:
            inputs, outputs = [_port(one) for one in model.inputs], [_port(one) for one in model.outputs]
            record = _record(model)
        except UnicodeDecodeError as error:
            raise ModelError(f"{self._path} cannot be loaded by OpenVINO: a name in it is no text") from error
        self._alone = threading.Lock()
        self._adopt(inputs, outputs, record)

    def _execute(self, prepared: NDArray[np.generic], only: int | None) -> list[NDArray[Any]]:
        with self._alone:  # of two threads in one request the first would get what the second asked for
            found = self._request.infer({0: prepared}, share_inputs=True)  # copies the outputs
        outputs = [np.asarray(found[index]) for index in range(len(found))]
        return outputs if only is None else [outputs[only]]

    def _release(self) -> None:
        del self._request


def _is_network(path: Path) -> bool:
    with path.open("rb") as file:
        return b"<net " in file.read(1024)


def _port(port: Any) -> _Port:
    kind = port.element_type.get_type_name()
    shape = tuple(int(side.get_length()) if side.is_static else None for side in port.partial_shape)
    return _Port(port.get_any_name() if port.names else "?", _TYPES.get(kind, kind), shape)


def _record(model: Any) -> str | None:
    """OpenVINO keeps ONNX's `metadata_props` as run-time information under `framework`, in its own files, too."""
    place = ["framework", METADATA_KEY]
    return str(model.get_rt_info(place).astype(str)) if model.has_rt_info(place) else None


def _reason(error: Exception) -> str:
    """OpenVINO tells the place in its own source first and the reason last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return brief((told or lines or [type(error).__name__])[-1])
