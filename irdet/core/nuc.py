"""Non-uniformity correction: what each pixel of a camera adds of its own, taken off the raw counts.

Two uniform temperatures give gain and offset of each pixel (two-point), a closed shutter gives the offset anew
(one-point), and a sequence shows the pixels that stand out by themselves in every frame.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import FrameError, IrdetError, UsageError
from irdet.core.files import read_arrays, replacing

#: Float pixels of at least this size are no measurement but a mark for "no data" (-3.4e38 in GeoTIFF).
NO_DATA = 1e30

#: The highest counts of 10, 12 and 14 bits.
_FULL_SCALES = (1023, 4095, 16383)

#: A frame to calibrate on of which more than this share is saturated tells too little of the camera.
MOST_SATURATED = 0.05

#: A pixel whose response differs from the median response by more than this factor is bad.
RESPONSE = 2.0

#: A pixel is hit in a frame where it differs from the median of its 5x5 by more than so many local spreads,
HIT = 5.0

#: and is bad where it is hit in this share of the frames, and
SHARE = 0.8

#: none of its neighbours stands out by more than this share of what it does: optics spread light over several pixels.
NEIGHBOUR = 0.4

#: Frames that a search for bad pixels needs at least, and side of the window of the local spread (px).
LEAST_FRAMES, WINDOW = 10, 15

#: A correction for more pixels than these is none (8192 x 8192).
MAX_PIXELS = 1 << 26

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Correction:
    """Gain, offset and bad pixels of one camera: corrected counts are `gain * counts + offset`.

    Attributes:
        gain: float32 [H, W], finite.
        offset: float32 [H, W], counts, finite.
        bad: bool [H, W], pixels that `Preprocessor` replaces by the median of their good neighbours.

    Raises:
        UsageError: The three do not fit each other, are not finite, or no pixel is good.
    """

    gain: NDArray[np.float32]
    offset: NDArray[np.float32]
    bad: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shapes = {self.gain.shape, self.offset.shape, self.bad.shape}
        if len(shapes) != 1 or self.gain.ndim != 2 or not self.gain.size or self.bad.dtype != np.bool_:
            raise UsageError("correction: gain, offset and bad pixels must be of one size [height, width]")
        if not (np.isfinite(self.gain).all() and np.isfinite(self.offset).all()):
            raise UsageError("correction: gain and offset must be finite")
        if self.bad.all():
            raise UsageError("correction: every pixel is bad")

    def apply(self, counts: NDArray[np.float32], where: str) -> NDArray[np.float32]:
        """Returns the corrected counts, float32 [H, W]; those of bad pixels mean nothing.

        Args:
            counts: float32 [H, W].
            where: What it is, for messages.

        Raises:
            FrameError: The frame is of another size.
        """
        if counts.shape != self.gain.shape:
            (height, width), (own_height, own_width) = counts.shape, self.gain.shape
            raise FrameError(f"{where} is {width}x{height} px, and its correction (--nuc) {own_width}x{own_height}")
        return self.gain * counts + self.offset

    def with_shutter(self, shutter: NDArray[np.float32]) -> Correction:
        """Returns the one-point correction: the same gain, offsets by which the shutter looks even.

        Args:
            shutter: float32 [H, W], mean of raw frames of the closed shutter, or of anything uniform. Pixels without a
                value become bad ones.

        Raises:
            UsageError: It is of another size, or has no pixel that is good.
        """
        _check_shape(shutter, self.gain.shape, "the shutter frames")
        seen = self.gain * shutter
        bad = self.bad | ~np.isfinite(seen)
        if bad.all():
            raise UsageError("calibration: the shutter frames have no pixel with a value that is good")
        offset = np.where(bad, np.float32(0), np.float32(np.median(seen[~bad])) - seen)
        return dataclasses.replace(self, offset=offset, bad=bad)

    def with_bad(self, bad: NDArray[np.bool_]) -> Correction:
        """Returns the correction with more bad pixels."""
        _check_shape(bad, self.gain.shape, "the frames of the scene")
        return dataclasses.replace(self, bad=self.bad | bad)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes it (.npz), in one step.

        Raises:
            IrdetError: The file cannot be written.
        """
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, format=_FORMAT, gain=self.gain, offset=self.offset, bad=self.bad)


def read_correction(path: str | os.PathLike[str]) -> Correction:
    """Reads a correction strictly; nothing in the file is executed.

    Raises:
        IrdetError: No such file, or none of irdet's; says what is wrong.
    """
    path = Path(path)
    try:
        values = read_arrays(path, 9 * MAX_PIXELS + 4096)
    except OSError as error:
        raise IrdetError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise IrdetError(f"cannot read {path}: not a correction of irdet's, or damaged") from error
    if set(values) != {"format", "gain", "offset", "bad"}:
        raise IrdetError(f"cannot read {path}: not a correction of irdet's (irdet calibrate makes one)")
    types = {"gain": np.float32, "offset": np.float32, "bad": np.bool_}
    if wrong := [name for name, kind in types.items() if values[name].dtype != kind]:
        raise IrdetError(f"cannot read {path}: {wrong[0]} is {values[wrong[0]].dtype}; damaged, or not of irdet's")
    if values["format"].shape != () or values["format"] != _FORMAT:
        raise IrdetError(f"cannot read {path}: a correction of another version; make it again (irdet calibrate)")
    try:
        return Correction(
            values["gain"].astype(np.float32), values["offset"].astype(np.float32), values["bad"].astype(np.bool_)
        )
    except UsageError as error:
        raise IrdetError(f"cannot read {path}: {error}") from error


def identity(shape: tuple[int, int]) -> Correction:
    """Returns the correction of frames of [height, width] px that changes nothing."""
    return Correction(np.ones(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.bool_))


def two_point(cold: NDArray[np.float32], hot: NDArray[np.float32]) -> Correction:
    """Returns the correction by which two uniform temperatures look even.

    Each pixel gets the median response, and the level that the median has at the cold one. Pixels whose response is
    less than half or more than twice the median's, or that have no value, are bad.

    Args:
        cold: float32 [H, W], mean of raw frames of a uniform surface.
        hot: The same of a warmer one.

    Raises:
        UsageError: Sizes differ, or the two do not.
    """
    _check_shape(hot, cold.shape, "the hot frames")
    rise = hot.astype(np.float64) - cold
    valued = np.isfinite(rise)
    typical = float(np.median(rise[valued])) if valued.any() else 0.0
    if not typical > 0:
        raise UsageError("calibration: the hot frames are not brighter than the cold ones; are they exchanged?")
    bad = ~((rise > typical / RESPONSE) & (rise < typical * RESPONSE))
    gain = np.where(bad, 1.0, typical / np.where(bad, 1.0, rise))
    offset = np.where(bad, 0.0, np.median(cold[~bad]) - gain * np.where(bad, 0.0, cold))
    return Correction(gain.astype(np.float32), offset.astype(np.float32), bad)


def saturation(raw: NDArray[np.generic]) -> float:
    """Returns the count at which a source saturates; infinity where that is not known, as of floats.

    Cameras of 10 to 14 bits come in 16: where the brightest pixel of a frame is the highest count of one of these
    depths, that is it.
    """
    if not np.issubdtype(raw.dtype, np.integer):
        return float("inf")
    highest = int(raw.max())
    return float(highest if highest in _FULL_SCALES else np.iinfo(raw.dtype.str).max)


def saturated(raw: NDArray[np.generic]) -> NDArray[np.bool_] | None:
    """Marks the pixels at which an integer source saturates, bool [H, W]; None where there are none."""
    if not np.issubdtype(raw.dtype, np.integer):
        return None
    full = np.asarray(raw == saturation(raw))
    return full if full.any() else None


def mean_frame(frames: Iterable[NDArray[np.generic]]) -> NDArray[np.float32]:
    """Returns the mean of raw frames [H, W], float32; NaN where a pixel has none or a saturated value in one of them.

    Raises:
        UsageError: There is none, their sizes differ, or much of one is saturated.
    """
    total, count = None, 0
    for frame in frames:
        values = frame.astype(np.float64)
        values[~(np.abs(values) < NO_DATA)] = np.nan
        if (full := saturated(frame)) is not None:
            share = full.mean()
            if share > MOST_SATURATED:
                raise UsageError(
                    f"calibration: {100 * share:.0f} % of frame {count} are saturated: take a colder surface, or a "
                    "shorter integration"
                )
            values[full] = np.nan
        if total is None:
            total = np.zeros_like(values)
        _check_shape(values, total.shape, f"frame {count}")
        total += values
        count += 1
    if total is None:
        raise UsageError("calibration: no frames to average")
    return (total / count).astype(np.float32)


def find_bad(frames: Iterable[NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Finds the pixels that stand out of their surroundings by themselves in nearly every frame.

    What is seen through optics covers several pixels, and moves in a sequence of a moving scene or camera. Pixels that
    have no value in nearly every frame are bad, too.

    Args:
        frames: float32 [H, W], raw or corrected counts of a sequence; at least `LEAST_FRAMES`.

    Returns:
        bool [H, W].

    Raises:
        UsageError: They are too few, or their sizes differ.
    """
    import cv2

    hits: NDArray[np.int64] | None = None
    total = np.zeros((0, 0))
    count = 0
    for frame in frames:
        counts = np.ascontiguousarray(frame, np.float32)
        lost = ~(np.abs(counts) < NO_DATA)
        if lost.any():  # filters would spread it
            counts = np.where(lost, np.median(counts[~lost]) if not lost.all() else 0, counts).astype(np.float32)
        excess = counts - cv2.medianBlur(counts, 5)
        spread = cv2.blur(np.abs(excess), (WINDOW, WINDOW), borderType=cv2.BORDER_REFLECT)
        # A bad pixel is part of its window's spread: without its own share it stands out however small the window.
        spread = np.maximum(1.2533 * (spread - np.abs(excess) / WINDOW**2), 0.29)
        if hits is None:
            hits, total = np.zeros(counts.shape, np.int64), np.zeros(counts.shape)
            without = np.zeros(counts.shape, np.int64)
        _check_shape(counts, hits.shape, f"frame {count}")
        hits += np.abs(excess) > HIT * spread
        without += lost
        total += excess
        count += 1
    if hits is None or count < LEAST_FRAMES:
        raise UsageError(f"calibration: {count} frames are too few to find bad pixels; give at least {LEAST_FRAMES}")
    mean = np.abs(total / count)
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    alone = (hits >= SHARE * count) & (cv2.dilate(mean, ring) < NEIGHBOUR * mean)
    return alone | (without >= SHARE * count)


def _check_shape(values: NDArray[np.generic], shape: tuple[int, ...], what: str) -> None:
    if values.shape != shape:
        (height, width), (others_height, others_width) = values.shape, shape
        raise UsageError(f"calibration: {what} are {width}x{height} px, the others {others_width}x{others_height}")
