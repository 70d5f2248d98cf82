"""Sequences and single frames: background, camera, sensor and targets put together.

Every aspect draws from its own stream of the seed, so that none changes when another does: the same seed with one
target more has the same background, the same noise and the same other targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.data.synth.background import KINDS
from irdet.data.synth.canvas import Canvas, Field, Layer, compose, openness
from irdet.data.synth.config import Range, SceneConfig
from irdet.data.synth.exposure import TOPS, Exposed, expose
from irdet.data.synth.motion import Path, make_camera, target_path
from irdet.data.synth.sensor import make_sensor
from irdet.data.synth.targets import Placed, Shape, SynthTarget, insert_targets, shape_of_area

#: Streams of the seed.
SETTING, BACKGROUND, EXPOSURE, SENSOR, CAMERA, NOISE, TARGET = range(7)

#: Margin of the canvas beyond the frame, as a share of the frame's longer side: how far the camera may go.
MARGIN = 0.1

#: Places that are tried for a target, and the share of targets that may start before land as well as before the sky.
TRIES, LAND_SHARE = 40, 0.15

#: Pixels that a target keeps from the frame's edge and from other targets where it is placed.
DISTANCE = 6.0

#: Targets below the first area are mostly points, those above the second never (px).
POINT_AREA = (8.0, 20.0)


@dataclass(frozen=True, eq=False)
class SynthFrame:
    """A synthetic frame with its truth.

    Attributes:
        raw: uint8 or uint16 [H, W], counts.
        mask: bool [H, W], pixels of targets.
        targets: The truth of each target that shows.
        index: Number of the frame, from 0.
    """

    raw: NDArray[np.generic]
    mask: NDArray[np.bool_]
    targets: tuple[SynthTarget, ...]
    index: int = 0


@dataclass(frozen=True, eq=False)
class _Track:
    """A target on its way: places in the image, for all frames and one more."""

    shape: Shape
    path: Path
    scr: float


def generate_frame(config: SceneConfig, seed: int) -> SynthFrame:
    """Makes one frame: the first of a sequence of one.

    Args:
        config: What it may be.
        seed: Same seed, same frame.
    """
    return next(generate_sequence(config, seed, 1))


def generate_sequence(config: SceneConfig, seed: int, frames: int) -> Iterator[SynthFrame]:
    """Makes a sequence: one background under a moving camera, with targets that cross it.

    Args:
        config: What it may be.
        seed: Same seed, same sequence. At least 0.
        frames: Number of frames.

    Yields:
        The frames. A target is in the truth of those in which it shows.

    Raises:
        UsageError: The seed is negative, or there is no frame to make.
    """
    if seed < 0 or frames < 1:
        raise UsageError(
            f"synthetic sequence of {frames} frames with seed {seed}: at least 1 frame, and no less than 0"
        )
    return _frames(config, seed, frames)


def _frames(config: SceneConfig, seed: int, frames: int) -> Iterator[SynthFrame]:
    def stream(aspect: int, number: int = 0) -> np.random.Generator:
        return np.random.default_rng([seed, aspect, number])

    setting = stream(SETTING)
    kind = str(setting.choice(config.kinds))
    psf, noise, pattern, vignetting, pan, shake = (
        _draw(setting, span)
        for span in (
            config.psf,
            *(config.counts(name) for name in ("noise", "fixed_pattern", "vignetting")),
            config.pan,
            config.shake,
        )
    )
    hot_pixels, count = (int(setting.integers(low, high + 1)) for low, high in (config.hot_pixels, config.targets))

    size, top = (config.height, config.width), TOPS[config.bits]
    margin = int(np.ceil(MARGIN * max(size))) + 2
    canvas = Canvas(config.height + 2 * margin, config.width + 2 * margin, float(config.height))
    scene = expose(stream(EXPOSURE), KINDS[kind](stream(BACKGROUND), canvas), canvas, config.bits, psf)
    camera = make_camera(stream(CAMERA), margin - 2.0, pan, shake).path(frames + 1) + margin
    survey = _Survey(scene, noise, top)
    sensor = make_sensor(
        stream(SENSOR),
        size,
        top,
        (float(survey.counts.mean()), float(survey.counts.std())),
        noise=noise,
        fixed_pattern=pattern,
        vignetting=vignetting,
        hot_pixels=hot_pixels,
    )
    tracks: list[_Track] = []
    for number in range(count):
        tracks.append(_track(stream(TARGET, number), config, psf, camera, survey, tracks))

    amplitudes: dict[int, float] = {}
    for index in range(frames):
        counts = _view(scene, camera[index], index, size)
        read = sensor.expose(counts, stream(NOISE, index))
        placed = [_placed(number, track, index, amplitudes.get(number)) for number, track in enumerate(tracks)]
        raw, mask, targets = insert_targets(
            read, placed, dtype=np.uint8 if config.bits == 8 else np.uint16, top=top, blind=sensor.stuck
        )
        amplitudes.update((target.id, target.amplitude) for target in targets)
        yield SynthFrame(raw, mask, targets, index)


def _view(scene: Exposed, corner: NDArray[np.float64], index: int, size: tuple[int, int]) -> Field:
    """What the camera sees: the layers where they are now, cut out at its place."""

    def cut(field: Field, drift: tuple[float, float] = (0.0, 0.0)) -> Field:
        matrix = np.array([[1, 0, corner[0] - drift[0] * index], [0, 1, corner[1] - drift[1] * index]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        window = cv2.warpAffine(field, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT)
        return np.asarray(window, np.float32)

    view = compose(
        tuple(
            Layer(cut(layer.radiance, layer.drift), None if layer.cover is None else cut(layer.cover, layer.drift))
            for layer in scene.layers
        )
    )
    return view if scene.halo is None else view + cut(scene.halo)


class _Survey:
    """Where on the canvas a target would stand before an even background that leaves it room in the range."""

    def __init__(self, scene: Exposed, noise: float, top: int) -> None:
        self.counts = compose(scene.layers) + (0.0 if scene.halo is None else scene.halo)
        self.open = openness(scene.layers)
        self._top = top
        self._near = cv2.blur(self.counts, (5, 5))
        self._wide = cv2.blur(self.counts, (45, 45))
        square = cv2.blur(self.counts * self.counts, (45, 45)) - self._wide * self._wide
        self._deviation = np.sqrt(np.maximum(square, 0.0) + noise * noise)

    def trouble(self, x: float, y: float, scr: float) -> float:
        """Returns 0 where a target of that ratio can stand, more the less it can."""
        place = (round(y), round(x))
        wanted = max(scr * float(self._deviation[place]), 1e-3)
        bump = float(self._near[place] - self._wide[place])
        excess = float(self._near[place]) + 2.0 * wanted - self._top  # a peak is about twice the mean
        return max(abs(bump) / wanted - 0.3, 0.0) + max(excess / wanted, 0.0)


def _track(
    rng: np.random.Generator, config: SceneConfig, psf: float, camera: Path, survey: _Survey, others: list[_Track]
) -> _Track:
    """Finds a target a place to be at some time, and a path through it."""
    frames = len(camera) - 1
    shape, scr = _shape(rng, config, psf), _draw(rng, config.scr)
    when, manoeuvring = int(rng.integers(frames)), bool(rng.random() < config.manoeuvring)
    speed, anywhere = _draw(rng, config.speed), bool(rng.random() < LAND_SHARE)
    border = min(DISTANCE + shape.size, 0.4 * min(config.width, config.height))
    best, place = np.inf, (config.width / 2, config.height / 2)
    for _ in range(TRIES):
        x = float(rng.uniform(border, config.width - 1 - border))
        y = float(rng.uniform(border, config.height - 1 - border))
        column, row = x + camera[when, 0], y + camera[when, 1]
        trouble = survey.trouble(column, row, scr)
        if not anywhere:
            trouble += 2.0 * (1.0 - float(survey.open[round(row), round(column)]))
        for other in others:
            gap = np.hypot(*(other.path[when] - (x, y))) - other.shape.size - shape.size
            trouble += 5.0 * (gap < DISTANCE)
        if trouble < best:
            best, place = trouble, (x, y)
        if best == 0.0:
            break
    world = target_path(rng, frames, when, place, speed, manoeuvring)
    return _Track(shape, world - camera + camera[when], scr)


def _shape(rng: np.random.Generator, config: SceneConfig, psf: float) -> Shape:
    """Draws what a target looks like; small ones are mostly points, large ones are not."""
    area = _draw(rng, config.area)
    kinds = [kind for kind in config.shapes if kind != "point"]
    chance = 0.8 if area < POINT_AREA[0] else 0.3 if area < POINT_AREA[1] else 0.0
    point = "point" in config.shapes and rng.random() < chance
    kind = "point" if point or not kinds else str(rng.choice(kinds))
    return shape_of_area(kind, area, float(rng.uniform(0, 2 * np.pi)), psf, float(rng.random()))


def _placed(number: int, track: _Track, index: int, previous: float | None) -> Placed:
    (x, y), (vx, vy) = track.path[index], track.path[index + 1] - track.path[index]
    return Placed(number, track.shape, float(x), float(y), track.scr, float(vx), float(vy), previous)


def _draw(rng: np.random.Generator, span: Range) -> float:
    """A number in a range: even over its ratio where both ends are above 0, else even over the range."""
    low, high = span
    value = float(rng.random())
    return float(low * (high / low) ** value) if low > 0 else low + (high - low) * value
