"""Runs a TensorRT plan."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import IrdetError, ModelError, UsageError
from irdet.engines.base import BaseEngine
from irdet.engines.tensorrt.cuda import Buffer, Cuda
from irdet.engines.tensorrt.library import find_library, last_line
from irdet.engines.tensorrt.sidecar import Sidecar
from irdet.engines.tensorrt.signals import held_back


class TensorRTEngine(BaseEngine):
    """A plan on the GPU: pinned buffers as large as the profile allows, one stream, asynchronous copies.

    Args:
        path: The plan; its sidecar lies beside it.
        device: `"auto"` or `"cuda"`.
        threads: Not used; the GPU computes.

    Raises:
        ModelError: The plan does not fit the library, the GPU or its sidecar; names the command that builds it anew.
        UsageError: A device other than the GPU is asked for.
        IrdetError: A call of CUDA or TensorRT failed; names it.
        MissingDependency: TensorRT or cuda-python is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], device: str = "auto", threads: int | None = None) -> None:
        self._path = Path(path)
        self.device = "cuda"
        if device not in ("auto", "cuda"):
            raise UsageError(f"{self._path}: a TensorRT engine runs on the GPU alone, so leave --device {device} out")
        sidecar = Sidecar.read(self._path)
        self.info = sidecar.info
        library = find_library(sidecar.library)
        self._trt: Any = library.module
        self._cuda = Cuda()
        gpu = self._cuda.device()
        sidecar.check(self._path, library, gpu)
        self.runtime = f"{str(library).lower()} {gpu.name}"
        self._log = library.logger()
        self._alone = threading.Lock()
        with contextlib.ExitStack() as stack:
            # In the order of making; an error on the way, and `close`, undo it backwards.
            with held_back():
                self._load(stack, library.create("Runtime", self._log), sidecar)
            self._resources = stack.pop_all()

    def _load(self, stack: contextlib.ExitStack, runtime: Any, sidecar: Sidecar) -> None:
        if sidecar.version_compatible:
            runtime.engine_host_code_allowed = True
        engine = runtime.deserialize_cuda_engine(self._path.read_bytes())
        if engine is None:
            raise ModelError(f"{self._path} cannot be loaded ({self._said()}); build it here: {sidecar.command}")
        self._context = engine.create_execution_context()
        if self._context is None:
            raise IrdetError(f"{self._path}: create_execution_context failed: {self._said()}")
        # TensorRT's objects go last to first, too; the context must not outlive its engine.
        stack.callback(self._forget, runtime, engine)
        self._input, self._output = self._ports(engine)
        largest = tuple(engine.get_tensor_shape(self._input))
        self._smallest: tuple[int, ...] | None = None
        if min(largest) < 0:
            low, _, high = engine.get_tensor_profile_shape(self._input, 0)
            self._smallest, largest = tuple(low), tuple(high)
            self.sides = (low[2], low[3]), (high[2], high[3])
        self._largest = largest
        self.max_batch = largest[0]
        self._stream = self._cuda.call("cudaStreamCreate")
        stack.callback(self._cuda.call, "cudaStreamDestroy", self._stream)
        size = 4 * int(np.prod(largest))
        self._buffers = {}
        for name in (self._input, self._output):
            buffer = Buffer(self._cuda, size)
            stack.callback(buffer.free)
            self._buffers[name] = buffer
            if not self._context.set_tensor_address(name, buffer.device):
                raise IrdetError(f"{self._path}: set_tensor_address failed for {name}: {self._said()}")
        self._events = []
        for _ in range(4):
            event = self._cuda.call("cudaEventCreate")
            stack.callback(self._cuda.call, "cudaEventDestroy", event)
            self._events.append(event)

    def _ports(self, engine: Any) -> tuple[str, str]:
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        modes = self._trt.TensorIOMode
        inputs, outputs = (
            [name for name in names if engine.get_tensor_mode(name) == mode] for mode in (modes.INPUT, modes.OUTPUT)
        )
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError(
                f"{self._path}: has {len(inputs)} inputs and {len(outputs)} outputs; irdet's have one each"
            )
        for name in names:
            if engine.get_tensor_dtype(name) != self._trt.DataType.FLOAT:
                raise ModelError(f"{self._path}: {name} is not float32, as irdet's engines have it at both ends")
        return inputs[0], outputs[0]

    def _compute(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._alone:  # buffers, context and stream are one, and threads may share an engine
            shape = self._shape(batch)
            size = 4 * int(np.prod(shape))
            source, target = self._buffers[self._input], self._buffers[self._output]
            host = source.host(shape)
            host[: len(batch)] = batch
            host[len(batch) :] = 0  # a batch that is not full
            if self._smallest is not None and not self._context.set_input_shape(self._input, shape):
                raise IrdetError(f"{self._path}: set_input_shape failed for {list(shape)}: {self._said()}")
            self._mark(0)
            source.upload(size, self._stream)
            self._mark(1)
            asked = time.perf_counter()
            if not self._context.execute_async_v3(int(self._stream)):
                raise IrdetError(f"{self._path}: execute_async_v3 failed: {self._said()}")
            self._enqueued = time.perf_counter() - asked
            self._mark(2)
            target.download(size, self._stream)
            self._mark(3)
            self._cuda.call("cudaStreamSynchronize", self._stream)
            return target.host(shape)[: len(batch)].copy()

    @property
    def device_times(self) -> Mapping[str, float]:
        """Seconds of the last run: `"h2d"`, `"compute"`, `"d2h"` between CUDA's events, `"enqueue"` on the host."""
        spans = zip(("h2d", "compute", "d2h"), self._events, self._events[1:], strict=False)
        elapsed = {name: self._cuda.call("cudaEventElapsedTime", start, end) for name, start, end in spans}
        return {"enqueue": self._enqueued, **{name: 1e-3 * float(one) for name, one in elapsed.items()}}

    def _mark(self, number: int) -> None:
        self._cuda.call("cudaEventRecord", self._events[number], self._stream)

    def _shape(self, batch: NDArray[np.float32]) -> tuple[int, ...]:
        """The shape that is run: the batch's own, filled up to the smallest batch, or the whole fixed one."""
        if self._smallest is None:
            return self._largest
        shape = (max(len(batch), self._smallest[0]), *batch.shape[1:])
        if not all(low <= size <= high for low, size, high in zip(self._smallest, shape, self._largest, strict=True)):
            low, high = self._smallest, self._largest
            raise UsageError(
                f"{self._path} was built for {low[0]} to {high[0]} frames of {low[3]}x{low[2]} to {high[3]}x{high[2]} "
                f"px, not {len(batch)} of {shape[3]}x{shape[2]}; build it with another --profile"
            )
        return shape

    def _said(self) -> str:
        return last_line(self._log.errors) or "TensorRT does not say why"

    def _forget(self, runtime: Any, engine: Any) -> None:
        """Drops the context, and with the frame of this call the engine and then the runtime."""
        self._context = None
        del engine, runtime

    def _release(self) -> None:
        self._resources.close()
