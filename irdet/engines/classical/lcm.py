"""Local contrast measure.

Source: Chen, Li, Wei, Xia & Tang, "A Local Contrast Method for Small Infrared Target Detection", IEEE TGRS 52 (2014):
L_n = max of the central cell, eq. (2); m_i = mean of the i-th of the eight cells around it, eq. (1);
C_n = min_i L_n * L_n / m_i, eq. (4); the largest over the scales, section III-C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.engines.classical.method import Method, need_odd, ring_of_cells

#: The measure divides by means, so it depends on where zero is: counts of 8 bits, as in the paper.
COUNTS = 255.0

#: Means below one count are taken as one: a black sky is no infinite contrast.
LEAST_MEAN = 1.0


@dataclass(frozen=True)
class LCM(Method):
    """Local contrast measure over several sizes of cells.

    It is no difference but a ratio: a bright cloud answers by its brightness alone, and the same target on a brighter
    background answers less. The paper's measure is C; the response is C / (C + 255), so that a flat frame of full
    brightness (C = 255) gives 0.5.

    Attributes:
        scales: Sides of the cells, odd, px.
    """

    scales: tuple[int, ...] = (3, 5, 7, 9)

    THRESHOLD: ClassVar[float] = 0.58
    MAIN: ClassVar[str] = "scales"

    def __post_init__(self) -> None:
        for scale in self.scales:
            need_odd("scale", scale, low=1)

    def respond(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns C / (C + 255)."""
        counts = pixels * np.float32(COUNTS)
        largest = np.zeros_like(counts)
        for cell in self.scales:
            peak = cv2.dilate(counts, np.ones((cell, cell), np.uint8), borderType=cv2.BORDER_REPLICATE)
            # Beyond the frame its rim goes on; the smallest ratio is that to the largest mean.
            wide = cv2.copyMakeBorder(counts, cell, cell, cell, cell, cv2.BORDER_REPLICATE)
            mean = cv2.boxFilter(wide, -1, (cell, cell), borderType=cv2.BORDER_REPLICATE)
            around = cv2.dilate(mean, ring_of_cells(cell))[cell:-cell, cell:-cell]
            cv2.max(largest, peak * peak / np.maximum(around, np.float32(LEAST_MEAN)), largest)
        return largest / (largest + np.float32(COUNTS))
