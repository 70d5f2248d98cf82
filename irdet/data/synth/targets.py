"""Targets: their shapes, how they are put into a frame at a given signal-to-clutter ratio, and their truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from irdet.core.errors import UsageError
from irdet.core.frame import QUANTISATION_NOISE
from irdet.core.targets import GUARD, RING
from irdet.data.synth.canvas import Field

_Value = TypeVar("_Value", bound=np.generic)

#: A pixel belongs to a target where its contribution is at least this share of its peak. In SIRST the pixels on the
#: inner edge of the masks lie at about 0.5 of the peak and those just outside at about 0.15.
MASK_SHARE = 0.35

#: Pixels are drawn this many times finer each way and averaged.
FINE = 5

#: A target whose strongest pixel adds less than this many counts is not seen, and is not in the truth.
VISIBLE = 1.0

#: Where the background under a target is brighter than the ring, the target still adds this share of what was asked.
LEAST_SHARE = 0.5

#: Share of the way that a target's amplitude moves, from one frame to the next, towards what its ratio asks for.
EASE = 0.15

#: Blur of extended targets, as a share of their half length, where it exceeds the optics': air and motion smear them.
SOFTNESS = 0.2

#: Rounds in which the amplitudes of several targets are solved, each before the faint rims of the others.
ROUNDS = 3

#: Sizes that are tried for an area, px.
SIZES = (0.2, 40.0)


@dataclass(frozen=True)
class Shape:
    """What a target looks like.

    Attributes:
        kind: One of `SHAPES`.
        size: Standard deviation of a point target, half the length of an extended one, px.
        angle: Direction of its nose from the x axis, radians.
        psf: Standard deviation of the optics' blur, px; not used for points, whose size is what is seen.
        variant: Number in [0, 1) that sets its proportions.
    """

    kind: str
    size: float
    angle: float = 0.0
    psf: float = 0.8
    variant: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in SHAPES:
            raise UsageError(f"target shape {self.kind!r}: must be one of {', '.join(SHAPES)}")


@dataclass(frozen=True)
class Placed:
    """A target to put into a frame.

    Attributes:
        id: Its number in the sequence.
        shape: What it looks like.
        x: Place, px; pixel centres lie at whole numbers.
        y: Place, px.
        scr: Signal-to-clutter ratio that it shall have.
        vx: Motion in the image, px per frame; only told on.
        vy: Motion in the image, px per frame; only told on.
        previous: Its amplitude in the frame before. Where given, the new one only moves from there towards what
            `scr` asks for: a target does not flare up as its background changes.
    """

    id: int
    shape: Shape
    x: float
    y: float
    scr: float
    vx: float = 0.0
    vy: float = 0.0
    previous: float | None = None


@dataclass(frozen=True)
class SynthTarget:
    """The truth about one target in one frame.

    Attributes:
        id: Its number in the sequence.
        kind: Its shape.
        x: Place, px; pixel centres lie at whole numbers.
        y: Place, px.
        vx: Motion in the image from this frame to the next, px.
        vy: Motion in the image from this frame to the next, px.
        area: Pixels of its mask.
        scr: Signal-to-clutter ratio as `irdet.core.targets` defines it, measured in the finished frame.
        amplitude: Counts that its strongest pixel added.
        bbox: Left, top, width, height of its mask, px.
    """

    id: int
    kind: str
    x: float
    y: float
    vx: float
    vy: float
    area: int
    scr: float
    amplitude: float
    bbox: tuple[int, int, int, int]


def insert_targets(
    raw: NDArray[np.generic],
    placed: Sequence[Placed],
    *,
    dtype: DTypeLike | None = None,
    top: int | None = None,
    blind: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.generic], NDArray[np.bool_], tuple[SynthTarget, ...]]:
    """Puts targets into a frame, real or synthetic.

    Each target adds its shape to the frame at the amplitude that gives it the ratio asked for: with the mean over its
    mask, and mean and standard deviation of the ring of 20 px beyond a guard of 2 px around its box, other targets
    left out, before rounding. The range of the counts limits it; and where the background under it is much brighter
    than the ring, it adds half of what an even background would have asked for.

    Args:
        raw: Counts [H, W]: uint8, uint16, or float32 that is still to be rounded.
        placed: The targets. Those that do not reach the frame, or that the range leaves no count, are left out.
        dtype: `np.uint8` or `np.uint16`; that of `raw` where None.
        top: Highest count of the range; that of the type where None.
        blind: bool [H, W], pixels that see nothing (dead or stuck ones).

    Returns:
        The frame, rounded and clipped; the mask, bool [H, W]: pixels where a contribution is at least `MASK_SHARE`
        of its peak; the truth of each target.

    Raises:
        UsageError: The frame is not [H, W] counts.
    """
    kind = np.dtype(raw.dtype if dtype is None else dtype)
    if raw.ndim != 2 or kind not in (np.uint8, np.uint16) or raw.dtype.kind not in "uf":
        raise UsageError(f"targets go into counts [H, W], uint8 or uint16, not into {list(raw.shape)} of {kind}")
    ceiling = float(np.iinfo(kind).max if top is None else top)
    frame = raw.astype(np.float32)
    stamps = [(target, _stamp(target, frame.shape, blind)) for target in placed]
    shown = [(target, stamp) for target, stamp in stamps if stamp is not None and stamp.mask.any()]
    others = _union(frame.shape, [stamp for _, stamp in shown])

    lit, amplitudes = frame.copy(), [0.0] * len(shown)
    for _ in range(ROUNDS if len(shown) > 1 else 1):
        for number, (target, stamp) in enumerate(shown):
            lit[stamp.window] -= np.float32(amplitudes[number]) * stamp.light
            room = ceiling - float(lit[stamp.window][stamp.mask].min())
            amplitude = min(_amplitude(lit, stamp, others, target), room)
            amplitudes[number] = amplitude if amplitude >= VISIBLE else 0.0
            lit[stamp.window] += np.float32(amplitudes[number]) * stamp.light
    kept = [(*item, amplitude) for item, amplitude in zip(shown, amplitudes, strict=True) if amplitude]
    finished = np.rint(np.clip(lit, 0.0, ceiling)).astype(kind)
    mask = _union(frame.shape, [stamp for _, stamp, _ in kept])
    return finished, mask, tuple(_truth(finished, mask, *item) for item in kept)


def shape_of_area(kind: str, area: float, angle: float = 0.0, psf: float = 0.8, variant: float = 0.5) -> Shape:
    """Returns a shape whose mask has about the given area, px (mean over places between pixels).

    Optics set the least area of an extended shape, about 6 px at a blur of 0.8 px.
    """
    low, high = SIZES
    for _ in range(12):
        size = float(np.sqrt(low * high))
        shape = Shape(kind, size, angle, psf, variant)
        areas = [(_render(shape, dx, dy)[0] >= MASK_SHARE).sum() for dx, dy in ((0.0, 0.3), (0.3, 0.7), (0.7, 0.0))]
        mean = float(np.mean(areas))
        low, high = (size, high) if mean < area else (low, size)
    return Shape(kind, float(np.sqrt(low * high)), angle, psf, variant)


@dataclass(frozen=True, eq=False)
class _Stamp:
    """A target cut to the frame: where it falls, its contribution with peak 1, its mask."""

    window: tuple[slice, slice]
    light: Field
    mask: NDArray[np.bool_]

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """Left, top, width, height of the mask in the frame, px."""
        left, upper, width, height = cv2.boundingRect(self.mask.view(np.uint8))
        return left + self.window[1].start, upper + self.window[0].start, width, height


def _stamp(target: Placed, shape: tuple[int, ...], blind: NDArray[np.bool_] | None) -> _Stamp | None:
    column, row = int(np.floor(target.x)), int(np.floor(target.y))
    light, reach = _render(target.shape, target.x - column, target.y - row)
    left, upper = column - reach, row - reach
    x0, y0 = max(left, 0), max(upper, 0)
    x1, y1 = min(left + light.shape[1], shape[1]), min(upper + light.shape[0], shape[0])
    if x0 >= x1 or y0 >= y1:
        return None
    window = (slice(y0, y1), slice(x0, x1))
    light = light[y0 - upper : y1 - upper, x0 - left : x1 - left]
    if blind is not None:
        light = np.where(blind[window], np.float32(0.0), light)
    return _Stamp(window, light, light >= MASK_SHARE)


def _render(shape: Shape, dx: float, dy: float) -> tuple[Field, int]:
    """Draws a shape at (dx, dy) px from the middle pixel; returns its light with peak 1, and the middle's index."""
    blur = 0.0 if shape.kind == "point" else max(shape.psf, SOFTNESS * shape.size)
    extent = 3.5 * shape.size if shape.kind == "point" else 1.1 * shape.size + 3.0 * blur
    reach = int(np.ceil(extent)) + 2
    fine = (np.arange((2 * reach + 1) * FINE, dtype=np.float32) + 0.5) / FINE - 0.5 - reach
    x, y = (fine - np.float32(dx))[None, :] / shape.size, (fine - np.float32(dy))[:, None] / shape.size
    cos, sin = float(np.cos(shape.angle)), float(np.sin(shape.angle))
    drawn = SHAPES[shape.kind](x * cos + y * sin, y * cos - x * sin, shape.variant).astype(np.float32)
    if blur:
        drawn = cv2.GaussianBlur(drawn, (0, 0), blur * FINE, borderType=cv2.BORDER_CONSTANT)
    light = drawn.reshape(2 * reach + 1, FINE, 2 * reach + 1, FINE).mean(axis=(1, 3))
    return light / max(float(light.max()), 1e-12), reach


def _amplitude(frame: Field, stamp: _Stamp, others: NDArray[np.bool_], target: Placed) -> float:
    """Solves the amplitude for the target's ratio; its light that leaks into the ring is part of the sum."""
    area, ring = _ring(stamp, others)
    counts = frame[area]
    light, body = _cut(stamp.light, stamp.window, area), _cut(stamp.mask, stamp.window, area)
    inside, outside = counts[body], counts[ring]
    gain = float(light[body].mean() - light[ring].mean())
    offset = float(inside.mean() - outside.mean())
    amplitude = 0.0
    for _ in range(4):
        deviation = max(float((outside + np.float32(amplitude) * light[ring]).std()), QUANTISATION_NOISE)
        wanted = target.scr * deviation
        amplitude = max(wanted - offset, LEAST_SHARE * wanted) / gain
    if target.previous is None:
        return amplitude
    return target.previous + EASE * (amplitude - target.previous)


def _truth(
    finished: NDArray[np.generic], mask: NDArray[np.bool_], target: Placed, stamp: _Stamp, amplitude: float
) -> SynthTarget:
    area, ring = _ring(stamp, mask)
    outside = finished[area][ring].astype(np.float64)
    inside = finished[stamp.window][stamp.mask].astype(np.float64)
    scr = abs(float(inside.mean() - outside.mean())) / max(float(outside.std()), QUANTISATION_NOISE)
    return SynthTarget(
        id=target.id,
        kind=target.shape.kind,
        x=target.x,
        y=target.y,
        vx=target.vx,
        vy=target.vy,
        area=int(stamp.mask.sum()),
        scr=scr,
        amplitude=amplitude,
        bbox=stamp.bbox,
    )


def _ring(stamp: _Stamp, others: NDArray[np.bool_]) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Returns a window of the frame, and in it the pixels in which the background of a target is measured."""
    left, upper, width, height = stamp.bbox
    reach = GUARD + RING
    y0, x0 = max(0, upper - reach), max(0, left - reach)
    window = (
        slice(y0, min(others.shape[0], upper + height + reach)),
        slice(x0, min(others.shape[1], left + width + reach)),
    )
    ring = ~others[window]
    whole = ring.copy()
    ring[
        max(0, upper - GUARD - y0) : upper + height + GUARD - y0,
        max(0, left - GUARD - x0) : left + width + GUARD - x0,
    ] = False
    if ring.any():
        return window, ring
    return window, whole if whole.any() else np.ones_like(whole)


def _cut(values: NDArray[_Value], window: tuple[slice, slice], area: tuple[slice, slice]) -> NDArray[_Value]:
    """Returns what a window of the frame holds as an area of the frame sees it: zeros beside the window.

    The light of a target that has all but left the frame reaches beyond the area around what is left of its mask.
    """
    top, left = (min(a.start, b.start) for a, b in zip(window, area, strict=True))
    bottom, right = (max(a.stop, b.stop) for a, b in zip(window, area, strict=True))
    sheet = np.zeros((bottom - top, right - left), values.dtype)
    sheet[window[0].start - top : window[0].stop - top, window[1].start - left : window[1].stop - left] = values
    return sheet[area[0].start - top : area[0].stop - top, area[1].start - left : area[1].stop - left]


def _union(shape: tuple[int, ...], stamps: Sequence[_Stamp]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    for stamp in stamps:
        mask[stamp.window] |= stamp.mask
    return mask


# Shapes: light at (u along the nose, v across), in units of the target's size; `variant` sets proportions.


def _point(u: Field, v: Field, variant: float) -> Field:
    return np.exp(-0.5 * (u**2 + v**2)).astype(np.float32)


def _ellipse(u: Field, v: Field, variant: float) -> Field:
    ratio = 0.35 + 0.6 * variant
    return ((u**2 + (v / ratio) ** 2 <= 1.0) * (1.0 + 0.4 * u)).astype(np.float32)


def _plane(u: Field, v: Field, variant: float) -> Field:
    sweep = 0.2 + 0.6 * variant
    across = np.abs(v) / (0.45 + 0.5 * variant)  # seen from below or, narrower, from the side
    body = u**2 + (v / 0.17) ** 2 <= 1.0
    wings = (across <= 1.0) & (np.abs(u - 0.15 + sweep * across) <= 0.2 * (1.0 - 0.5 * across))
    tail = (across <= 0.4) & (np.abs(u + 0.82 + 0.4 * sweep * across) <= 0.11)
    engines = np.exp(-((u + 0.1) ** 2 + (across - 0.35) ** 2) / 0.02)
    return ((body | wings | tail) * (0.8 + 0.8 * engines)).astype(np.float32)


def _drone(u: Field, v: Field, variant: float) -> Field:
    across = np.abs(v) / (0.35 + 0.5 * variant)  # the flat machine seen aslant
    body = (u / 0.5) ** 2 + (across / 0.45) ** 2 <= 1.0
    arms = (np.abs(np.abs(u) - across) <= 0.16) & (np.abs(u) <= 0.7)
    motors = np.hypot(np.abs(u) - 0.7, across - 0.7) <= 0.25
    return 1.0 * body + 0.5 * (arms & ~body) + 0.75 * (motors & ~body)


def _bird(u: Field, v: Field, variant: float) -> Field:
    across = np.abs(v)
    body = (u / 0.5) ** 2 + (v / 0.2) ** 2 <= 1.0
    wings = (across <= 1.0) & (np.abs(u - 0.1 + (variant - 0.3) * across) <= 0.22 * (1.1 - across))
    return 1.0 * body + 0.7 * (wings & ~body)


#: Shapes of targets, by name.
SHAPES: dict[str, Callable[[Field, Field, float], Field]] = {
    "point": _point,
    "ellipse": _ellipse,
    "plane": _plane,
    "drone": _drone,
    "bird": _bird,
}
