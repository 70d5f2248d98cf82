"""Landscapes under a sky: mountains, rows of trees, open ground, the sea."""

from __future__ import annotations

import numpy as np

from irdet.data.synth.canvas import Canvas, Field, Layer, merge
from irdet.data.synth.fields import (
    billow,
    blur,
    by_depth,
    fractal,
    log_uniform,
    normalise,
    profile,
    relief,
    smoothstep,
    stretch01,
    warp,
)
from irdet.data.synth.sky import any_sky


def ridge(rng: np.random.Generator, canvas: Canvas) -> tuple[Layer, ...]:
    """Mountain ranges behind each other, the far ones pale with haze, sunlit slopes, forest or fields in front."""
    count = int(rng.integers(1, 5))
    foot = rng.uniform(0.5, 0.9) * canvas.height
    warmth = rng.uniform(1.2, 2.4)
    sun = rng.uniform(0, np.pi)
    slope = rng.uniform(3.0, 4.0)
    land = []
    for number in range(count):
        near = (number + 1) / count
        height = canvas.unit * log_uniform(rng, 0.02, 0.08)
        rocks = 0.04 * profile(rng, canvas.width, 1.8, canvas.unit * 0.05)
        hills = profile(rng, canvas.width, slope, canvas.unit * rng.uniform(0.6, 2.0))
        crest = foot - canvas.unit * rng.uniform(0.1, 0.2) * (1 - near) - height * (1.2 + hills + rocks)
        clear_air = rng.uniform(0.75, 1.0) * near ** rng.uniform(0.3, 1.0)
        slopes = _slopes(rng, canvas, sun, near)
        radiance = warmth * clear_air + 0.4 * (1 - clear_air) + clear_air * slopes
        # Valleys hold haze.
        radiance = radiance - (0.15 * (1 - near)) * smoothstep(
            0, 1, ((_y(canvas) - crest) / (3 * height)).astype(np.float32)
        )
        land.append(_below(canvas, radiance.astype(np.float32), crest, ragged=None))
    if rng.random() < 0.7:
        line = foot + canvas.unit * (rng.uniform(0.02, 0.15) + 0.01 * profile(rng, canvas.width, 2.0, canvas.unit))
        front = _foliage(rng, canvas, warmth) if rng.random() < 0.5 else _ground(rng, canvas, warmth, float(line.min()))
        ragged = canvas.unit * 0.03 if rng.random() < 0.5 else None
        land.append(_below(canvas, front, line, ragged, rng))
    return (*any_sky(rng, canvas), merge(land))


def trees(rng: np.random.Generator, canvas: Canvas) -> tuple[Layer, ...]:
    """A field that ends in a row of warm trees or a wood, seen against the sky."""
    horizon = rng.uniform(0.6, 0.95) * canvas.height
    warmth = rng.uniform(1.2, 2.4)
    tilt = rng.normal(0, 0.02) * (np.arange(canvas.width) - canvas.width / 2)
    land = []
    if rng.random() < 0.4:
        crest = horizon - canvas.unit * (0.06 + 0.02 * profile(rng, canvas.width, 2.2, canvas.unit))
        haze = np.float32(0.6 * warmth) + 0.05 * fractal(rng, canvas.shape, 2.6, canvas.unit * 0.2)
        land.append(_below(canvas, haze, crest + tilt))
    for _ in range(int(rng.integers(1, 4))):
        tall = canvas.unit * log_uniform(rng, 0.03, 0.25)
        groves = smoothstep(
            -1.2, 0.6, profile(rng, canvas.width, 2.4, canvas.unit * 0.5) + np.float32(rng.normal(0.5, 1))
        )
        crest = horizon - tall * (0.1 + 0.9 * groves * (1 + 0.1 * profile(rng, canvas.width, 2.0, tall)))
        wood = _trunks(rng, canvas, warmth) if rng.random() < 0.5 else _foliage(rng, canvas, warmth)
        land.append(_below(canvas, wood, crest + tilt, tall * 0.15, rng))
    line = horizon + tilt + canvas.unit * 0.004 * profile(rng, canvas.width, 2.4, canvas.unit * 0.3)
    land.append(_below(canvas, _ground(rng, canvas, warmth * rng.uniform(0.7, 1.0), horizon), line))
    return (*any_sky(rng, canvas), merge(land))


def ground(rng: np.random.Generator, canvas: Canvas) -> tuple[Layer, ...]:
    """Open country seen from above: fields, tracks, bushes; the horizon high in the frame or out of it."""
    warmth = rng.uniform(1.2, 2.4)
    horizon = rng.uniform(-0.6, 0.35) * canvas.height
    radiance = _ground(rng, canvas, warmth, horizon)
    fields = _patchwork(rng, canvas, horizon)
    radiance = radiance + np.float32(rng.uniform(0.02, 0.25) * warmth) * fields
    for _ in range(int(rng.integers(0, 4))):
        radiance += np.float32(rng.choice([-1, 1]) * rng.uniform(0.1, 0.4) * warmth) * _track(rng, canvas, horizon)
    bushes = smoothstep(
        0.4, 1.2, fractal(rng, canvas.shape, 3.2, canvas.unit * 0.25) + np.float32(rng.normal(-0.8, 0.8))
    )
    crowns = _foliage(rng, canvas, warmth * rng.uniform(0.6, 1.2))
    clumps = smoothstep(0.45, 0.6, billow(rng, canvas.shape, canvas.unit * 0.06, 4))
    radiance += bushes * clumps * (crowns - radiance)
    if horizon > 0:  # the air pales what is far
        radiance = 0.6 + (radiance - 0.6) * smoothstep(-0.15, 0.35, _nearness(canvas, horizon))
    layer = _below(canvas, radiance.astype(np.float32), np.full(canvas.width, horizon))
    if horizon <= 0:
        return (Layer(layer.radiance, None, open=False),)
    return (*any_sky(rng, canvas), layer)


def sea(rng: np.random.Generator, canvas: Canvas) -> tuple[Layer, ...]:
    """The sea with waves, calm patches and the sun's glitter, under a horizon or filling the frame."""
    horizon = rng.uniform(-0.5, 0.7) * canvas.height
    tilt = rng.normal(0, 0.008) * (np.arange(canvas.width) - canvas.width / 2)
    depth = _nearness(canvas, horizon)
    slick = fractal(rng, canvas.shape, 3.4, canvas.unit * 0.6, stretch=rng.uniform(3, 8), angle=rng.normal(0, 0.08))
    slick = smoothstep(-0.5, 1.2, slick) * np.float32(rng.uniform(0, 1))
    level = rng.uniform(-0.4, 0.8) + rng.uniform(-0.6, 0.6) * depth / max(float(depth.max()), 1e-3)
    sun = rng.uniform(-0.2, 1.2) * canvas.width
    wide = canvas.unit * rng.uniform(0.1, 0.5)
    column = np.exp(-0.5 * ((np.arange(canvas.width)[None, :] - sun) / (wide * (0.4 + 0.6 * depth))) ** 2)
    column = column * rng.choice([0.0, 1.0], p=[0.35, 0.65]) * rng.uniform(0.3, 1.6)
    roughness, grain = rng.uniform(0.04, 0.22), log_uniform(rng, 0.006, 0.02) * canvas.unit
    stretch, swell = rng.uniform(2, 5), rng.uniform(1.5, 2.5)
    layers = [] if horizon <= 0 else list(any_sky(rng, canvas))
    if horizon > 0 and rng.random() < 0.35:
        coast = horizon + tilt - canvas.unit * (0.012 + 0.006 * profile(rng, canvas.width, 2.2, canvas.unit * 0.6))
        shore = np.float32(rng.uniform(0.5, 1.5)) + 0.05 * fractal(rng, canvas.shape, 2.6, canvas.unit * 0.1)
        layers.append(_below(canvas, shore, coast))
    for number in range(2):
        waves = by_depth(_grains(rng, canvas, grain, stretch, swell), 1 + 12 * depth)
        water = level + roughness * waves * (0.35 + 0.65 * depth) * (1 - 0.7 * slick) - 0.15 * slick
        sparkle = np.clip(waves - 0.4, 0, None) ** 1.5
        water = water + column * (0.25 + 0.9 * sparkle) * (1 - 0.8 * slick)
        sheet = _below(canvas, water.astype(np.float32), horizon + tilt)
        cover = sheet.cover
        if number == 0 and horizon <= 0:
            cover = None
        elif number == 1:  # the second sheet glides over the first: the waves change as they run
            assert cover is not None
            cover = cover * np.float32(0.5)
        layers.append(Layer(sheet.radiance, cover, drift=(float(rng.normal(0, 0.15)), 0.0)))
    return tuple(layers)


def _y(canvas: Canvas) -> Field:
    return np.arange(canvas.height, dtype=np.float32)[:, None]


def _below(
    canvas: Canvas,
    radiance: Field,
    line: np.ndarray,
    ragged: float | None = None,
    rng: np.random.Generator | None = None,
) -> Layer:
    """Land that begins at `line` [W] (row numbers); `ragged` px deep, its edge is one of crowns and twigs."""
    inside = _y(canvas) - line.astype(np.float32)[None, :]
    if ragged and rng is not None:
        crowns = billow(rng, canvas.shape, max(2.0 * ragged, 4.0), 4) - np.float32(0.55)
        twigs = fractal(rng, canvas.shape, 2.0, max(ragged, 3.0))
        inside = inside + np.float32(3.0 * ragged) * crowns + np.float32(0.12 * ragged) * twigs
        inside = np.maximum(inside, _y(canvas) - line.astype(np.float32)[None, :] - np.float32(1.5 * ragged))
    return Layer(radiance, np.clip(inside + 0.5, 0.0, 1.0).astype(np.float32), open=False)


def _slopes(rng: np.random.Generator, canvas: Canvas, sun: float, near: float) -> Field:
    """Spurs and gullies in the sun: a relief of ridged heights, with vegetation in patches."""
    size = canvas.unit * rng.uniform(0.15, 0.4) * (0.4 + 0.6 * near)
    spurs = -np.abs(fractal(rng, canvas.shape, 3.4, size, smallest=size / 40, stretch=1.8, angle=np.pi / 2))
    spurs = warp(spurs, size * 0.12 * fractal(rng, canvas.shape, 4.0, size), 0.0)
    lit = np.clip(relief(spurs, sun, 0.0025 * canvas.unit), -2.5, 2.5)
    wide = np.clip(relief(spurs, sun, 0.015 * canvas.unit), -2.5, 2.5)
    growth = fractal(rng, canvas.shape, 2.2, size * 0.5)
    strength = log_uniform(rng, 0.04, 0.22)
    return (strength * (0.4 * lit + 0.6 * wide) + rng.uniform(0.02, 0.12) * growth).astype(np.float32)


def _foliage(rng: np.random.Generator, canvas: Canvas, warmth: float) -> Field:
    """Crowns beside and before each other, warm where the sun or the ground reaches them."""
    size = canvas.unit * log_uniform(rng, 0.02, 0.1)
    crowns = billow(rng, canvas.shape, size, 5)
    lit = np.clip(relief(crowns, rng.normal(np.pi / 2, 0.5), 0.003 * canvas.unit), -2.5, 2.5)
    leaves = fractal(rng, canvas.shape, 1.6, size * 0.5)
    gaps = smoothstep(0.35, 0.6, crowns)
    patch = fractal(rng, canvas.shape, 3.0, canvas.unit * 0.3)
    result = warmth * (0.75 + 0.2 * gaps + 0.05 * patch) + warmth * rng.uniform(0.03, 0.09) * lit
    return (result + warmth * rng.uniform(0.02, 0.06) * leaves).astype(np.float32)


def _trunks(rng: np.random.Generator, canvas: Canvas, warmth: float) -> Field:
    """Stems and bare branches: upright streaks."""
    size = canvas.unit * log_uniform(rng, 0.02, 0.06)
    stems = fractal(rng, canvas.shape, 2.4, size, stretch=rng.uniform(4, 14), angle=np.pi / 2)
    twigs = fractal(rng, canvas.shape, 1.8, size * 0.4, stretch=2.0, angle=np.pi / 2)
    return (warmth * (1.0 + rng.uniform(0.06, 0.2) * stems + rng.uniform(0.02, 0.1) * twigs)).astype(np.float32)


def _nearness(canvas: Canvas, horizon: float) -> Field:
    """How near flat ground is at each row: 0 at the horizon, 1 a frame's height below it; float32 [H, 1]."""
    return np.clip((_y(canvas) - np.float32(horizon)) / np.float32(canvas.unit), 0.0, 2.0)


def _grains(rng: np.random.Generator, canvas: Canvas, grain: float, stretch: float, slope: float) -> list[Field]:
    """One texture at grains that double, for `by_depth`."""
    return [
        fractal(rng, canvas.shape, slope, grain * 2**level, smallest=0.5, stretch=stretch, angle=rng.normal(0, 0.04))
        for level in range(4)
    ]


def _ground(rng: np.random.Generator, canvas: Canvas, warmth: float, horizon: float) -> Field:
    """Grass, soil and stones on a plain that reaches the horizon."""
    depth = _nearness(canvas, horizon)
    fine = by_depth(_grains(rng, canvas, canvas.unit * 0.008, rng.uniform(1.2, 2.5), 2.2), 1 + 8 * depth)
    coarse = by_depth(_grains(rng, canvas, canvas.unit * 0.06, rng.uniform(1.5, 5), 3.4), 1 + 8 * depth)
    fall = rng.uniform(-0.3, 0.3) * np.sqrt(depth)
    texture = rng.uniform(0.02, 0.1) * fine + rng.uniform(0.02, 0.14) * coarse
    return (warmth * (0.9 + fall + texture)).astype(np.float32)


def _patchwork(rng: np.random.Generator, canvas: Canvas, horizon: float) -> Field:
    """Fields of even temperature with crooked borders, foreshortened towards the horizon; deviation 1."""
    depth = np.maximum(_nearness(canvas, horizon), 0.02)
    x = (np.arange(canvas.width)[None, :] / canvas.width - rng.uniform(0.2, 0.8)) / (0.3 + depth)
    z = 1.0 / (0.3 + depth) + 0.0 * x
    turn = rng.uniform(-0.8, 0.8)
    bend = 0.08 * fractal(rng, canvas.shape, 5.0, canvas.unit)
    u = (x * np.cos(turn) - z * np.sin(turn)) * rng.uniform(1.5, 5) + bend
    v = (x * np.sin(turn) + z * np.cos(turn)) * rng.uniform(1.5, 5) + bend
    table = rng.standard_normal((64, 64)).astype(np.float32)
    patch = table[np.floor(u).astype(int) % 64, (np.floor(v + 0.37 * np.floor(u))).astype(int) % 64]
    return normalise(blur(patch, 0.002 * canvas.unit))


def _track(rng: np.random.Generator, canvas: Canvas, horizon: float) -> Field:
    """A road or a path, wider where it is nearer; 0 to 1."""
    depth = _nearness(canvas, horizon)
    y = _y(canvas)
    course = rng.uniform(0, 1) * canvas.width + rng.uniform(-1.5, 1.5) * (y - canvas.height / 2)
    course = course + canvas.unit * 0.08 * profile(rng, canvas.height, 3.6, canvas.unit)[:, None]
    half = canvas.unit * rng.uniform(0.004, 0.02) * (0.2 + depth)
    distance = np.abs(np.arange(canvas.width)[None, :] - course)
    return np.clip(1.0 + half - distance, 0.0, 1.0).astype(np.float32) * stretch01(
        1.0 + 0.1 * fractal(rng, canvas.shape, 2.4, canvas.unit * 0.1)
    )


def foliage_belt(rng: np.random.Generator, canvas: Canvas, warmth: float, foot: float) -> Layer:
    """Trees along the foot of a town: crowns up to `foot` (row number) and a little above it, in groups."""
    tall = canvas.unit * rng.uniform(0.02, 0.15)
    groups = smoothstep(-0.5, 1.0, profile(rng, canvas.width, 2.6, canvas.unit * 0.5) + np.float32(rng.normal(0, 1)))
    line = foot + canvas.unit * 0.06 - tall * 2.0 * groups
    return _below(canvas, _foliage(rng, canvas, warmth), line, tall * 0.3, rng)
