"""The papers' protocol: images and masks resized to a square, and everything measured there."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def resize_protocol(
    raw: NDArray[np.generic], mask: NDArray[np.bool_], size: tuple[int, int]
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Resizes image and mask as the authors of MLCL-Net made their version of SIRST.

    Both bilinearly, before any mapping to [0, 1]; the mask as 0 or 255, cut at half of that.

    Args:
        raw: [H, W], of the file's own type.
        mask: bool [H, W].
        size: Width and height.
    """
    if raw.dtype not in (np.uint8, np.uint16):
        raw = raw.astype(np.float32)
    image = cv2.resize(raw, size, interpolation=cv2.INTER_LINEAR)
    levels = cv2.resize(mask.astype(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_LINEAR)
    return image, levels > 127
