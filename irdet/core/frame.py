"""The one preprocessing: raw pixels from any source -> Frame, the same for training, calibration and the device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import FrameError, UsageError, unknown_name
from irdet.core.local import LocalMapping
from irdet.core.nuc import NO_DATA, Correction, saturated

#: Quantisation noise of one count: the standard deviation of a uniform error of width 1 (1/sqrt(12)).
QUANTISATION_NOISE = 0.29

#: Weight of the newest frame in the running minimum and maximum of deep sources.
RANGE_SMOOTHING = 0.05

#: How counts become [0, 1]: by the range of the frame, or by what each pixel's surroundings are like.
MODES = ("range", "local")

#: Up to so many bad pixels of a frame are replaced by medians, more by means.
FEW_BAD = 1 << 16


#: What models see: float32 in [0, 1], or uint8, which stands for itself divided by 255.
Pixels: TypeAlias = "NDArray[np.float32 | np.uint8]"

_Kind = TypeVar("_Kind", bound="np.float32 | np.uint8")


@dataclass(frozen=True, eq=False)
class Frame:
    """One grey frame, ready for a model.

    Attributes:
        data: `Pixels` [H, W]. Those of 8-bit sources stay as they came: a model that takes 8 bits gets the very counts.
        raw: Counts, [H, W], where they are not those of `data` (float32 times 255): of deeper sources, and of corrected
            or locally mapped ones. Corrected counts are float32.
        lsb: One count of the source in units of `counts`: 1 for integer sources, 0 for float ones.
        bad: bool [H, W], pixels whose value was not usable and was replaced; None where there are none.
        index: Number of the frame in its source, from 0.
        time: Seconds since the start of the source; None where it has no clock.
        source: Name for messages and records.
        range: The counts that became 0 and 1, where they follow the data (deep sources); None where they do not.
        full: bool [H, W], pixels at the top of the source's range before a correction; None where there are none.
    """

    data: Pixels
    raw: NDArray[np.generic] | None = None
    lsb: float = 1.0
    bad: NDArray[np.bool_] | None = None
    index: int = 0
    time: float | None = None
    source: str = ""
    range: tuple[float, float] | None = None
    full: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        """Refuses what is not ready for a model.

        Raises:
            FrameError: `data` is not [H, W] of float32 or uint8.
        """
        if self.data.ndim != 2 or self.data.dtype not in (np.float32, np.uint8):
            raise FrameError(
                f"a frame holds float32 or uint8 [height, width], not {self.data.dtype} {list(self.data.shape)}: "
                "raw pixels go through a Preprocessor"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.data.shape
        return height, width

    @cached_property
    def pixels(self) -> NDArray[np.float32]:
        """float32 [H, W] in [0, 1]; computed when first asked for."""
        if self.data.dtype == np.float32:
            return cast("NDArray[np.float32]", self.data)
        pixels = self.data.astype(np.float32)
        pixels /= np.float32(255.0)  # in place: half of the time
        return pixels

    def of_type(self, dtype: type[np.float32] | type[np.uint8]) -> Pixels:
        """Returns the frame for an engine that takes `dtype`: `data` where it is of that type, `pixels` where not."""
        return self.data if self.data.dtype == dtype else self.pixels

    @property
    def counts(self) -> NDArray[np.float32]:
        """float32 [H, W]: the raw counts; an 8-bit source's are 0 to 255."""
        if self.raw is not None:
            return self.raw.astype(np.float32)
        return self.data.astype(np.float32) if self.data.dtype == np.uint8 else self.pixels * np.float32(255.0)


class Preprocessor:
    """Maps raw pixels to [0, 1]. Holds the running range of deep sources, so use one per source.

    8-bit sources are divided by 255, once somebody wants it (`Frame.data`); corrected ones, too. Deeper ones are mapped
    by a declared range, or by the minimum and maximum of the frame (bad pixels left out), smoothed over frames. Nothing
    inside the measured range is ever clipped: in infrared frames the brightest pixels are the targets. With
    `mode="local"` each pixel is mapped by the mean and the spread around it instead (`LocalMapping`).

    Args:
        range: `(low, high)` in counts that map to 0 and 1, or None to follow the data.
        mode: One of `MODES`.
        correction: Gain, offset and bad pixels of the camera, applied to the counts first; None for none.

    Raises:
        UsageError: The range is empty or not finite, or there is one in local mode; no such mode.
    """

    def __init__(
        self,
        range: tuple[float, float] | None = None,
        mode: str = "range",
        correction: Correction | None = None,
    ) -> None:
        if mode not in MODES:
            raise unknown_name("way to normalise", mode, MODES)
        if range is not None and mode == "local":
            raise UsageError("--range and --normalise local exclude each other: the local mode needs no range")
        # As float32, in which two ends may be one; beyond these bounds they have none.
        if range is not None and not (
            all(-NO_DATA < end < NO_DATA for end in range) and np.float32(range[0]) < np.float32(range[1])
        ):
            raise UsageError(f"--range {range[0]:g},{range[1]:g}: the low end must be below the high end")
        self._declared = range
        self._local = LocalMapping() if mode == "local" else None
        self._correction = correction
        self._running: tuple[float, float] | None = None

    def __call__(self, raw: NDArray[np.generic], index: int = 0, time: float | None = None, source: str = "") -> Frame:
        """Maps one frame.

        Args:
            raw: [H, W], or [H, W, 1|3|4] in OpenCV's order (BGR), which is turned to grey first.
                uint8, uint16, other integers, bool, or float. Floats that lie in [0, 1] are taken as they are.
            index: Number of the frame in its source.
            time: Seconds since the start of the source.
            source: Name for messages.

        Returns:
            The frame; it shares no memory with `raw`.

        Raises:
            FrameError: Not an image, empty, without one finite pixel, or of another size than the correction.
        """
        where = f"{source or 'frame'} (frame {index})"
        given = np.asarray(raw)
        raw = to_grey(given, where)
        raw = raw.astype(raw.dtype.newbyteorder("="), copy=False)  # OpenCV takes bytes for those of this machine
        if np.may_share_memory(raw, given):  # which a camera's driver may fill again
            raw = raw.copy()
        plain = self._declared is None and self._local is None and self._correction is None
        if raw.dtype == np.uint8 and plain:
            return Frame(raw.astype(np.uint8, copy=False), index=index, time=time, source=source)

        with np.errstate(over="ignore", invalid="ignore"):
            values = raw.astype(np.float32)
            if self._correction is not None:
                values = self._correction.apply(values, where)
        bad = ~(np.abs(values) < NO_DATA)  # NaN too
        if self._correction is not None:
            bad |= self._correction.bad
        if bad.all():
            raise FrameError(f"{where} has no finite pixel")
        lsb = 1.0 if np.issubdtype(given.dtype, np.integer) else 0.0  # grey of colours is in floats
        some_bad = bool(bad.any())
        if some_bad:
            values = _fill(values, bad)
        if self._local is not None:
            pixels = self._local(values, QUANTISATION_NOISE * lsb)
        else:
            low, high = self._declared or self._follow(values[~bad] if some_bad else values, raw.dtype)
            pixels = np.clip((values - np.float32(low)) / np.float32(high - low), 0.0, 1.0)
        return Frame(
            pixels.astype(np.float32, copy=False),
            raw=values if some_bad or self._correction is not None else raw,
            lsb=lsb,
            bad=bad if some_bad else None,
            range=self._running,
            full=saturated(raw) if self._correction is not None else None,
            index=index,
            time=time,
            source=source,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns how counts become grey, as JSON values."""
        return {
            "range": None if self._declared is None else list(self._declared),
            "normalise": "range" if self._local is None else "local",
            "corrected": self._correction is not None,
        }

    def begin(self, range: tuple[float, float] | None = None) -> None:
        """Has the next frame be the first of its sequence, or the one after a frame of an earlier run.

        Args:
            range: `Frame.range` of the frame before the next; None where there is none, as between images that have
                nothing to do with one another.
        """
        self._running = range

    def _follow(self, values: NDArray[np.float32], dtype: np.dtype) -> tuple[float, float]:
        if dtype == np.uint8:
            return 0.0, 255.0
        low, high = float(values.min()), float(values.max())
        if self._running is None:
            if dtype == np.bool_ or (np.issubdtype(dtype, np.floating) and low >= 0.0 and high <= 1.0):
                return 0.0, 1.0
        else:
            old_low, old_high = self._running
            # Widen at once, shrink slowly: a range that lags behind a bright target would clip it.
            low = min(low, old_low + RANGE_SMOOTHING * (low - old_low))
            high = max(high, old_high + RANGE_SMOOTHING * (high - old_high))
        self._running = (low, high)
        return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def pad_to_multiple(pixels: NDArray[_Kind], stride: int) -> NDArray[_Kind]:
    """Pads [H, W] at the bottom and the right to multiples of `stride`, by reflection.

    A frame that is smaller than its padding is reflected as often as it takes.
    """
    height, width = pixels.shape
    return pad_to(pixels, -(-height // stride) * stride, -(-width // stride) * stride)


def pad_to(pixels: NDArray[_Kind], height: int, width: int) -> NDArray[_Kind]:
    """Pads [H, W] at the bottom and the right to at least `height` x `width`, by reflection."""
    bottom, right = max(0, height - pixels.shape[0]), max(0, width - pixels.shape[1])
    if not bottom and not right:
        return pixels
    return np.pad(pixels, ((0, bottom), (0, right)), mode="reflect")


def to_grey(raw: NDArray[np.generic], where: str) -> NDArray[np.generic]:
    """Turns an image into one grey channel; its depth stays.

    Args:
        raw: [H, W], or [H, W, 1|3|4] in OpenCV's order (BGR).
        where: What it is, for messages.

    Returns:
        [H, W].

    Raises:
        FrameError: Not an image, empty, or not of numbers.
    """
    channels = raw.shape[2] if raw.ndim == 3 else 1
    if raw.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in raw.shape:
        raise FrameError(f"{where} has shape {list(raw.shape)}, not [height, width] of a grey or colour image")
    if raw.dtype.kind not in "buif":
        raise FrameError(f"{where} holds {raw.dtype}, not numbers")
    if raw.ndim == 2:
        return raw
    if channels == 1:
        return raw[:, :, 0]
    import cv2

    if raw.dtype not in (np.uint8, np.uint16):
        raw = raw.astype(np.float32)
    return cv2.cvtColor(np.ascontiguousarray(raw[:, :, :3]), cv2.COLOR_BGR2GRAY)


def _fill(values: NDArray[np.float32], bad: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Replaces bad pixels by the median of the good ones in their 3x3 or else 5x5; what is left, by means."""
    filled, missing = values.copy(), bad.copy()
    if np.count_nonzero(bad) <= FEW_BAD:
        edged = np.pad(np.where(bad, np.nan, values), 2, constant_values=np.nan)
        for reach in (1, 2):
            rows, columns = np.nonzero(missing)
            steps = np.arange(-reach, reach + 1) + 2
            around = edged[rows[:, None, None] + steps[:, None], columns[:, None, None] + steps]
            around = around.reshape(len(rows), len(steps) ** 2)
            found = ~np.isnan(around).all(axis=1)
            filled[rows[found], columns[found]] = np.nanmedian(around[found], axis=1)
            missing[rows[found], columns[found]] = False
    return _fill_by_means(filled, values, bad, missing) if missing.any() else filled


def _fill_by_means(
    filled: NDArray[np.float32], values: NDArray[np.float32], bad: NDArray[np.bool_], missing: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Fills the missing pixels by the mean of the good ones around them, in the smallest window that holds some."""
    import cv2

    good = np.where(bad, 0.0, values).astype(np.float64)
    there = (~bad).astype(np.float64)
    reach = 1
    while missing.any():
        size = (2 * reach + 1, 2 * reach + 1)
        total, number = (
            cv2.boxFilter(plane, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT) for plane in (good, there)
        )
        found = missing & (number > 0.5)
        filled[found] = total[found] / number[found]
        missing = missing & ~found
        reach *= 2
    return filled
