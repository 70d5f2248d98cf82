"""The protocol that every runtime fulfils, and the checks that all of irdet's own engines share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from irdet.core.errors import ModelError, UsageError
from irdet.core.frame import Pixels
from irdet.core.info import ModelInfo

#: What `device` may be.
DEVICES = ("auto", "cpu", "cuda", "tensorrt", "openvino")

#: A probability may leave [0, 1] by this much, which rounding explains; beyond it the output is something else.
SLACK = 1e-3


@runtime_checkable
class Engine(Protocol):
    """A loaded model: frames in, probabilities out. Use it as a context manager, or call `close`.

    Attributes:
        info: The record that came with the model. `info.height` and `info.width` are None where the size is free.
        runtime: What computes it and where, for messages and records, for instance `"onnxruntime 1.23 cpu"`.
        max_batch: The largest N that `run` takes; None where it is free.
        sides: The smallest and the largest (H, W) that `run` takes where the size is free; None where any will do.
        dtype: What `run` takes without turning it into something else: `np.float32`, or `np.uint8`.
    """

    info: ModelInfo
    runtime: str
    max_batch: int | None
    sides: tuple[tuple[int, int], tuple[int, int]] | None
    dtype: type[np.float32] | type[np.uint8]

    def run(self, batch: Pixels) -> NDArray[np.float32]:
        """Computes probabilities.

        Args:
            batch: `Pixels` [N, 1, H, W], float32 or of `dtype`; H and W are multiples of `info.stride`, and equal to
                `info.height` and `info.width` where these are set.

        Returns:
            float32 [N, 1, H, W] in [0, 1], owned by the caller.

        Raises:
            UsageError: The shape or type does not fit.
            ModelError: The runtime failed, or gave values that are no probabilities.
        """
        ...

    def close(self) -> None:
        """Frees what the runtime holds. Calling it again does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BaseEngine(ABC):
    """What irdet's engines have in common: a run checks what goes in and what comes out, and closing happens once.

    Attributes:
        device: `"cpu"` or a GPU's, `"cuda"` or `"tensorrt"`.
        notes: What had to be assumed or was done otherwise than asked; lines for the user.
        runs: Calls of `run` that may go on at once, from as many threads.
    """

    info: ModelInfo
    runtime: str
    max_batch: int | None
    sides: tuple[tuple[int, int], tuple[int, int]] | None = None
    dtype: type[np.float32] | type[np.uint8] = np.float32
    device: str = "cpu"
    notes: tuple[str, ...] = ()
    runs: int = 1
    _closed: bool = False

    def run(self, batch: Pixels) -> NDArray[np.float32]:
        """Computes probabilities; see `Engine.run`."""
        if self._closed:
            raise UsageError(f"the engine for {self.info.variant} is closed")
        check_batch(self.info, self.max_batch, batch, self.dtype)
        output = self._compute(np.ascontiguousarray(batch))
        return check_probability(output, batch.shape, self.runtime)

    def spread(self) -> None:
        """Trades the time of one run for frames per second: several `runs` at once, where the runtime gains by it.

        One run on all cores waits at the end of each layer for the slowest of them; runs of one core each do not.
        """
        return None  # here none gains

    def close(self) -> None:
        """Frees what the runtime holds. Calling it again does nothing."""
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _compute(self, batch: Any) -> NDArray[np.float32]:
        """Computes probabilities [N, 1, H, W] of a checked, contiguous batch; the array belongs to the caller."""

    @abstractmethod
    def _release(self) -> None:
        """Frees what the runtime holds."""


def check_batch(
    info: ModelInfo, max_batch: int | None, batch: Pixels, dtype: type[np.float32] | type[np.uint8] = np.float32
) -> None:
    """Refuses a batch that a model cannot take.

    Args:
        info: The model's record.
        max_batch: The most frames at once; None where that is free.
        batch: The frames.
        dtype: What the model takes beside float32.

    Raises:
        UsageError: Says what the batch is and what the model wants.
    """
    fits = isinstance(batch, np.ndarray) and batch.dtype in (np.float32, dtype)
    if not fits or batch.ndim != 4 or batch.shape[1] != 1:
        got = f"{batch.dtype} {list(batch.shape)}" if isinstance(batch, np.ndarray) else type(batch).__name__
        wanted = "float32 or uint8" if dtype == np.uint8 else "float32"
        raise UsageError(f"{info.variant} takes {wanted} [N, 1, H, W], not {got}")
    count, _, height, width = batch.shape
    if 0 in batch.shape:
        raise UsageError(f"an engine takes at least one frame with pixels, not {list(batch.shape)}")
    if max_batch is not None and count > max_batch:
        raise UsageError(f"{info.variant} takes at most {max_batch} frames at once, not {count}")
    if height != (info.height or height) or width != (info.width or width):
        wanted = f"{info.width or 'any'}x{info.height or 'any'}"
        raise UsageError(f"{info.variant} takes frames of {wanted} px only, not {width}x{height}")
    if height % info.stride or width % info.stride:
        raise UsageError(f"{info.variant} takes sizes that are multiples of {info.stride}, not {width}x{height}")


def check_probability(output: NDArray[np.float32], shape: tuple[int, ...], runtime: str) -> NDArray[np.float32]:
    """Refuses an output that holds no probabilities; rounding beyond [0, 1] is cut off.

    Args:
        output: float32, what the runtime gave.
        shape: The shape that it must have.
        runtime: What computed it, for the message.

    Returns:
        float32 in [0, 1], of the given shape.

    Raises:
        ModelError: Another shape, values that are not finite, or values outside [0, 1] by more than `SLACK`.
    """
    if output.shape != shape or output.dtype != np.float32:
        raise ModelError(f"{runtime} gave {output.dtype} {list(output.shape)} for frames {list(shape)}")
    low, high = float(output.min()), float(output.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ModelError(f"{runtime} gave values that are not finite; are the frames finite, and is the model sound?")
    if low < -SLACK or high > 1 + SLACK:
        raise ModelError(f"{runtime} gave values from {low:.4g} to {high:.4g}, which are no probabilities")
    return np.clip(output, 0.0, 1.0) if low < 0 or high > 1 else output
