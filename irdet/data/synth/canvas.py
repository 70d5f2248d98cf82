"""What backgrounds are made of: a canvas larger than the frame, and layers that are laid over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A float32 image [H, W].
Field = NDArray[np.float32]


@dataclass(frozen=True)
class Canvas:
    """The area a background is painted on: the frame and a margin for the camera to move in.

    Attributes:
        height: Height of the canvas, px.
        width: Width of the canvas, px.
        unit: Height of the frame, px. Sizes in a scene are shares of it, so that scenes look alike at every size.
    """

    height: int
    width: int
    unit: float

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.height, self.width

    @property
    def rows(self) -> Field:
        """Row numbers, float32 [H, 1], from 0 at the top to 1 at the bottom."""
        return np.linspace(0.0, 1.0, self.height, dtype=np.float32)[:, None]

    @property
    def columns(self) -> Field:
        """Column numbers, float32 [1, W], from 0 at the left to 1 at the right."""
        return np.linspace(0.0, 1.0, self.width, dtype=np.float32)[None, :]


@dataclass(frozen=True, eq=False)
class Layer:
    """One sheet of a background.

    Radiance is relative: 0 is clear sky, 1 a thick cloud, about 2 sunlit ground.

    Attributes:
        radiance: float32 [H, W].
        cover: float32 [H, W] in [0, 1], how much it hides what lies behind; None for all of it.
        drift: Its own motion in the scene, px per frame (x, y).
        open: Targets may be seen before it as before the sky. Land is not open.
    """

    radiance: Field
    cover: Field | None = None
    drift: tuple[float, float] = (0.0, 0.0)
    open: bool = True


def compose(layers: tuple[Layer, ...]) -> Field:
    """Lays the layers over each other, the first at the back.

    Returns:
        float32 [H, W].
    """
    result = layers[0].radiance.copy()
    for layer in layers[1:]:
        assert layer.cover is not None
        result += layer.cover * (layer.radiance - result)
    return result


def merge(layers: Sequence[Layer]) -> Layer:
    """Makes one layer of several that move alike, the first at the back; drift and openness are the last one's."""
    last = layers[-1]
    radiance = np.zeros_like(last.radiance)
    cover = np.zeros_like(last.radiance)
    for layer in layers:
        share = np.float32(1.0) if layer.cover is None else layer.cover
        radiance += share * (layer.radiance - radiance)  # times its cover, until the end
        cover += share * (1.0 - cover)
    return Layer(radiance / np.maximum(cover, np.float32(1e-3)), cover, last.drift, last.open)


def openness(layers: tuple[Layer, ...]) -> Field:
    """Returns how much of each pixel is sky or sea, float32 [H, W] in [0, 1]."""
    result = np.ones_like(layers[0].radiance)
    for layer in layers:
        if layer.cover is not None:
            result += layer.cover * (np.float32(layer.open) - result)
        elif not layer.open:
            result[:] = 0.0
    return result
