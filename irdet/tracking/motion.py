"""How far the background moves from frame to frame: phase correlation, then least squares on what has structure."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

#: Frames with a longer side are reduced to it before they are compared, which bounds the time, px.
MAX_SIDE = 384

#: Phase correlation takes all scales of structure for equally true, so it looks at a quarter of the pixels of that.
COARSE = 0.5

#: Structure between these two scales is compared (standard deviation of a blur, side of a mean, px): finer is noise,
#: and gradients of the sky and vignetting do not move.
FINE, WIDE = 1.0, 21

#: What stands out by more than so many standard deviations is cut: a bright target is not the background.
CLIP = 3.0

#: Structure of less than this deviation is rounding.
LEAST = 1e-6

#: Steps of least squares.
STEPS = 3

#: Side of the smallest frame that can be compared, px.
MIN_SIDE = 32


@dataclass(frozen=True)
class Motion:
    """Motion of the background between two frames.

    Attributes:
        dx: To the right, px.
        dy: Downwards, px.
        likeness: Correlation of the two frames' structure where the motion is undone, -1 to 1.
        trusted: Whether it is worth compensating; where not, `dx` and `dy` are 0.
    """

    dx: float
    dy: float
    likeness: float
    trusted: bool


class CameraMotion:
    """Measures the shift of the background from each frame to the next, as a shaking or panning camera makes it.

    Turning about the line of sight and zooming are not measured. A shift is trusted where undoing it makes the frames
    alike, and more alike than they were: in an empty sky, or where the pattern of the sensor outweighs the scene, it
    does not, and the camera counts as standing still.

    Args:
        least: Correlation from which on two frames are alike.
    """

    def __init__(self, least: float = 0.5) -> None:
        self._least = least
        self._last: NDArray[np.float32] | None = None

    def __call__(self, pixels: NDArray[np.float32]) -> Motion:
        """Compares a frame with the one before.

        Args:
            pixels: float32 [H, W] in [0, 1].

        Returns:
            The motion since the frame before; not trusted for the first, and where the size has changed.
        """
        scale = min(1.0, MAX_SIDE / max(pixels.shape))
        new = _structure(pixels if scale == 1.0 else _reduced(pixels, scale))
        last, self._last = self._last, new
        if last is None or last.shape != new.shape or min(new.shape) < MIN_SIDE:
            return Motion(0.0, 0.0, 0.0, False)
        dx, dy = _shift(last, new)
        before, after = _likeness(last, new, 0.0, 0.0), _likeness(last, new, dx, dy)
        if not after >= max(self._least, before):
            return Motion(0.0, 0.0, before, False)
        return Motion(dx / scale, dy / scale, after, True)


def _reduced(pixels: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.float32)


def _structure(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the structure of a frame between the two scales, of unit deviation, cut at `CLIP`."""
    fine, wide = cv2.GaussianBlur(pixels, (0, 0), FINE), cv2.blur(pixels, (WIDE, WIDE))
    # The deviation that the middle half of the pixels tells is not that of the targets.
    low, high = np.percentile((fine - wide).ravel()[::7], (25, 75))
    cut = np.float32(CLIP * max((high - low) / 1.35, LEAST))
    # What stands out would also darken everything around it: it is left out of the wide mean.
    wide = cv2.blur(np.where(np.abs(fine - wide) > cut, wide, pixels), (WIDE, WIDE))
    return np.clip((fine - wide) * np.float32(CLIP / cut), -CLIP, CLIP)


def _shift(last: NDArray[np.float32], new: NDArray[np.float32]) -> tuple[float, float]:
    """Finds where the structure went: roughly by phase correlation, then by Gauss-Newton steps."""
    coarse_last, coarse_new = _reduced(last, COARSE), _reduced(new, COARSE)
    window = cv2.createHanningWindow(coarse_last.shape[::-1], cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(coarse_last, coarse_new, window)
    dx, dy = dx / COARSE, dy / COARSE
    for _ in range(STEPS):
        part, moved = _moved_back(last, new, dx, dy)
        if part is None:
            break
        gx, gy = cv2.Sobel(moved, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(moved, cv2.CV_32F, 0, 1, scale=1 / 8)
        rest = last[part] - moved
        xx, xy, yy = (float(np.vdot(a, b)) for a, b in ((gx, gx), (gx, gy), (gy, gy)))
        x, y = float(np.vdot(gx, rest)), float(np.vdot(gy, rest))
        scale = xx * yy - xy * xy
        if not scale > 0:
            break
        step_x, step_y = (yy * x - xy * y) / scale, (xx * y - xy * x) / scale
        dx, dy = dx + step_x, dy + step_y
        if abs(step_x) + abs(step_y) < 0.01:
            break
    return dx, dy


def _likeness(last: NDArray[np.float32], new: NDArray[np.float32], dx: float, dy: float) -> float:
    """Returns the correlation of `last` with `new` moved back, in the part that both see; 0 where that is little."""
    part, moved = _moved_back(last, new, dx, dy)
    if part is None:
        return 0.0
    one, other = moved - moved.mean(), last[part] - last[part].mean()
    scale = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.vdot(one, other)) / scale if scale > 0 else 0.0


def _moved_back(
    last: NDArray[np.float32], new: NDArray[np.float32], dx: float, dy: float
) -> tuple[tuple[slice, slice] | None, NDArray[np.float32]]:
    """Moves `new` back, and cuts out the part that both frames see; None where that is less than a half each way."""
    height, width = new.shape
    x, y = int(abs(dx)) + 2, int(abs(dy)) + 2
    if not (4 * x <= width and 4 * y <= height):
        return None, new
    matrix = np.array([[1, 0, dx + x], [0, 1, dy + y]])
    size = (width - 2 * x, height - 2 * y)
    moved = cv2.warpAffine(new, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return (slice(y, height - y), slice(x, width - x)), np.asarray(moved, np.float32)
