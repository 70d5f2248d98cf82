"""The kinds of background, by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from irdet.data.synth.buildings import buildings
from irdet.data.synth.canvas import Canvas, Layer
from irdet.data.synth.land import ground, ridge, sea, trees
from irdet.data.synth.sky import SKIES

#: Each paints a background on a canvas, the first layer at the back.
KINDS: dict[str, Callable[[np.random.Generator, Canvas], tuple[Layer, ...]]] = {
    **SKIES,
    "sea": sea,
    "ridge": ridge,
    "trees": trees,
    "ground": ground,
    "buildings": buildings,
}
