"""Towns: blocks with windows, roofs and masts, cranes and wires, before a sky."""

from __future__ import annotations

import cv2
import numpy as np

from irdet.data.synth.canvas import Canvas, Field, Layer, merge
from irdet.data.synth.fields import fractal, log_uniform, profile
from irdet.data.synth.land import foliage_belt
from irdet.data.synth.sky import any_sky

#: The town is drawn this many times finer than the canvas, so that edges fall between pixels.
FINE = 2


def buildings(rng: np.random.Generator, canvas: Canvas) -> tuple[Layer, ...]:
    """Rows of blocks behind each other, the far ones pale with haze; masts, a crane, wires; trees in front."""
    street = rng.uniform(0.75, 1.1) * canvas.height
    warmth = rng.uniform(1.0, 2.2)
    land: list[Layer] = []
    if rng.random() < 0.4:
        crest = street - canvas.unit * (rng.uniform(0.1, 0.4) + 0.05 * profile(rng, canvas.width, 2.4, canvas.unit))
        inside = np.arange(canvas.height, dtype=np.float32)[:, None] - crest[None, :]
        hills = np.float32(rng.uniform(0.4, 0.7)) + 0.03 * fractal(rng, canvas.shape, 3.0, canvas.unit * 0.3)
        land.append(Layer(hills, np.clip(inside, 0, 1).astype(np.float32)))
    for near in sorted(rng.uniform(0.15, 1.0, int(rng.integers(2, 5)))):
        land.append(_row(rng, canvas, float(near), street, warmth))
    land.append(foliage_belt(rng, canvas, warmth * rng.uniform(0.5, 1.0), street))
    last = merge(land)
    return (*any_sky(rng, canvas), Layer(last.radiance, last.cover, open=False))


def _row(rng: np.random.Generator, canvas: Canvas, near: float, street: float, warmth: float) -> Layer:
    """Blocks at one distance: `near` is 0 far away, 1 close by."""
    height, width = canvas.height * FINE, canvas.width * FINE
    unit = canvas.unit * FINE
    radiance = np.full((height, width), np.float32(warmth), np.float32)
    cover = np.zeros((height, width), np.float32)
    base = int((street * FINE) - unit * 0.12 * (1 - near) + unit * 0.1 * near)
    clear_air = 0.35 + 0.65 * near
    x = rng.uniform(-0.2, 0.3) * unit
    while x < width:
        wide = unit * log_uniform(rng, 0.06, 0.3) * (0.35 + near)
        tall = unit * log_uniform(rng, 0.06, 0.65) * (0.45 + 0.8 * near)
        _block(rng, radiance, cover, (int(x), base - int(tall), int(wide), int(tall)), unit * (0.3 + near), warmth)
        x += wide + unit * rng.choice([0.0, log_uniform(rng, 0.01, 0.6)], p=[0.3, 0.7]) * (0.4 + near)
    if rng.random() < 0.35:
        _crane(rng, radiance, cover, base, unit * (0.3 + near), warmth)
    if near > 0.5 and rng.random() < 0.35:
        _wires(rng, radiance, cover, unit, warmth)
    cover[max(base, 0) :] = 1.0
    size = (canvas.width, canvas.height)
    radiance = cv2.resize(radiance, size, interpolation=cv2.INTER_AREA)
    radiance += np.float32(0.03 * warmth) * fractal(rng, canvas.shape, 2.4, canvas.unit * 0.3)
    hazy = 0.5 + clear_air * (radiance - 0.5)
    return Layer(hazy.astype(np.float32), cv2.resize(cover, size, interpolation=cv2.INTER_AREA), open=False)


def _block(
    rng: np.random.Generator, radiance: Field, cover: Field, box: tuple[int, int, int, int], unit: float, warmth: float
) -> None:
    """Draws one building with its roof."""
    x, y, wide, tall = box
    if wide < 6 or tall < 6:
        return
    _paste(radiance, cover, x, y, _facade(rng, tall, wide, unit, warmth))
    edge = max(1, int(0.006 * unit))
    if rng.random() < 0.6:  # the parapet, warmer or colder than the wall
        lip = np.full((edge, wide + 2 * edge), warmth * rng.uniform(0.7, 1.5), np.float32)
        _paste(radiance, cover, x - edge, y - edge, lip)
    for _ in range(int(rng.integers(0, 4))):  # penthouses, lifts, tanks
        w, h = int(wide * rng.uniform(0.08, 0.4)), int(unit * rng.uniform(0.01, 0.05))
        if w > 1 and h > 1:
            hut = np.full((h, w), warmth * rng.uniform(0.7, 1.3), np.float32)
            _paste(radiance, cover, x + int(rng.uniform(0, max(1, wide - w))), y - h, hut)
    for _ in range(int(rng.choice([0, 0, 1, 1, 2, 3]))):
        foot = (x + int(rng.uniform(0, wide)), y)
        top = (foot[0], y - int(unit * log_uniform(rng, 0.02, 0.14)))
        _line(radiance, cover, foot, top, warmth * rng.uniform(0.6, 1.4), max(1, int(0.002 * unit)))


def _facade(rng: np.random.Generator, tall: int, wide: int, unit: float, warmth: float) -> Field:
    """A wall: storeys of windows, slabs between them, balconies, one face lit and one in shade."""
    y, x = np.arange(tall)[:, None], np.arange(wide)[None, :]
    wall = warmth * rng.uniform(0.65, 1.25)
    face = np.full((tall, wide), wall, np.float32)
    face *= (1 + rng.uniform(-0.2, 0.2) * (y / tall - 0.5)).astype(np.float32)
    storey = max(4.0, unit * rng.uniform(0.018, 0.035))
    bay = storey * rng.uniform(0.6, 2.2)
    high, broad = rng.uniform(0.35, 0.7), rng.uniform(0.3, 0.8)
    row, column = (y / storey).astype(int), (x / bay).astype(int)
    window = ((y / storey) % 1 < high) & ((x / bay) % 1 < broad)
    # Glass mirrors the cold sky; some windows are open or lit by a heater.
    panes = wall * rng.normal(rng.uniform(0.5, 0.95), rng.uniform(0.02, 0.15), (row.max() + 1, column.max() + 1))
    warm = rng.random(panes.shape) < rng.choice([0.0, 0.02, 0.1])
    panes[warm] = wall * rng.uniform(1.1, 1.5)
    if rng.random() < 0.85:
        face = np.where(window, panes[row, column], face)
    if rng.random() < 0.4:  # slabs of the storeys, warm bridges
        face = np.where((y / storey) % 1 > 0.88, wall * rng.uniform(1.02, 1.3), face)
    if rng.random() < 0.4:  # bays of balconies
        period = int(rng.integers(2, 6))
        face = np.where(column % period == 0, face * rng.uniform(0.7, 1.2), face)
    if rng.random() < 0.5:  # the corner between two faces
        corner = rng.uniform(0.15, 0.85) * wide
        face = face * np.where(x < corner, rng.uniform(0.6, 0.95), 1.0)
    return face.astype(np.float32)


def _crane(rng: np.random.Generator, radiance: Field, cover: Field, base: int, unit: float, warmth: float) -> None:
    """A tower crane: mast, jib, counter-jib, stays."""
    x = int(rng.uniform(0.1, 0.9) * radiance.shape[1])
    top = base - int(unit * rng.uniform(0.5, 0.9))
    reach, back = int(unit * rng.uniform(0.2, 0.5)) * int(rng.choice([-1, 1])), 0.3
    level, thick = warmth * rng.uniform(0.8, 1.2), max(1, int(0.004 * unit))
    tip = top - int(0.05 * unit)
    _line(radiance, cover, (x, base), (x, tip), level, thick)
    _line(radiance, cover, (x - int(back * reach), top), (x + reach, top), level, thick)
    _line(radiance, cover, (x, tip), (x + int(0.8 * reach), top), level, 1)
    _line(radiance, cover, (x, tip), (x - int(back * reach), top), level, 1)


def _wires(rng: np.random.Generator, radiance: Field, cover: Field, unit: float, warmth: float) -> None:
    """Wires that hang across the frame."""
    width = radiance.shape[1]
    x = np.linspace(-0.1 * width, 1.1 * width, 60)
    y = rng.uniform(0.2, 0.7) * unit + rng.uniform(-0.2, 0.2) * (x - width / 2)
    sag = rng.uniform(0.02, 0.12) * unit * (1 - ((x - rng.uniform(0.2, 0.8) * width) / (0.6 * width)) ** 2)
    for number in range(int(rng.integers(1, 4))):
        curve = np.stack([x, y + sag + number * 0.03 * unit], axis=1).astype(np.int32)
        for image, value in ((radiance, warmth * 0.8), (cover, 1.0)):
            cv2.polylines(image, [curve], False, float(value), 1, cv2.LINE_AA)


def _line(
    radiance: Field, cover: Field, start: tuple[int, int], end: tuple[int, int], level: float, thick: int
) -> None:
    cv2.line(radiance, start, end, level, thick)
    cv2.line(cover, start, end, 1.0, thick)


def _paste(radiance: Field, cover: Field, x: int, y: int, patch: Field) -> None:
    """Puts a patch at a place; what lies outside is cut off."""
    height, width = radiance.shape
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + patch.shape[1], width), min(y + patch.shape[0], height)
    if x0 < x1 and y0 < y1:
        radiance[y0:y1, x0:x1] = patch[y0 - y : y1 - y, x0 - x : x1 - x]
        cover[y0:y1, x0:x1] = 1.0
