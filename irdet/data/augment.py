"""Intensity augmentation: what differs between cameras, gains and weather, but not between target and background."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def jitter_intensity(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Varies gain, offset, gamma, sharpness and noise.

    Args:
        image: float32 [H, W] in [0, 1].
        rng: Source of chance.

    Returns:
        float32 [H, W] in [0, 1].
    """
    if rng.random() < 0.5:
        mean = float(image.mean())
        image = (image - mean) * np.float32(rng.uniform(0.5, 1.3)) + np.float32(mean + rng.uniform(-0.15, 0.15))
        image = np.clip(image, 0, 1)
    if rng.random() < 0.3:
        image = image ** np.float32(np.exp(rng.uniform(-0.4, 0.4)))
    if rng.random() < 0.1:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 0.8)))
    if rng.random() < 0.3:
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        image = np.clip(image + noise * np.float32(rng.uniform(0.0, 0.02)), 0, 1)
    return image.astype(np.float32, copy=False)
