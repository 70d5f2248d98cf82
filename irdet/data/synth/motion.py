"""Motion: the camera's over the canvas, the targets' through the scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Places over frames: float64 [frames, 2], x and y in px.
Path = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A camera that pans to and fro over its margin and shakes. Its place is a function of the frame's number.

    Attributes:
        reach: How far it may go from the middle of the canvas, px.
        pan: Speed of the pan, px per frame.
        shake: Standard deviation of the shake, px.
        seed: Phases and periods, 12 numbers in [0, 1).
    """

    reach: float
    pan: float
    shake: float
    seed: tuple[float, ...]

    def path(self, frames: int) -> Path:
        """Returns its places at frames 0 to `frames` - 1, from the middle of the canvas; never beyond `reach`."""
        t = np.arange(frames)[:, None]
        phase, tempo = np.array(self.seed[:6]), np.array(self.seed[6:12])
        wide = 0.8 * self.reach
        rate = self.pan / max(wide, 1e-9) * np.array([1.0, 0.25])
        place = wide * np.array([1.0, 0.6]) * np.sin(2 * np.pi * phase[:2] + rate * t)
        # Slow sway, shiver of the mount and wind between them: three waves each way.
        periods = np.array([3.0, 9.0, 40.0]) * (0.7 + 0.6 * tempo.reshape(2, 3))
        waves = np.sin(2 * np.pi * (t[:, :, None] / periods + np.array(self.seed[2:8]).reshape(2, 3)))
        place += self.shake * waves @ np.array([0.5, 0.7, 1.1])
        return np.clip(place, -self.reach, self.reach)


def make_camera(rng: np.random.Generator, reach: float, pan: float, shake: float) -> Camera:
    """Makes a camera with random phases."""
    return Camera(reach, pan, shake, tuple(float(value) for value in rng.random(12)))


def target_path(
    rng: np.random.Generator, frames: int, when: int, place: tuple[float, float], speed: float, manoeuvring: bool
) -> Path:
    """The path of a target that is at `place` in frame `when`.

    Args:
        rng: Source of randomness.
        frames: Number of frames.
        when: Frame in which it is at `place`.
        place: x and y, px.
        speed: px per frame.
        manoeuvring: It turns to and fro; else it keeps speed and direction.

    Returns:
        Places in frames 0 to `frames` (one more than there are, for the velocity in the last).
    """
    heading = rng.choice([0.0, np.pi]) + rng.normal(0, 0.5)  # most fly across the frame rather than up and down
    turn, period, phase = rng.uniform(0.3, 1.2), rng.uniform(30, 120), rng.uniform(0, 2 * np.pi)
    t = np.arange(frames + 1)
    angle = np.full(frames + 1, heading)
    if manoeuvring:
        angle = angle + turn * np.sin(2 * np.pi * t / period + phase)
    steps = speed * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(steps[:-1], axis=0)])
    return np.asarray(path - path[when] + np.array(place))
