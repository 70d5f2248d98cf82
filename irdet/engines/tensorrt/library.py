"""Which TensorRT is installed: `tensorrt`, or `tensorrt_rtx`, the one for RTX desktop GPUs."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from irdet.core.errors import IrdetError, MissingDependency, UsageError
from irdet.core.extras import require
from irdet.engines.tensorrt.signals import held_back

#: Import name -> the extra that installs it. The first one that is there is taken.
LIBRARIES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}

#: Versions of `tensorrt` that irdet knows.
OLDEST, NEWEST = (8, 6), 11


@dataclass(frozen=True)
class Library:
    """An installed TensorRT.

    Attributes:
        name: `"tensorrt"` or `"tensorrt_rtx"`.
        version: As the package says, for instance `"10.3.0"`.
        module: The package.
    """

    name: str
    version: str
    module: ModuleType

    @property
    def rtx(self) -> bool:
        """Whether it is TensorRT for RTX, which builds for GPUs that are not there."""
        return self.name == "tensorrt_rtx"

    @property
    def strongly_typed(self) -> bool:
        """Whether the precision comes from the ONNX file alone. 8.6 takes flags instead."""
        return self.rtx or numbers(self.version)[0] >= 10

    def __str__(self) -> str:
        return f"{'TensorRT-RTX' if self.rtx else 'TensorRT'} {self.version}"

    def logger(self) -> Any:
        """Returns a logger that keeps what TensorRT says: `warnings` and `errors`, lists of lines."""
        trt: Any = self.module

        class Log(trt.ILogger):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.warnings: list[str] = []
                self.errors: list[str] = []

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                    self.errors.append(message)
                elif severity == trt.ILogger.Severity.WARNING and message not in self.warnings:
                    self.warnings.append(message)

        return Log()

    def create(self, kind: str, logger: Any) -> Any:
        """Creates a `Builder` or a `Runtime`.

        Raises:
            IrdetError: It does not start, as where there is no driver.
        """
        try:
            return getattr(self.module, kind)(logger)
        except TypeError as error:
            # pybind11's word for a factory that gave nothing.
            said = last_line(logger.errors) or "no NVIDIA driver or GPU that it can use"
            raise IrdetError(f"{self} does not start here: {said}") from error


def find_library(name: str | None = None) -> Library:
    """Imports TensorRT.

    Args:
        name: A key of `LIBRARIES`; None takes the first one that is installed.

    Raises:
        MissingDependency: It is not installed, or cannot be loaded.
        IrdetError: A version that irdet does not know.
    """
    if name is not None and name not in LIBRARIES:
        raise UsageError(f"no TensorRT is called {name!r}; known: {', '.join(LIBRARIES)}")
    key = next((key for key in LIBRARIES if name in (None, key) and _installed(key)), None)
    if key is None:
        extras = " or ".join(f"'irdet[{LIBRARIES[one]}]'" for one in ([name] if name else LIBRARIES))
        jetpack = "" if name == "tensorrt_rtx" else "it comes with JetPack; elsewhere "
        raise MissingDependency(
            f"building and running TensorRT engines needs {name or 'tensorrt'}, which is not installed: "
            f"{jetpack}pip install {extras}"
        )
    with held_back():  # the package would make a failed import of what a signal raises
        module = require(key, LIBRARIES[key], "running TensorRT engines")
    library = Library(key, str(module.__version__), module)
    version = numbers(library.version)
    if not library.rtx and not (version >= OLDEST and version[0] <= NEWEST):
        raise IrdetError(f"{library} is not supported; irdet knows TensorRT 8.6 to {NEWEST}")
    return library


def _installed(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None  # a folder of that name in the current one has no origin


def numbers(version: str) -> tuple[int, ...]:
    """Returns the leading numbers of a version, as in (10, 3, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else (0,)


def last_line(messages: list[str]) -> str:
    """Returns the first line of the last message, "" where there is none."""
    return messages[-1].strip().partition("\n")[0] if messages else ""
