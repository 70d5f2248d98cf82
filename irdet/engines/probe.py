"""Made frames that hold targets: what models are probed, compared and verified with. NumPy alone, seeded.

They need not look real (irdet's synthetic scenes do); they must hold small bright spots on a background that
changes slowly, so that a detector answers, and be the same on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Spots per 10,000 px, and at least so many.
_DENSITY, _LEAST = 1.5, 2


def probe_frame(height: int, width: int, seed: int = 0, spots: int | None = None) -> NDArray[np.uint8]:
    """Makes one frame: a smooth background, a little noise, and Gaussian spots of 1 to 4 px radius.

    Args:
        height: Pixels.
        width: Pixels.
        seed: Another seed is another frame.
        spots: How many; so many that every part of a model has some to answer where None.

    Returns:
        uint8 [height, width].
    """
    random = np.random.default_rng((seed, height, width))
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    slope, swell = random.uniform(-25, 25, 2), random.uniform(3, 10)
    frame = 80 + slope[0] * y / height + slope[1] * x / width
    frame += swell * np.sin(2 * np.pi * (x / width * random.uniform(0.5, 2) + y / height * random.uniform(0.5, 2)))
    frame += random.normal(0, 1.5, frame.shape)
    count = max(_LEAST, round(_DENSITY * height * width / 10_000)) if spots is None else spots
    for cy, cx, sigma, peak in zip(
        random.uniform(0.1, 0.9, count) * (height - 1),
        random.uniform(0.1, 0.9, count) * (width - 1),
        random.uniform(0.7, 2.0, count),
        random.uniform(40, 130, count),
        strict=True,
    ):
        frame += peak * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8)


def as_batch(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns 8-bit frames [N, H, W] as an engine's input, float32 [N, 1, H, W] in [0, 1]."""
    return frames[:, None].astype(np.float32) / np.float32(255.0)
