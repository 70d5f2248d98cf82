"""A tiny engine that needs no weights: a pixel is a target when it stands out of its surroundings."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typing_extensions import Self

from irdet.core.frame import Pixels, Preprocessor
from irdet.core.info import ModelInfo
from irdet.runtime.detector import Detection, Detector


class ContrastEngine:
    """Probability from the difference of a small and a wide mean; sees `REACH` pixels around each pixel.

    It is as strict about its input as a real engine: shape, type, layout, stride and batch are checked.
    """

    REACH = 6

    def __init__(
        self,
        *,
        stride: int = 8,
        size: tuple[int, int] | None = None,
        max_batch: int | None = None,
        sides: tuple[tuple[int, int], tuple[int, int]] | None = None,
        gain: float = 60.0,
        dtype: type[np.float32] | type[np.uint8] = np.float32,
    ) -> None:
        height, width = size or (None, None)
        self.info = ModelInfo("contrast", stride=stride, height=height, width=width)
        self.runtime = "numpy"
        self.max_batch = max_batch
        self.sides = sides
        self.dtype = dtype
        self.gain = gain
        self.shapes: list[tuple[int, ...]] = []
        self.kinds: set[str] = set()
        self.closed = False

    def run(self, batch: Pixels) -> NDArray[np.float32]:
        assert batch.dtype in (np.float32, self.dtype) and batch.flags.c_contiguous and batch.ndim == 4
        self.kinds.add(batch.dtype.name)
        if batch.dtype == np.uint8:
            batch = batch.astype(np.float32) / np.float32(255)
        count, channels, height, width = batch.shape
        assert channels == 1 and height % self.info.stride == 0 and width % self.info.stride == 0
        assert self.info.height in (None, height) and self.info.width in (None, width)
        assert self.max_batch is None or count <= self.max_batch
        for side, low, high in zip((height, width), *(self.sides or ((1, 1), (height, width))), strict=True):
            assert low <= side <= high
        assert batch.min() >= 0 and batch.max() <= 1
        self.shapes.append(batch.shape)
        return np.stack([self._probability(frame) for frame in batch[:, 0]])[:, None]

    def _probability(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        # In float64, so that a pixel's value does not depend on where in the window it lies.
        values = frame.astype(np.float64)
        wide = cv2.blur(values, (2 * self.REACH + 1,) * 2, borderType=cv2.BORDER_REFLECT_101)
        difference = values - wide
        return (1 / (1 + np.exp(-self.gain * (difference - 0.1)))).astype(np.float32)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@pytest.fixture
def make_engine() -> Callable[..., ContrastEngine]:
    return ContrastEngine


def image(seed: int = 0, targets: int = 3) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(60, 70, (60, 80)).astype(np.uint8)
    for _ in range(targets):
        y, x = rng.integers(5, 55), rng.integers(5, 75)
        pixels[y : y + 2, x : x + 3] = 255
    return pixels


@pytest.fixture
def detect(make_engine: Callable[..., Any]) -> Callable[..., Detection]:
    detector = Detector(make_engine())

    def run(index: int = 0, time: float | None = None, source: str = "a.png", targets: int = 3) -> Detection:
        return detector.detect(Preprocessor()(image(index, targets), index, time, source))

    return run
