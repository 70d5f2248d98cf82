"""Multiscale patch-based contrast measure.

Source: Wei, You & Li, "Multiscale patch-based contrast measure for small infrared target detection", Pattern
Recognition 58 (2016): D_i = m_0 - m_i, the difference of the mean of the central cell to that of the i-th of the eight
around it, eq. (4); d_i = D_i * D_(i+4) for opposite cells where both are positive (bright targets), else 0, eqs. (5)
and (8); the smallest of the four, eq. (6); the largest over the scales, eq. (9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.engines.classical.method import Method, need_odd

#: One of each pair of opposite cells, in units of a cell: (down, right).
OPPOSITES = ((-1, -1), (-1, 0), (-1, 1), (0, 1))


@dataclass(frozen=True)
class MPCM(Method):
    """Patch contrast that must stand on both sides in all four directions: edges, which have one dark side, fall.

    The response is the square root of the paper's measure: the geometric mean of two differences, in units of the full
    scale.

    Attributes:
        scales: Sides of the cells, odd, px.
    """

    scales: tuple[int, ...] = (3, 5, 7, 9)

    THRESHOLD: ClassVar[float] = 0.084
    MAIN: ClassVar[str] = "scales"

    def __post_init__(self) -> None:
        for scale in self.scales:
            need_odd("scale", scale, low=1)

    def respond(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the square root of the measure."""
        largest = np.zeros_like(pixels)
        for cell in self.scales:
            mean = cv2.boxFilter(pixels, -1, (cell, cell), borderType=cv2.BORDER_REPLICATE)
            wide = cv2.copyMakeBorder(mean, cell, cell, cell, cell, cv2.BORDER_REPLICATE)
            smallest = np.full_like(pixels, np.inf)
            for down, right in OPPOSITES:
                one, other = (_shifted(wide, mean.shape, cell, sign * down, sign * right) for sign in (1, -1))
                # A product of two differences that are cut at 0 is 0 unless both are positive.
                cv2.min(smallest, np.maximum(mean - one, 0) * np.maximum(mean - other, 0), smallest)
            cv2.max(largest, smallest, largest)
        return np.sqrt(largest)


def _shifted(
    wide: NDArray[np.float32], shape: tuple[int, ...], cell: int, down: int, right: int
) -> NDArray[np.float32]:
    """Returns the means of the cells so many cells down and to the right."""
    top, left = cell * (1 + down), cell * (1 + right)
    return wide[top : top + shape[0], left : left + shape[1]]
