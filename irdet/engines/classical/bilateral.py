"""Background subtraction with a bilateral filter whose widths follow the local edge component.

Source: Bae & Sohng, "Small Target Detection Using Bilateral Filter Based on Edge Component", J. Infrared Millim.
Terahz. Waves 31 (2010): an edge component over four directions tells candidates; at these both standard deviations and
the window grow with it, so that the target is blurred away; what is left after subtraction is the target. The paper's
mapping function is linear between two ends; the ends here are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.engines.classical.method import Method, need_odd

#: The eight ways to go from a pixel: four directions, both ends of each.
WAYS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))

#: Distances at which the surroundings are looked at, px: for targets of one pixel and of ten.
DISTANCES = (2, 4, 6)

#: Pixels that are filtered at once, which bounds the memory.
AT_ONCE = 1 << 15


@dataclass(frozen=True)
class Bilateral(Method):
    """f - BF(f) at candidates, 0 elsewhere, where the edge-keeping filter would give back the frame.

    The edge component E of a pixel is the smallest of its differences to the eight pixels around it at some distance,
    the largest over `DISTANCES`: positive on a spot, about 0 on an edge (along it nothing changes) and on a plain.

    Attributes:
        least: Edge component of a candidate, in units of the full scale.
        full: Edge component at which the filter is widest.
        window: Smallest and largest window, odd, px.
        domain: Smallest and largest standard deviation over distance, px.
        range: Smallest and largest standard deviation over brightness, in units of the full scale.
    """

    least: float = 0.02
    full: float = 0.2
    window: tuple[int, int] = (5, 15)
    domain: tuple[float, float] = (1.0, 6.0)
    range: tuple[float, float] = (0.05, 1.0)

    THRESHOLD: ClassVar[float] = 0.1
    MAIN: ClassVar[str] = "least"

    def __post_init__(self) -> None:
        if not 0 < self.least < self.full:
            raise UsageError(f"edge components from {self.least:g} to {self.full:g}: must be positive and ascending")
        for side in self.window:
            need_odd("window", side)

    def respond(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the frame minus its predicted background at candidates, in units of the full scale."""
        edge = edge_component(pixels)
        response = np.zeros_like(pixels)
        reach = self.window[1] // 2
        wide = cv2.copyMakeBorder(pixels, *(reach,) * 4, cv2.BORDER_REFLECT_101 if min(pixels.shape) > 1 else 1)
        offsets = np.arange(-reach, reach + 1)
        dy, dx = (plane.ravel() for plane in np.meshgrid(offsets, offsets, indexing="ij"))
        ys, xs = np.nonzero(edge >= self.least)
        for first in np.arange(0, len(ys), AT_ONCE):
            y, x = ys[first : first + AT_ONCE], xs[first : first + AT_ONCE]
            grade = np.clip((edge[y, x] - self.least) / (self.full - self.least), 0, 1)[:, None]
            half, domain, spread = (
                low + grade * (high - low) for low, high in ((self.window[0] // 2, reach), self.domain, self.range)
            )
            near = wide[y[:, None] + reach + dy, x[:, None] + reach + dx]
            centre = pixels[y, x][:, None]
            weight = np.exp(-(dy**2 + dx**2) / (2 * domain**2) - (near - centre) ** 2 / (2 * spread**2))
            weight *= np.maximum(np.abs(dy), np.abs(dx)) <= np.round(half)
            background = (weight * near).sum(axis=1) / weight.sum(axis=1)
            response[y, x] = np.maximum(centre[:, 0] - background, 0)
        return response


def edge_component(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns by how much a pixel is brighter than the brightest of the eight around it, [H, W]; negative where not."""
    largest = np.full_like(pixels, -np.inf)
    for distance in DISTANCES:
        element = np.zeros((2 * distance + 1, 2 * distance + 1), np.uint8)
        for y, x in WAYS:
            element[distance * (1 + y), distance * (1 + x)] = 1
        around = cv2.dilate(pixels, element, borderType=cv2.BORDER_REFLECT_101 if min(pixels.shape) > 1 else 1)
        cv2.max(largest, pixels - around, largest)
    return largest
