"""Skies: clear ones, stratus, cumulus, cirrus with contrails."""

from __future__ import annotations

import cv2
import numpy as np

from irdet.data.synth.canvas import Canvas, Field, Layer, merge
from irdet.data.synth.fields import billow, blur, fractal, log_uniform, normalise, relief, smoothstep, warp


def clear(rng: np.random.Generator, canvas: Canvas) -> tuple[Layer, ...]:
    """A sky that grows warmer towards the horizon (a longer way through the air), with the faintest haze."""
    haze = fractal(rng, canvas.shape, slope=4.0, stretch=rng.uniform(1.5, 5), angle=rng.normal(0, 0.1))
    return (Layer(_gradient(rng, canvas) + np.float32(log_uniform(rng, 0.001, 0.03)) * haze),)


def clouds(rng: np.random.Generator, canvas: Canvas) -> tuple[Layer, ...]:
    """Sheets and shreds of cloud, thin and thick, with torn edges that the sun lights."""
    size = canvas.unit * log_uniform(rng, 0.6, 2.5)
    stretch, angle = log_uniform(rng, 1.0, 4.0), rng.normal(0, 0.35)
    sheet = fractal(rng, canvas.shape, rng.uniform(3.6, 4.4), size, stretch=stretch, angle=angle)
    sheet = _swirl(rng, sheet, size * rng.uniform(0.01, 0.05), size * 0.4)
    torn = fractal(
        rng, canvas.shape, rng.uniform(2.8, 3.4), size * 0.3, smallest=1.0, stretch=stretch**0.5, angle=angle
    )
    thick = sheet + np.float32(rng.uniform(0.1, 0.45)) * torn
    edge = log_uniform(rng, 0.3, 2.0)
    level = rng.uniform(-1.2, 0.7)
    cover = smoothstep(level - edge, level + edge, thick)
    depth = fractal(rng, canvas.shape, 3.6, size)
    body = 0.5 + 0.12 * thick + np.float32(rng.uniform(0.05, 0.25)) * depth
    body += np.float32(rng.uniform(0.0, 0.06)) * _lit(rng, thick, canvas)
    return (
        Layer(_gradient(rng, canvas)),
        Layer(body.astype(np.float32), cover * np.float32(rng.uniform(0.5, 1.0)), drift=_wind(rng)),
    )


def cumulus(rng: np.random.Generator, canvas: Canvas) -> tuple[Layer, ...]:
    """Heaped clouds with sharp bright tops and soft dark bases."""
    size = canvas.unit * log_uniform(rng, 0.4, 1.4)
    stretch = rng.uniform(1.2, 2.4)
    base = fractal(rng, canvas.shape, 3.8, size, stretch=stretch)
    heaps = billow(rng, canvas.shape, size * 0.4, octaves=6)
    fine = fractal(rng, canvas.shape, 2.8, size * 0.15, smallest=0.8)
    thick = base + np.float32(rng.uniform(0.8, 1.8)) * (heaps - np.float32(heaps.mean()))
    thick = thick + np.float32(rng.uniform(0.05, 0.2)) * fine
    level = rng.uniform(0.0, 1.0)
    # Tops are crisp, bases dissolve: the edge widens where the cloud lies above the pixel.
    above = warp(blur(base, size * 0.04), 0.0, -size * 0.12)
    soft = np.clip(log_uniform(rng, 0.2, 0.9) + 0.5 * (above - base), 0.15, 1.4).astype(np.float32)
    share = np.clip((thick - np.float32(level)) / soft, 0.0, 1.0)
    cover = share * share * (3 - 2 * share)
    # A veil of thin cloud about them.
    cover = np.maximum(cover, np.float32(rng.uniform(0.05, 0.35)) * smoothstep(level - 0.9, level + 0.5, thick))
    sun = rng.normal(np.pi / 2, 0.8)
    shade = 0.5 * relief(thick, sun, size * 0.012) + 0.7 * relief(thick, sun, size * 0.05)
    shade += relief(blur(cover, size * 0.03), sun, size * 0.08)
    body = (
        0.75
        + rng.uniform(0.06, 0.2) * np.clip(shade, -2.5, 2.5)
        + rng.uniform(-0.15, 0.15) * np.clip(thick - level, 0, 2)
    )
    body += 0.02 * fine
    return (
        Layer(_gradient(rng, canvas)),
        Layer(body.astype(np.float32), cover.astype(np.float32), drift=_wind(rng)),
    )


def cirrus(rng: np.random.Generator, canvas: Canvas) -> tuple[Layer, ...]:
    """Fibres of ice cloud along the high wind, often crossed by contrails."""
    angle = rng.normal(0, 0.4)
    size = canvas.unit * log_uniform(rng, 0.5, 1.5)
    fibres = fractal(rng, canvas.shape, rng.uniform(3.0, 3.6), size, 1.5, stretch=log_uniform(rng, 3, 12), angle=angle)
    fibres = _swirl(rng, fibres, size * rng.uniform(0.01, 0.04), size)
    patches = fractal(rng, canvas.shape, 3.6, canvas.unit * 0.9)
    level = rng.uniform(-0.2, 0.8)
    cover = smoothstep(level - 1.0, level + 2.2, fibres + patches)
    sheet = Layer(0.75 + 0.15 * fibres, cover * np.float32(rng.uniform(0.4, 0.9)), drift=_wind(rng))
    trails = [_contrail(rng, canvas) for _ in range(int(rng.choice([0, 0, 1, 1, 2, 3])))]
    return Layer(_gradient(rng, canvas)), merge([*trails, sheet])


SKIES = {"clear": clear, "clouds": clouds, "cumulus": cumulus, "cirrus": cirrus}


def any_sky(rng: np.random.Generator, canvas: Canvas) -> tuple[Layer, ...]:
    """The sky over a landscape: one of the kinds."""
    return SKIES[str(rng.choice(list(SKIES)))](rng, canvas)


def _gradient(rng: np.random.Generator, canvas: Canvas) -> Field:
    """Clear sky, warmer towards the horizon, tilted a little."""
    tilt = np.float32(rng.normal(0, 0.12)) * (canvas.columns - 0.5)
    path = np.clip(canvas.rows + tilt, 0.0, 1.2)
    return (rng.uniform(0.1, 0.5) * path ** rng.uniform(0.8, 3.0)).astype(np.float32)


def _wind(rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.normal(0, 0.06)), float(rng.normal(0, 0.01))


def _swirl(rng: np.random.Generator, field: Field, reach: float, size: float) -> Field:
    """Curls a field by random displacements of about `reach` px that vary over `size` px."""
    dx, dy = (fractal(rng, field.shape, 5.0, size, smallest=size / 15) for _ in range(2))
    return warp(field, dx * np.float32(reach), dy * np.float32(reach))


def _lit(rng: np.random.Generator, thick: Field, canvas: Canvas) -> Field:
    """Edges towards the sun, bright; those away from it, dark."""
    return np.clip(relief(thick, rng.uniform(0, 2 * np.pi), 0.008 * canvas.unit), -2.5, 2.5)


def _contrail(rng: np.random.Generator, canvas: Canvas) -> Layer:
    """A trail that is straight, sharp where young, wide and broken where old."""
    height, width = canvas.shape
    angle = rng.uniform(-1.2, 1.2)
    x0, y0 = rng.uniform(0.2, 0.8) * width, rng.uniform(0.1, 0.8) * height
    y, x = np.mgrid[:height, :width].astype(np.float32)
    along = (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)
    across = (y - y0) * np.cos(angle) - (x - x0) * np.sin(angle)
    wobble = cv2.GaussianBlur(rng.standard_normal((1, width + height)).astype(np.float32), (0, 0), canvas.unit * 0.04)
    place = np.clip(along + (width + height) / 2, 0, width + height - 1).astype(np.intp)
    across = across + normalise(wobble)[0][place] * canvas.unit * 0.003
    age = np.clip(0.5 + along / (1.5 * canvas.unit), 0.02, 1.2)
    spread = canvas.unit * rng.uniform(0.004, 0.02) * (0.3 + 1.5 * age)
    trail = np.exp(-0.5 * (across / spread) ** 2) / (0.6 + age)
    torn = fractal(rng, canvas.shape, 2.8, canvas.unit * 0.1)
    cover = trail * np.clip(0.8 + 0.35 * torn * age, 0.0, 1.0) * rng.uniform(0.3, 0.9)
    # Some end in the frame, where the aircraft is or where the air was too dry.
    cover *= smoothstep(-0.03, 0.03, (along / canvas.unit + rng.uniform(0.1, 1.0)).astype(np.float32))
    return Layer(np.full(canvas.shape, 0.9, np.float32), np.clip(cover, 0, 1).astype(np.float32))
