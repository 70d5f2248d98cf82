"""White top-hat: what an opening takes away.

Source: Tom, Peli, Leung & Bondaryk, "Morphology-based algorithm for point target detection in infrared backgrounds",
SPIE 1954 (1993); Bai & Zhou, Pattern Recognition 43 (2010), eq. (5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.engines.classical.method import Method, need_odd


@dataclass(frozen=True)
class TopHat(Method):
    """f - (f opened by B): what is brighter than its surroundings and does not hold B.

    Attributes:
        size: Diameter of the disc B, px: odd, larger than any target.
    """

    size: int = 11

    THRESHOLD: ClassVar[float] = 0.23
    MAIN: ClassVar[str] = "size"

    def __post_init__(self) -> None:
        need_odd("size", self.size)

    def respond(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the top-hat, in units of the full scale."""
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (self.size, self.size))
        return np.asarray(cv2.morphologyEx(pixels, cv2.MORPH_TOPHAT, disc), np.float32)
