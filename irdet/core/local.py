"""Local normalisation: for scenes whose range is far wider than the contrast of their targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Standard deviation of normal noise by its mean absolute deviation: sqrt(pi / 2).
_NORMAL = 1.2533


@dataclass(frozen=True)
class LocalMapping:
    """Removes the local mean, divides by the local spread, and maps the result to (0, 1).

    What stands out of its surroundings by so many standard deviations gets the same grey everywhere, before cold sky
    as before hot ground. Nothing is clipped: the curve is linear around `level` and bends towards 0 and 1.

    Mean and spread (mean absolute deviation) are measured twice, the second time with what stands out by more than
    `limit` spreads cut to that, so that a target does not hide itself. The defaults were chosen on synthetic scenes of
    14 bits for the shipped `mlcl-edge`; `benchmarks/deep.py` measures them.

    Attributes:
        window: Side of the window, px.
        gain: Grey per standard deviation.
        level: Grey of what does not stand out.
        limit: Spreads.
    """

    window: int = 31
    gain: float = 0.02
    level: float = 0.25
    limit: float = 2.5

    def __call__(self, counts: NDArray[np.float32], noise: float) -> NDArray[np.float32]:
        """Maps a frame.

        Args:
            counts: float32 [H, W], finite.
            noise: The least spread that there can be, counts.

        Returns:
            float32 [H, W] in [0, 1].
        """
        import cv2

        least = np.float32(max(noise, 1e-6 * float(np.ptp(counts)), 1e-30))
        # Around 0, where float32 has the digits for small differences.
        values = counts - np.float32(np.mean(counts, dtype=np.float64))

        def blur(field: NDArray[np.float32]) -> NDArray[np.float32]:
            return cv2.blur(field, (self.window, self.window), borderType=cv2.BORDER_REFLECT)

        def spread(deviation: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.maximum(np.float32(_NORMAL) * blur(np.abs(deviation)), least)

        mean = blur(values)
        most = np.float32(self.limit) * spread(values - mean)
        cut = np.clip(values, mean - most, mean + most)
        mean = blur(cut)
        grey = np.float32(self.gain) * (values - mean) / spread(cut - mean)
        room = np.where(grey > 0, np.float32(1.0 - self.level), np.float32(self.level))
        return np.clip(np.float32(self.level) + room * np.tanh(grey / room), 0.0, 1.0)
