"""What stands between the scene and the counts: optics, tone curve, local contrast, gain and level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from irdet.data.synth.canvas import Canvas, Field, Layer, compose, openness
from irdet.data.synth.fields import blur, log_uniform

#: Knots of the tone curve.
KNOTS = 65

#: Highest count: of 8-bit display output, and of 14-bit raw output in uint16.
TOPS = {8: 255, 16: 16383}

#: A scene is a landscape, with hot ground beside cold sky, where between these shares of it are open.
OPEN_SHARES = (0.03, 0.97)


@dataclass(frozen=True, eq=False)
class Exposed:
    """A background in counts.

    Attributes:
        layers: The layers, the first at the back.
        halo: float32 [H, W] to add to them once they are composed; None where the camera does nothing of the sort.
    """

    layers: tuple[Layer, ...]
    halo: Field | None


def expose(rng: np.random.Generator, layers: Sequence[Layer], canvas: Canvas, bits: int, psf: float) -> Exposed:
    """Turns radiance into the counts of a camera.

    8-bit output has what cameras put between sensor and screen: a tone curve between linear and equalised, which
    gives sky and hot ground their shares of the grey levels, often a local contrast enhancement, which leaves dark
    halos around what is hot, and a gain at which bright clouds or roofs may saturate. Raw output is linear.

    Args:
        rng: Source of randomness.
        layers: The background, the first layer at the back.
        canvas: What it is painted on.
        bits: 8, or 16 for raw output of 14 bits.
        psf: Standard deviation of the optics' blur, px.

    Returns:
        The background in counts; not yet clipped.
    """
    layers = tuple(_blurred(layer, psf) for layer in layers)
    landscape = OPEN_SHARES[0] < float(openness(layers).mean()) < OPEN_SHARES[1]
    equalised = rng.uniform(0.0, 0.8) if landscape else rng.uniform(0.0, 0.4)
    strength = rng.choice([0.0, rng.uniform(0.2, 0.8)])
    reach = canvas.unit * log_uniform(rng, 0.03, 0.15)
    halo: Field | None = None
    if bits == 8:
        layers = _toned(layers, equalised)
        if strength:
            low = blur(compose(layers), reach)
            halo = np.float32(strength) * (np.float32(low.mean()) - low)
    scene = compose(layers) if halo is None else compose(layers) + halo
    if landscape:
        contrast, level = log_uniform(rng, 18.0, 85.0), rng.uniform(60.0, 120.0)
    else:
        contrast, level = log_uniform(rng, 3.0, 65.0), rng.uniform(50.0, 180.0)
    if bits == 16:
        contrast, level = contrast * log_uniform(rng, 8.0, 50.0), rng.uniform(3000.0, 11000.0)
    gain = np.float32(contrast / max(float(scene.std()), 1e-6))
    offset = np.float32(level) - gain * np.float32(scene.mean())
    return Exposed(
        tuple(replace(layer, radiance=gain * layer.radiance + offset) for layer in layers),
        None if halo is None else gain * halo,
    )


def _blurred(layer: Layer, psf: float) -> Layer:
    """Blurs a layer; radiance that its cover hides bleeds into nothing."""
    if layer.cover is None:
        return replace(layer, radiance=blur(layer.radiance, psf))
    cover = blur(layer.cover, psf)
    shown = blur(layer.radiance * layer.cover, psf) / np.maximum(cover, np.float32(1e-4))
    return replace(layer, radiance=shown, cover=cover)


def _toned(layers: tuple[Layer, ...], equalised: float) -> tuple[Layer, ...]:
    """Bends radiance towards an even histogram: 0 leaves it linear, 1 equalises."""
    scene = compose(layers)
    share = np.linspace(0.0, 1.0, KNOTS)
    knots = np.quantile(scene[::2, ::2], share)
    bent = (1 - equalised) * knots + equalised * (knots[0] + share * (knots[-1] - knots[0]))

    def tone(radiance: Field) -> NDArray[np.float32]:
        return np.interp(radiance, knots, bent).astype(np.float32)

    return tuple(replace(layer, radiance=tone(layer.radiance)) for layer in layers)
