"""Scenes of 14 bits and wide dynamic range, made to be mapped by their surroundings (`irdet.core.local`).

The backgrounds are those of `irdet synth`, widened so that the counts between the 0.1st and the 99.9th percentile of
each frame span 55 to 90 % of the full scale, in three ways:

- hot: the scene keeps its contrast, and land, or a few large structures where there is none, are far hotter;
- field: the scene keeps its contrast, and a smooth field (warm optics, a warm horizon) lies over it;
- stretched: the contrast of everything is stretched, down to the smallest scrap of cloud.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.data.synth.background import KINDS
from irdet.data.synth.canvas import Canvas, compose, openness
from irdet.data.synth.exposure import TOPS, expose
from irdet.data.synth.fields import log_uniform
from irdet.data.synth.sensor import make_sensor
from irdet.data.synth.targets import Placed, SynthTarget, insert_targets, shape_of_area

WAYS = ("hot", "field", "stretched")

#: Height and width of the frames, px.
SHAPE = (256, 320)

#: Share of the full scale that the scene spans, between these percentiles.
SPAN, PERCENTILES = (0.55, 0.90), (0.1, 99.9)

#: Standard deviations, counts: of the temporal noise, of the fixed pattern that is left, of the scene's own contrast.
NOISE, PATTERN, CONTRAST = (4.0, 25.0), (1.0, 12.0), (5.0, 500.0)

#: Targets of a scene, their area (px), and the ratios asked for; those that come out below the least are not kept.
TARGETS, AREA, SCR, LEAST_SCR = (2, 4), (3.0, 80.0), (5.5, 30.0), 5.0

TOP = TOPS[16]


@dataclass(frozen=True, eq=False)
class DeepScene:
    """A frame with its truth.

    Attributes:
        way: One of `WAYS`.
        kind: Kind of background, a key of `KINDS`.
        noise: Standard deviation of the temporal noise, counts.
        span: Share of the full scale between `PERCENTILES` of the frame.
        raw: uint16 [H, W], counts of 14 bits.
        mask: bool [H, W], the targets.
        targets: What was inserted, with its signal-to-clutter ratio as measured.
    """

    way: str
    kind: str
    noise: float
    span: float
    raw: NDArray[np.uint16]
    mask: NDArray[np.bool_]
    targets: tuple[SynthTarget, ...]


def make_deep_scene(seed: int) -> DeepScene:
    """Makes the scene of a number: ways and kinds of background in turns."""
    rng = np.random.default_rng([seed, 14])
    way, kind = WAYS[seed % len(WAYS)], tuple(KINDS)[seed // len(WAYS) % len(KINDS)]
    canvas = Canvas(*SHAPE, float(SHAPE[0]))
    exposed = expose(rng, KINDS[kind](rng, canvas), canvas, 16, float(rng.uniform(0.6, 1.4)))
    sky = openness(exposed.layers)
    counts = _widened(rng, way, compose(exposed.layers), sky)
    noise = log_uniform(rng, *NOISE)
    level = float(counts.mean()), float(counts.std())
    sensor = make_sensor(
        rng, SHAPE, TOP, level, noise=noise, fixed_pattern=rng.uniform(*PATTERN), vignetting=0.0, hot_pixels=0
    )
    read = sensor.expose(counts, rng)
    inserted, mask, targets = insert_targets(read, _placed(rng, read, sky > 0.5), dtype=np.uint16, top=TOP)
    raw = inserted.astype(np.uint16)
    low, high = np.percentile(raw, PERCENTILES)
    return DeepScene(way, kind, noise, float(high - low) / TOP, raw, mask, targets)


def _widened(
    rng: np.random.Generator, way: str, counts: NDArray[np.float32], sky: NDArray[np.float32]
) -> NDArray[np.float32]:
    span = rng.uniform(*SPAN) * TOP

    def spanned(values: NDArray[np.float32]) -> float:
        low, high = np.percentile(values, PERCENTILES)
        return float(high - low)

    if way == "stretched":
        counts = counts * np.float32(span / spanned(counts))
    else:
        counts = (counts - counts.mean()) * np.float32(log_uniform(rng, *CONTRAST) / counts.std())
        field = _structures(rng, sky) if way == "hot" else _smooth(rng)
        low, high = 0.0, 4.0 * TOP
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if spanned(counts + np.float32(middle) * field) < span else (low, middle)
        counts = counts + np.float32(low) * field
    room = 0.98 * TOP - span
    floor = np.float32(rng.uniform(0.02 * TOP, room))
    return counts - np.float32(np.percentile(counts, PERCENTILES[0])) + floor


def _structures(rng: np.random.Generator, sky: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 on what is hot: the land, or large ellipses and boxes; edges as soft as optics make them."""
    hot = 1.0 - sky
    if not 0.02 < hot.mean() < 0.98:
        drawn = np.zeros(SHAPE, np.uint8)
        for _ in range(int(rng.integers(1, 4))):
            centre = int(rng.integers(0, SHAPE[1])), int(rng.integers(SHAPE[0] // 2, SHAPE[0]))
            axes = int(rng.integers(18, 60)), int(rng.integers(18, 60))
            if rng.random() < 0.5:
                cv2.ellipse(drawn, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
            else:
                far = centre[0] + axes[0], centre[1] + axes[1]
                cv2.rectangle(drawn, (centre[0] - axes[0], centre[1] - axes[1]), far, 1, -1)
        hot = drawn.astype(np.float32)
    return cv2.GaussianBlur(hot.astype(np.float32), (0, 0), float(rng.uniform(0.6, 1.4)))


def _smooth(rng: np.random.Generator) -> NDArray[np.float32]:
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]] / SHAPE[0]
    field = np.zeros(SHAPE)
    for _ in range(4):
        angle, waves, phase = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.0), rng.uniform(0, 2 * np.pi)
        field += np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return (field / np.ptp(field)).astype(np.float32)


def _placed(rng: np.random.Generator, read: NDArray[np.float32], sky: NDArray[np.bool_]) -> list[Placed]:
    """Places targets, most of them before the sky; those whose ratio comes out too low are left out."""
    placed: list[Placed] = []
    for number in range(int(rng.integers(TARGETS[0], TARGETS[1] + 1))):
        for _ in range(40):
            x, y = rng.uniform(20, SHAPE[1] - 21), rng.uniform(20, SHAPE[0] - 21)
            if rng.random() > 0.15 and not sky[round(y), round(x)]:
                continue
            if any(np.hypot(other.x - x, other.y - y) < 30 for other in placed):
                continue
            area = log_uniform(rng, *AREA)
            extended = ("ellipse", "plane", "drone", "bird")
            shape = str(rng.choice(extended if area >= 20 else ("point", *extended) if area >= 8 else ("point",)))
            drawn = shape_of_area(shape, area, rng.uniform(0, 2 * np.pi), 0.8, rng.random())
            one = Placed(number, drawn, x, y, log_uniform(rng, *SCR))
            truth = insert_targets(read, [*placed, one], dtype=np.uint16, top=TOP)[2]
            if len(truth) == len(placed) + 1 and min(target.scr for target in truth) >= LEAST_SCR:
                placed.append(one)
                break
    return placed
