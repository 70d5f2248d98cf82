"""What the classical methods have in common, and the engine that makes any of them look like a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.core.info import ModelInfo
from irdet.engines.base import BaseEngine


@dataclass(frozen=True)
class Method(ABC):
    """A model-driven detector: a frame in, a response out. Its fields are its parameters.

    The response is brought into [0, 1] by a fixed monotone map. The frame's own maximum is never the unit: it would
    find a target in every empty frame.

    Attributes:
        THRESHOLD: Response from which on a pixel belongs to a target: the best IoU on SIRST's training images.
        MAIN: The parameter that matters most, for sensitivity studies.
    """

    THRESHOLD: ClassVar[float]
    MAIN: ClassVar[str]

    @abstractmethod
    def respond(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Computes the response.

        Args:
            pixels: float32 [H, W] in [0, 1].

        Returns:
            float32 [H, W] in [0, 1].
        """


class MethodEngine(BaseEngine):
    """A `Method` behind the protocol of the engines. Frames may have any size; a batch is gone through one by one."""

    max_batch = None

    def __init__(self, name: str, method: Method) -> None:
        self.method = method
        self.info = ModelInfo(variant=name, threshold=method.THRESHOLD)
        self.runtime = f"opencv {cv2.__version__} cpu"

    def _compute(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([self.method.respond(frame) for frame in batch[:, 0]])[:, None]

    def _release(self) -> None:
        """There is nothing to free."""


def need_odd(name: str, value: int, low: int = 3) -> None:
    """Raises UsageError unless a side is an odd number of pixels from `low` on."""
    if value < low or value % 2 == 0:
        raise UsageError(f"{name} {value}: must be an odd number of pixels, at least {low}")


def ring_of_cells(cell: int) -> NDArray[np.uint8]:
    """Returns a structuring element that is 1 at the centres of the eight cells around a cell of a side."""
    element = np.zeros((2 * cell + 1, 2 * cell + 1), np.uint8)
    element[::cell, ::cell] = 1
    element[cell, cell] = 0
    return element
