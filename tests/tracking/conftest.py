"""Sequences of targets with their truth, made without images: what a detector would tell of objects on known paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.core.targets import Target
from irdet.tracking import Track, Tracker, TrackerOptions

pytest.importorskip("scipy")

#: Width and height of the frames, px.
SIZE = (320, 256)

Path = NDArray[np.float64]


def target(x: float, y: float, area: int = 9, score: float = 1.0, scr: float = 10.0) -> Target:
    """A target of which only these fields are of interest."""
    return Target(float(x), float(y), (round(x) - 1, round(y) - 1, 3, 3), area, score, score, 200, 60, 2, 100, scr)


@dataclass
class Played:
    """What a tracker made of a sequence.

    Attributes:
        tracks: Its tracks after each frame.
        truth: Place of each object in each frame in which it is there.
        targets: Number of targets in all frames.
        false: Number of those that are no object.
        alarms: Numbers of confirmed tracks that were never near an object.
    """

    tracks: list[list[Track]] = field(default_factory=list)
    truth: list[dict[int, NDArray[np.float64]]] = field(default_factory=list)
    targets: int = 0
    false: int = 0

    @property
    def alarms(self) -> set[int]:
        near, all_ = set(), set()
        for tracks, truth in zip(self.tracks, self.truth, strict=True):
            for track in tracks:
                if track.confirmed:
                    all_.add(track.id)
                    if any(np.hypot(track.x - x, track.y - y) < 6 for x, y in truth.values()):
                        near.add(track.id)
        return all_ - near

    def followed(self, thing: int, within: float = 4.0) -> list[int | None]:
        """The confirmed track nearest to an object in each frame in which it is there; None where none is near."""
        found: list[int | None] = []
        for tracks, truth in zip(self.tracks, self.truth, strict=True):
            if thing in truth:
                x, y = truth[thing]
                near = [(np.hypot(track.x - x, track.y - y), track.id) for track in tracks if track.confirmed]
                distance, number = min(near, default=(np.inf, -1))
                found.append(number if distance < within else None)
        return found


@pytest.fixture(scope="session")
def make_target() -> Callable[..., Target]:
    return target


@pytest.fixture(scope="session")
def play() -> Callable[..., Played]:
    def run(
        paths: Sequence[tuple[int, Path]],
        seed: int = 0,
        *,
        frames: int | None = None,
        misses: float = 0.2,
        clutter: float = 5.0,
        noise: float = 0.3,
        merge: float = 3.0,
        shake: NDArray[np.float64] | None = None,
        options: TrackerOptions | None = None,
    ) -> Played:
        """Tracks objects that begin at a frame and go along a path.

        Args:
            paths: First frame and places [n, 2] of each object; none outside the frame is seen.
            seed: Of everything random.
            frames: Number of frames; as many as the paths have by default.
            misses: Share of the frames in which an object is not found.
            clutter: False targets per frame, anywhere.
            noise: Standard deviation of the centroids, px.
            merge: Two objects closer than this are found as one, between them, px.
            shake: Place of the camera in each frame, px, told to the tracker as motion of the background.
            options: The tracker's.
        """
        rng = np.random.default_rng(seed)
        tracker, played = Tracker(options, SIZE), Played()
        count = frames or max(start + len(path) for start, path in paths)
        for index in range(count):
            there = {
                number: path[index - start]
                for number, (start, path) in enumerate(paths)
                if start <= index < start + len(path)
                and ((path[index - start] >= 0) & (path[index - start] < SIZE)).all()
            }
            found = [place for place in there.values() if rng.random() >= misses]
            if len(found) == 2 and np.hypot(*(found[0] - found[1])) < merge:
                found = [(found[0] + found[1]) / 2]
            targets = [target(*(place + rng.normal(0, noise, 2))) for place in found]
            false = [target(*(rng.random(2) * SIZE)) for _ in range(rng.poisson(clutter))]
            motion = None
            if shake is not None and index:
                motion = tuple(shake[index] - shake[index - 1])
            played.tracks.append(tracker.update([*false, *targets], index / 25, motion))
            played.truth.append(there)
            played.targets += len(targets) + len(false)
            played.false += len(false)
        return played

    return run
