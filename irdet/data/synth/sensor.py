"""The detector array: temporal noise, fixed pattern, hot and cold pixels, vignetting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irdet.data.synth.canvas import Field
from irdet.data.synth.fields import normalise

#: Shares of the fixed pattern's deviation in columns, rows and single pixels (their squares sum to 1).
COLUMNS, ROWS, PIXELS = 0.7, 0.35, 0.62


@dataclass(frozen=True, eq=False)
class Sensor:
    """What one camera adds to every frame.

    Attributes:
        noise: Standard deviation of the temporal noise, counts.
        gain: float32 [H, W], response of the pixels to what differs from `level` (PRNU), about 1.
        level: Count at which the camera was calibrated.
        offset: float32 [H, W], counts: stripes, single pixels (DSNU) and vignetting.
        stuck: bool [H, W], pixels that are always hot or cold.
        stuck_counts: float32, their counts, in the order of `stuck`'s pixels.
    """

    noise: float
    gain: Field
    level: float
    offset: Field
    stuck: NDArray[np.bool_]
    stuck_counts: NDArray[np.float32]

    def expose(self, counts: Field, rng: np.random.Generator) -> Field:
        """Returns what the array reads, float32 [H, W], not yet rounded; `rng` brings this frame's noise."""
        read = (counts - np.float32(self.level)) * self.gain
        read += self.offset + np.float32(self.level)
        if self.noise > 0:
            read += np.float32(self.noise) * rng.standard_normal(counts.shape, dtype=np.float32)
        read[self.stuck] = self.stuck_counts
        return read


def make_sensor(
    rng: np.random.Generator,
    shape: tuple[int, int],
    top: int,
    scene: tuple[float, float],
    *,
    noise: float,
    fixed_pattern: float,
    vignetting: float,
    hot_pixels: int,
) -> Sensor:
    """Makes a camera.

    Args:
        rng: Source of randomness.
        shape: Height and width, px.
        top: Highest count.
        scene: Mean and standard deviation of what it looks at, counts: stuck pixels stand out of that.
        noise: Standard deviation of the temporal noise, counts.
        fixed_pattern: Standard deviation of the fixed pattern at the level of calibration, counts.
        vignetting: Counts by which the corners fall (or, of uncooled cameras, rise) against the centre.
        hot_pixels: Number of stuck pixels; most are hot, some cold.
    """
    height, width = shape
    stripes = COLUMNS * rng.standard_normal((1, width)) + ROWS * rng.standard_normal((height, 1))
    pixels = PIXELS * rng.standard_normal(shape)
    pattern = normalise((stripes + pixels).astype(np.float32))
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    fall = ((x - rng.normal(0, 0.1)) ** 2 + (y - rng.normal(0, 0.1)) ** 2) / 2
    offset = fixed_pattern * pattern - vignetting * rng.choice([1.0, -1.0], p=[0.7, 0.3]) * (fall - fall.mean())
    # The response errors are as strong as the offsets half the range away from the level of calibration.
    gain = 1.0 + fixed_pattern / (0.5 * top) * normalise(rng.standard_normal(shape).astype(np.float32))
    stuck = np.zeros(shape, bool)
    places = rng.choice(height * width, size=min(hot_pixels, height * width), replace=False)
    stuck.flat[places] = True
    # Cameras replace pixels that stand at the end of their range; those that slip through stand out of the scene.
    away = rng.uniform(2.0, 8.0, len(places)) * rng.choice([1.0, -1.0], len(places), p=[0.8, 0.2])
    counts = np.clip(scene[0] + away * (scene[1] + 10.0 * noise), 0.0, top)
    return Sensor(noise, gain.astype(np.float32), top / 2, offset.astype(np.float32), stuck, counts.astype(np.float32))
