"""The little of CUDA that running a plan takes: a device's name, memory on both sides, one stream, events.

On NVIDIA's cuda-python: `cuda.bindings.runtime` (12.6 on), or `cuda.cudart` before.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import IrdetError, MissingDependency


class CudaError(IrdetError):
    """A call of CUDA that failed; carries the call's name."""


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        name: For instance `"Orin"`.
        capability: Compute capability, for instance (8, 7).
    """

    name: str
    capability: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability[0]}.{self.capability[1]})"


class Cuda:
    """CUDA's runtime, whose calls raise."""

    def __init__(self, runtime: ModuleType | None = None) -> None:
        self._runtime: Any = runtime or _bindings()

    def call(self, name: str, *arguments: Any) -> Any:
        """Calls a function of the runtime; returns what it gives besides the error code.

        Raises:
            CudaError: It failed; names the call and CUDA's error.
        """
        try:
            error, *values = getattr(self._runtime, name)(*arguments)
        except (RuntimeError, OSError) as problem:  # the driver's library is not there
            raise CudaError(f"{name} failed: {str(problem).strip()}") from problem
        if int(error) != 0:
            raise CudaError(f"{name} failed: {getattr(error, 'name', error)}")
        return values[0] if len(values) == 1 else tuple(values)

    def device(self) -> Device:
        """Returns the GPU in use.

        Raises:
            CudaError: There is none, or no driver.
        """
        properties = self.call("cudaGetDeviceProperties", self.call("cudaGetDevice"))
        name = properties.name
        text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        return Device(text.strip("\0 "), (int(properties.major), int(properties.minor)))

    def copy(self, target: int, source: int, size: int, kind: str, stream: Any) -> None:
        """Queues a copy; `kind` is `"HostToDevice"` or `"DeviceToHost"`."""
        direction = getattr(self._runtime.cudaMemcpyKind, f"cudaMemcpy{kind}")
        self.call("cudaMemcpyAsync", target, source, size, direction, stream)


class Buffer:
    """One tensor's memory: pinned on the host, which asynchronous copies need, and on the device.

    Args:
        cuda: The runtime.
        size: Bytes of each.
    """

    def __init__(self, cuda: Cuda, size: int) -> None:
        self._cuda = cuda
        self._size = size
        self._pinned = int(cuda.call("cudaHostAlloc", size, 0))
        try:
            self.device = int(cuda.call("cudaMalloc", size))
        except CudaError:
            cuda.call("cudaFreeHost", self._pinned)
            raise

    def host(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Returns the pinned memory as float32 of a shape; valid until `free`."""
        count = int(np.prod(shape))
        assert 4 * count <= self._size
        return np.ctypeslib.as_array((ctypes.c_float * count).from_address(self._pinned)).reshape(shape)

    def upload(self, size: int, stream: Any) -> None:
        """Queues a copy of the first bytes to the device."""
        self._cuda.copy(self.device, self._pinned, size, "HostToDevice", stream)

    def download(self, size: int, stream: Any) -> None:
        """Queues a copy of the first bytes from the device."""
        self._cuda.copy(self._pinned, self.device, size, "DeviceToHost", stream)

    def free(self) -> None:
        """Frees both; the second one even where the first fails."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._cuda.call, "cudaFreeHost", self._pinned)
            stack.callback(self._cuda.call, "cudaFree", self.device)


def _bindings() -> ModuleType:
    problem: Exception | None = None
    for name in ("cuda.bindings.runtime", "cuda.cudart"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            problem = problem or error
        except (ImportError, OSError) as error:
            raise MissingDependency(f"cuda-python is installed but cannot be loaded ({error})") from error
    raise MissingDependency(
        "running TensorRT engines needs cuda-python, which is not installed: pip install 'irdet[tensorrt]' "
        "or 'irdet[tensorrt-rtx]' (on a Jetson 'irdet[jetson]')"
    ) from problem
