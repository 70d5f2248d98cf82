"""Multiscale flux density and gradient direction diversity in the gradient vector field.

Source: Liu, Cao, Li, Liu & Che, "Infrared Small Target Detection Based on Flux Density and Direction Diversity in
Gradient Vector Field", IEEE JSTARS 11 (2018): the gradient field, eqs. (3) to (5); the flux through the square girdle
of radius l, without the four largest gradients in it, divided by their number, eqs. (8) to (12); MFD = the flux density
of the innermost girdle minus the smallest over all, eq. (13); GDD from the eigenvalues of the structure tensor,
eqs. (14) to (19); the product of both, eq. (20).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.engines.classical.method import Method

#: So many of the largest gradients of a girdle are left out: an edge that crosses it is no target.
LEFT_OUT = 4

#: Rows that are worked on at once, which bounds the memory.
BAND = 32

#: The paper's perturbation, which makes a flat window one without direction.
TINY = 1e-9


@dataclass(frozen=True)
class FluxDensity(Method):
    """Around a target the gradients point inwards from all sides; along an edge they point one way.

    Attributes:
        inner: Radius of the innermost girdle, px.
        outer: Radius of the outermost girdle, px.
        tensor: Radius of the window of the structure tensor, px.
    """

    inner: int = 1
    outer: int = 6
    tensor: int = 2

    THRESHOLD: ClassVar[float] = 0.041
    MAIN: ClassVar[str] = "outer"

    def __post_init__(self) -> None:
        if not 1 <= self.inner <= self.outer:
            raise UsageError(f"girdles from {self.inner} to {self.outer} px: the inner radius is the smaller one")
        if self.tensor < 1:
            raise UsageError(f"tensor {self.tensor}: must be at least 1 px")

    def respond(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns GDD * MFD, in units of the full scale per pixel, cut to [0, 1]."""
        wide = cv2.copyMakeBorder(pixels, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        dx = (wide[1:-1, 2:] - wide[1:-1, :-2]) / 2
        dy = (wide[2:, 1:-1] - wide[:-2, 1:-1]) / 2
        flux = np.stack([_flux_density(dx, dy, radius) for radius in range(self.inner, self.outer + 1)])
        contrast = flux[0] - flux.min(axis=0)
        return np.clip(contrast * self._diversity(dx, dy), 0, 1)

    def _diversity(self, dx: NDArray[np.float32], dy: NDArray[np.float32]) -> NDArray[np.float32]:
        """exp(-((l1 - l2) / (l1 + l2))^2) of the tensor's eigenvalues: 1 without a direction, 1/e with one."""
        side = 2 * self.tensor + 1
        xx, xy, yy = (
            cv2.boxFilter(product, -1, (side, side), borderType=cv2.BORDER_REPLICATE)
            for product in (dx * dx, dx * dy, dy * dy)
        )
        difference = np.sqrt((xx - yy) ** 2 + 4 * xy * xy)
        anisotropy = difference / (xx + yy + np.float32(TINY))
        return np.exp(-anisotropy * anisotropy)


def _flux_density(dx: NDArray[np.float32], dy: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Returns the mean inward gradient over the girdle of a radius, [H, W]; beyond the frame there is none."""
    height, width = dx.shape
    reach = range(-radius, radius + 1)
    girdle = [(y, x) for y in reach for x in reach if max(abs(y), abs(x)) == radius]
    wide = [cv2.copyMakeBorder(part, *(radius,) * 4, cv2.BORDER_CONSTANT, value=0) for part in (dx, dy)]
    density = np.empty_like(dx)
    for top in range(0, height, BAND):
        rows = min(BAND, height - top)
        # Girdle last: what is sorted out together lies together.
        inward = np.empty((rows, width, len(girdle)), np.float32)
        size = np.empty_like(inward)
        for index, (y, x) in enumerate(girdle):
            window = (slice(radius + top + y, radius + top + y + rows), slice(radius + x, radius + x + width))
            gx, gy = wide[0][window], wide[1][window]
            inward[..., index] = -gx * int(x / radius) - gy * int(y / radius)  # whole only on the girdle's sides
            size[..., index] = np.abs(gx) + np.abs(gy)
        kept = np.argpartition(size, len(girdle) - LEFT_OUT, axis=-1)[..., : len(girdle) - LEFT_OUT]
        density[top : top + rows] = np.take_along_axis(inward, kept, axis=-1).mean(axis=-1)
    return density
