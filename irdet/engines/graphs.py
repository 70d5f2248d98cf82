"""What a model's graph takes and gives, how one that is not irdet's is made to fit, and what their engines share.

A foreign model comes without irdet's record, so defaults are taken where its input allows, and stated: grey in
[0, 1] without mean and scale, threshold 0.5. Whether its output is logits or probabilities is found by trying.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import ModelError
from irdet.core.frame import Pixels
from irdet.core.info import ModelInfo
from irdet.engines.base import SLACK, BaseEngine
from irdet.engines.probe import as_batch, probe_frame

#: Multiple that sizes are padded to for a foreign model of free size: that of a network with five halvings.
FOREIGN_STRIDE = 32

#: Side of the frames that a foreign model of free size is probed with.
_PROBE_SIDE = 4 * FOREIGN_STRIDE

_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}

_WANTED = "irdet takes one float or uint8 input [N, 1 or 3, H, W]"


class Port(Protocol):
    """An input or output of a graph, as ONNX Runtime describes it."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def type(self) -> str:
        """Its element type, as in `"tensor(float)"`."""
        ...

    @property
    def shape(self) -> Sequence[int | str | None]:
        """Its sides; what is no number is free."""
        ...


@dataclass(frozen=True)
class Inlet:
    """The input of a graph.

    Attributes:
        name: Its name.
        dtype: float32 or float16, in [0, 1], or uint8, in counts of 8 bits.
        batch: Frames that it takes at once, None where free.
        channels: 1 or 3; grey is copied to 3.
        height: Pixels, None where free.
        width: Pixels, None where free.
    """

    name: str
    dtype: type[np.generic]
    batch: int | None
    channels: int
    height: int | None
    width: int | None

    def __str__(self) -> str:
        shape = (self.batch or "N", self.channels, self.height or "H", self.width or "W")
        return f"[{', '.join(map(str, shape))}]"

    def prepare(self, batch: Pixels) -> NDArray[np.generic]:
        """Turns a batch [N, 1, H, W] into what the graph takes; one that is short is filled with its last frame."""
        if self.batch is not None and len(batch) < self.batch:
            batch = np.concatenate([batch, np.repeat(batch[-1:], self.batch - len(batch), axis=0)])
        if self.channels == 3:
            batch = np.repeat(batch, 3, axis=1)
        if self.dtype == np.uint8 and batch.dtype != np.uint8:
            batch = np.rint(np.clip(batch, 0, 1) * np.float32(255)).astype(np.uint8)  # as QuantizeLinear rounds
        return np.ascontiguousarray(batch, dtype=self.dtype)


@dataclass(frozen=True)
class Head:
    """How probabilities come out of a graph's outputs. The defaults are irdet's own.

    Attributes:
        output: Which of the outputs.
        logits: The values are logits.
        classes: 1, or 2 for background and target.
    """

    output: int = 0
    logits: bool = False
    classes: int = 1

    def probability(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Turns raw output [N, 1 or 2, H, W] or [N, H, W] into float32 probability [N, 1, H, W]."""
        raw = raw.astype(np.float32, copy=False)
        if raw.ndim == 3:
            raw = raw[:, None]
        if self.classes == 1:
            return sigmoid(raw) if self.logits else raw
        # The softmax of two classes is the sigmoid of their difference.
        return sigmoid(raw[:, 1:] - raw[:, :1]) if self.logits else np.ascontiguousarray(raw[:, 1:])


def sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)), without overflow at either end."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def read_inlet(inputs: Sequence[Port]) -> Inlet:
    """Reads the input of a graph.

    Raises:
        ModelError: It is not one float or uint8 image of 1 or 3 channels; says what it is.
    """
    if len(inputs) != 1:
        names = ", ".join(port.name for port in inputs) or "none"
        raise ModelError(f"the graph has {len(inputs)} inputs ({names}); {_WANTED}")
    port = inputs[0]
    shape = [side if isinstance(side, int) and side > 0 else None for side in port.shape]
    found = f"the input {port.name!r} is {port.type} {_shape(port.shape)}"
    if port.type not in _TYPES or len(shape) != 4:
        raise ModelError(f"{found}; {_WANTED}")
    if shape[1] not in (1, 3):
        hint = "channels come last, convert the model to channels first" if shape[3] in (1, 3) else _WANTED
        raise ModelError(f"{found}; {hint}")
    batch, channels, height, width = shape
    assert channels is not None
    return Inlet(port.name, _TYPES[port.type], batch, channels, height, width)


def adapt_foreign(
    inlet: Inlet, outputs: Sequence[Port], feed: Callable[[NDArray[np.float32]], list[NDArray[Any]]]
) -> tuple[ModelInfo, Head, tuple[str, ...]]:
    """Works out how a model without irdet's record can be used, by running it on made frames.

    Args:
        inlet: Its input.
        outputs: Its outputs.
        feed: Runs it on float32 [N, 1, H, W] in [0, 1] and returns all raw outputs.

    Returns:
        A record of the defaults, how to read its output, and notes that state what was assumed.

    Raises:
        ModelError: None of its outputs is a map of its input's size, or it does not run.
    """
    frames = _probes(inlet)
    answers = [feed(frames[i : i + 1]) for i in range(len(frames))]
    size = frames.shape[2:]
    index = next((i for i in range(len(outputs)) if all(_is_map(answer[i], size) for answer in answers)), None)
    if index is None:
        found = ", ".join(f"{port.name} {_shape(np.shape(answers[0][i]))}" for i, port in enumerate(outputs))
        raise ModelError(
            f"no output is a map [N, 1 or 2, H, W] or [N, H, W] of the input's size {size[1]}x{size[0]} "
            f"(it gives {found}), so it is no pixel-wise detector that irdet can use"
        )
    port = outputs[index]
    raws = [answer[index] for answer in answers]
    values = np.concatenate([raw.astype(np.float32).ravel() for raw in raws])
    if not np.isfinite(values).all():
        raise ModelError(f"the output {port.name!r} is not finite on plain frames in [0, 1]")
    classes = 2 if raws[0].ndim == 4 and raws[0].shape[1] == 2 else 1
    # Runtimes compute a sigmoid by polynomials, which may leave [0, 1] by a rounding error.
    outside = bool(values.min() < -SLACK or values.max() > 1 + SLACK)
    sums = [raw.astype(np.float32).sum(axis=1) for raw in raws] if classes == 2 else []
    logits = outside or not all(np.allclose(total, 1, atol=1e-2) for total in sums)
    head = Head(index, logits, classes)
    fixed = [side for side in (inlet.height, inlet.width) if side is not None]
    # Where one side is fixed, the other is a multiple of what that one says that the network can take.
    stride = 1 if len(fixed) == 2 else math.gcd(FOREIGN_STRIDE, *fixed)
    info = ModelInfo("foreign", stride=stride, height=inlet.height, width=inlet.width)
    return info, head, _state(inlet, port.name, head, stride)


def _probes(inlet: Inlet) -> NDArray[np.float32]:
    """Frames that draw both ends out of an output: black, white, noise, and spots on a smooth background."""
    height, width = inlet.height or _PROBE_SIDE, inlet.width or _PROBE_SIDE
    noise = np.random.default_rng(0).random((height, width), dtype=np.float32)
    plain = [np.full((height, width), value, np.float32) for value in (0, 1)]
    return np.concatenate([np.stack([*plain, noise])[:, None], as_batch(probe_frame(height, width)[None])])


def _is_map(raw: NDArray[Any], size: tuple[int, ...]) -> bool:
    if not isinstance(raw, np.ndarray) or raw.dtype not in (np.float32, np.float16) or raw.shape[-2:] != size:
        return False
    return raw.ndim == 3 or (raw.ndim == 4 and raw.shape[1] in (1, 2))


def _state(inlet: Inlet, output: str, head: Head, stride: int) -> tuple[str, ...]:
    told = "logits" if head.logits else "probabilities"
    grey = "counts of 0 to 255" if inlet.dtype == np.uint8 else "grey in [0, 1]"
    parts = [
        f"{grey}{' copied to 3 channels' if inlet.channels == 3 else ''}, without mean and scale",
        f"output {output!r} holds {told}{' of two classes, target last' if head.classes == 2 else ''}",
        "threshold 0.5",
    ]
    if stride > 1:
        parts.append(f"sizes padded to multiples of {stride}")
    return (f"the model has no irdet record; assumed: {'; '.join(parts)}",)


def _shape(shape: Sequence[object]) -> str:
    return f"[{', '.join('?' if side is None else str(side) for side in shape)}]"


class GraphEngine(BaseEngine):
    """An engine that runs a graph as it stands in a file: irdet's own, or a foreign one that is made to fit."""

    _path: Path
    _inlet: Inlet
    _head: Head

    def _adopt(self, inputs: Sequence[Port], outputs: Sequence[Port], record: str | None) -> None:
        """Sets what the engine is from what the graph takes and gives; `_feed` must work.

        Args:
            inputs: The graph's inputs.
            outputs: Its outputs.
            record: irdet's record in the file; None where there is none.

        Raises:
            ModelError: The graph cannot be used; names the file.
        """
        try:
            self._inlet = read_inlet(inputs)
            self.max_batch = self._inlet.batch
            self.dtype = np.uint8 if self._inlet.dtype == np.uint8 else np.float32
            if record is None:
                self.info, self._head, notes = adapt_foreign(self._inlet, outputs, self._feed)
                self.notes += notes
            else:
                self.info, self._head = _own(ModelInfo.from_json(record), self._inlet), Head()
        except ModelError as error:
            raise ModelError(f"{self._path}: {error}") from error

    def _compute(self, batch: Pixels) -> NDArray[np.float32]:
        (raw,) = self._feed(batch, self._head.output)
        return self._head.probability(raw)

    def _feed(self, batch: Pixels, only: int | None = None) -> list[NDArray[Any]]:
        """Runs the graph on a batch [N, 1, H, W] in the form that its input wants; gives all outputs, or one."""
        try:
            outputs = self._execute(self._inlet.prepare(batch), only)
        except Exception as error:  # the errors of these runtimes share no base but Exception
            raise ModelError(f"{self._path}: {self.runtime} failed: {brief(error)}") from error
        count = len(batch)
        return [output[:count] if isinstance(output, np.ndarray) and output.ndim else output for output in outputs]

    @abstractmethod
    def _execute(self, prepared: NDArray[np.generic], only: int | None) -> list[NDArray[Any]]:
        """Runs the graph on its prepared input; gives all outputs, or that one, in arrays that the caller owns."""


def _own(info: ModelInfo, inlet: Inlet) -> ModelInfo:
    if (info.height, info.width) != (inlet.height, inlet.width) or inlet.channels != 1:
        raise ModelError(
            f"its record says input {info.width}x{info.height}, its graph {inlet}; one of them was edited, export again"
        )
    return info


def brief(error: object, limit: int = 200) -> str:
    """Returns the first line of an error of a runtime, without its prefix."""
    text = str(error).strip().partition("\n")[0].removeprefix("[ONNXRuntimeError] : ")
    return text if len(text) <= limit else f"{text[:limit]} ..."
