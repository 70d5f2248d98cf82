"""Probability map -> targets: threshold, connected components, and what an engineer asks of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.core.frame import QUANTISATION_NOISE, Frame
from irdet.core.nuc import saturation

#: Pixels between a target's bounding box and the ring in which its background is measured.
GUARD = 2

#: Width of that ring in pixels.
RING = 20

#: Rows of the table of pixels that targets are summed up from: probability, place and count, whose least and largest
#: count, too; then probability times place, and whether the pixel is bad, full or ignored.
_ROWS = range(9)
_P, _X, _Y, _COUNT, _PX, _PY, _BAD, _FULL, _IGNORED = _ROWS


@dataclass(frozen=True)
class Target:
    """One connected component of the thresholded probability map.

    Coordinates are in pixels of the source frame; pixel centres lie at whole numbers.

    Attributes:
        x: Centroid, weighted by probability, px.
        y: Centroid, weighted by probability, px.
        bbox: Left, top, width, height in whole pixels.
        area: Pixels in the component.
        score: Largest probability in it, 0 to 1.
        mean_score: Mean probability in it, 0 to 1.
        peak: Count of the pixel that differs most from the background (raw counts; 0 to 255 for 8-bit sources).
        background: Mean count of the ring around it.
        background_std: Standard deviation of the ring, counts.
        contrast: Mean count of the target minus `background`; negative for a cold target.
        scr: Signal-to-clutter ratio |contrast| / max(background_std, quantisation noise).
        touches_border: The component reaches the edge of the frame.
        saturated: A pixel of it stands at the top of the source's range.
        bad_pixel: A pixel of it was not usable and had been replaced.
        frame: Index of its frame.
        time: Time of its frame in seconds, None where the source has no clock.
    """

    x: float
    y: float
    bbox: tuple[int, int, int, int]
    area: int
    score: float
    mean_score: float
    peak: float
    background: float
    background_std: float
    contrast: float
    scr: float
    touches_border: bool = False
    saturated: bool = False
    bad_pixel: bool = False
    frame: int = 0
    time: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return dict(vars(self))  # flat: asdict would copy every number deeply, which takes longer than writing them


def extract_targets(
    probability: NDArray[np.float32],
    frame: Frame,
    threshold: float = 0.5,
    *,
    min_area: int = 1,
    max_area: int | None = None,
    connectivity: int = 8,
    ignore: NDArray[np.bool_] | None = None,
) -> tuple[Target, ...]:
    """Finds the targets in a probability map.

    Args:
        probability: float32 [H, W] in [0, 1], as large as the frame.
        frame: The frame it was computed from; background and contrast are measured in its counts.
        threshold: A pixel belongs to a target when its probability is at least this; above 1 there are none.
        min_area: Smaller components are dropped, px.
        max_area: Larger components are dropped, px; None for no limit.
        connectivity: 4 or 8.
        ignore: bool [H, W]; a component whose centroid pixel or whose larger part lies in it is dropped.

    Returns:
        The targets, best score first.

    Raises:
        UsageError: Shapes differ, the threshold is not above 0, or connectivity is neither 4 nor 8.
    """
    import cv2

    if probability.shape != frame.shape or (ignore is not None and ignore.shape != frame.shape):
        other = probability if probability.shape != frame.shape else ignore
        assert other is not None
        raise UsageError(f"map of {list(other.shape)} does not fit the frame of {list(frame.shape)}")
    if connectivity not in (4, 8):
        raise UsageError(f"connectivity {connectivity}: must be 4 or 8")
    if not threshold > 0:
        raise UsageError(f"threshold {threshold:g}: must be above 0")

    mask = probability >= threshold
    (pixels,) = mask.ravel().nonzero()
    if not pixels.size:
        return ()
    # From here on only the pixels that are set are touched, and their rows: targets are few and small. A gap between
    # two rows, however wide, shrinks to one that is empty, so what touches stays what touches.
    ys, xs = np.divmod(pixels, mask.shape[1])
    rows = np.zeros(ys.size, np.intp)
    np.minimum(ys[1:] - ys[:-1], 2).cumsum(out=rows[1:])
    band = np.zeros((int(rows[-1]) + 1, mask.shape[1]), np.uint8)
    band[rows, xs] = 1
    _, labels = cv2.connectedComponents(band, connectivity=connectivity, ltype=cv2.CV_32S)
    owner = labels[rows, xs] - 1  # label 0 is the background

    counts, unit = _counts(frame)
    table = np.zeros((len(_ROWS), owner.size))
    table[_P], table[_X], table[_Y], table[_COUNT] = probability[ys, xs], xs, ys, counts[ys, xs]
    table[_COUNT] *= unit
    table[_PX], table[_PY] = table[_P] * xs, table[_P] * ys
    if frame.bad is not None:
        table[_BAD] = frame.bad[ys, xs]
    if frame.full is not None:
        table[_FULL] = frame.full[ys, xs]
    if ignore is not None:
        table[_IGNORED] = ignore[ys, xs]
    # The pixels of one target after those of the other, cut where the next one begins: all are summed up at once.
    table = table[:, owner.argsort(kind="stable")]
    areas = np.bincount(owner)
    first = areas.cumsum() - areas
    sums = np.add.reduceat(table, first, axis=1).T.tolist()
    least, most = (by.reduceat(table[:_PX], first, axis=1).T.tolist() for by in (np.minimum, np.maximum))

    top = _top(frame)
    floor = QUANTISATION_NOISE * frame.lsb
    targets = []
    for area, total, low, high in zip(areas.tolist(), sums, least, most, strict=True):
        if area < min_area or (max_area is not None and area > max_area):
            continue
        x, y = total[_PX] / total[_P], total[_PY] / total[_P]
        if ignore is not None and (total[_IGNORED] * 2 > area or ignore[round(y), round(x)]):
            continue
        left, upper, right, lower = int(low[_X]), int(low[_Y]), int(high[_X]) + 1, int(high[_Y]) + 1
        width, height = right - left, lower - upper
        window, inner = _around(left, upper, width, height, frame.shape)
        level, cold, hot = total[_COUNT] / area, low[_COUNT], high[_COUNT]
        ring = np.logical_not(mask[window]).view(np.uint8)
        ring[inner] = 0
        found = _statistics(counts[window], ring)
        if found is None:  # nothing is left beyond the guard
            found = _statistics(counts[window], np.logical_not(mask[window]).view(np.uint8))
        background, deviation = (found[0] * unit, found[1] * unit) if found else (level, 0.0)
        contrast = level - background
        targets.append(
            Target(
                x=x,
                y=y,
                bbox=(left, upper, width, height),
                area=area,
                score=high[_P],
                mean_score=total[_P] / area,
                peak=hot if hot - background >= background - cold else cold,
                background=background,
                background_std=deviation,
                contrast=contrast,
                scr=abs(contrast) / max(deviation, floor, 1e-9),
                touches_border=left == 0 or upper == 0 or right == frame.shape[1] or lower == frame.shape[0],
                saturated=hot >= top or total[_FULL] > 0,
                bad_pixel=total[_BAD] > 0,
                frame=frame.index,
                time=frame.time,
            )
        )
    return tuple(sorted(targets, key=lambda target: (-target.score, target.y, target.x)))


def _counts(frame: Frame) -> tuple[NDArray[np.generic], float]:
    """Returns the frame's counts in a form that OpenCV sums up, and what they are to be multiplied by."""
    if frame.raw is None:
        return frame.data, 1.0 if frame.data.dtype == np.uint8 else 255.0
    if frame.raw.dtype.name in ("uint8", "int8", "uint16", "int16", "int32", "float32", "float64"):
        return frame.raw, 1.0
    return frame.raw.astype(np.float64), 1.0


def _statistics(counts: NDArray[np.generic], where: NDArray[np.uint8]) -> tuple[float, float] | None:
    """Returns mean and standard deviation where the mask is set, summed in float64; None where it is nowhere."""
    import cv2

    if not cv2.countNonZero(where):
        return None
    mean, deviation = cv2.meanStdDev(counts, mask=where)
    return float(mean[0, 0]), float(deviation[0, 0])


def _top(frame: Frame) -> float:
    """Returns the count at which the source saturates."""
    return 255.0 if frame.raw is None else saturation(frame.raw)


def _around(
    left: int, upper: int, width: int, height: int, shape: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Returns the window of the ring in the frame, and the guarded box to cut out of that window."""
    reach = GUARD + RING
    y0, x0 = max(0, upper - reach), max(0, left - reach)
    window = (
        slice(y0, min(shape[0], upper + height + reach)),
        slice(x0, min(shape[1], left + width + reach)),
    )
    inner = (
        slice(max(0, upper - GUARD - y0), upper + height + GUARD - y0),
        slice(max(0, left - GUARD - x0), left + width + GUARD - x0),
    )
    return window, inner
