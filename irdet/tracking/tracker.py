"""Tracker: the targets of each frame become tracks with identities. Numpy over all tracks at once.

Each axis has a constant-velocity Kalman filter (white noise in the acceleration). Noise and motion are the same along
both axes, so one covariance of place and velocity serves for both: three numbers a track.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.core.extras import require
from irdet.core.targets import Target
from irdet.tracking.assignment import Floats, Indices, assign, near
from irdet.tracking.options import TrackerOptions

State = Literal["tentative", "confirmed", "coasted"]

#: The length of a frame is the median of so many intervals between updates.
INTERVALS = 15

#: So many intervals among them that are more than so many times as long are no frames that were lost, but come between
#: bursts, as of a network that hands on several frames at once.
BURSTS, BURST = 3, 4

#: A track that has got no target is dropped when it is this far outside the frame, px.
OUTSIDE = 1.0


@dataclass(frozen=True, eq=False, slots=True)
class Track:
    """One target through time, as it stands after a frame.

    Places are in pixels of that frame, also where the camera moves: then the velocity is the one over the background.

    Attributes:
        id: Its number, from 1; none is given twice.
        state: `"tentative"` until enough targets confirmed it; `"coasted"` in a frame in which a confirmed track got
            no target and its place is the prediction; else `"confirmed"`.
        x: Estimated place, px.
        y: Estimated place, px.
        vx: Estimated velocity, px/frame.
        vy: Estimated velocity, px/frame.
        variance: Variance of the place along each axis, its covariance with the velocity, and that of the velocity
            (px^2, px^2/frame, px^2/frame^2). The axes are independent of each other and alike.
        age: Frames since it began, that one included.
        hits: Frames in which it got a target.
        misses: Frames since the last one; 0 where `target` is of this frame.
        target: The last target that it got.
        trail: float64 [n, 2], its places in the last n frames in pixels of this one, oldest first; n is at most
            `TrackerOptions.history`.
        scr: float64 [n], SCR of its target in each of these frames, NaN where it got none.
    """

    id: int
    state: State
    x: float
    y: float
    vx: float
    vy: float
    variance: tuple[float, float, float]
    age: int
    hits: int
    misses: int
    target: Target
    trail: Floats
    scr: Floats

    @property
    def covariance(self) -> Floats:
        """float64 [4, 4]: covariance of (x, y, vx, vy)."""
        place, cross, velocity = self.variance
        return np.asarray(np.kron([[place, cross], [cross, velocity]], np.eye(2)), np.float64)

    @property
    def confirmed(self) -> bool:
        """Whether it was confirmed at some time: it is worth showing."""
        return self.state != "tentative"


class Tracker:
    """Follows targets from frame to frame.

    Each track is predicted at constant velocity; confirmed tracks choose first, then tentative ones: the pairs within
    the gate with the lowest Mahalanobis distances of all together. A target that no track takes begins a tentative
    one. The time that a frame takes is bounded (`TrackerOptions.max_targets`, `max_tracks`), and so is the memory.

        >>> tracker = Tracker()                                           # doctest: +SKIP
        >>> for detection in detections:                                    # doctest: +SKIP
        ...     tracks = tracker.update(detection.targets, detection.frame.time)

    Args:
        options: What it goes by.
        size: Width and height of the frames, px: tracks that leave it end. None where they are not known.

    Attributes:
        left_out: Targets that were not used because their frame had more than `max_targets`.

    Raises:
        MissingDependency: SciPy is not installed.
    """

    def __init__(self, options: TrackerOptions | None = None, size: tuple[int, int] | None = None) -> None:
        require("scipy", "track", "tracking")
        self.options = options or TrackerOptions()
        self.size = size
        self.left_out = 0
        self._next = 1
        self._kind = np.dtype(
            [
                ("id", np.int64),
                ("place", np.float64, 2),
                ("velocity", np.float64, 2),
                ("variance", np.float64, 3),
                ("confirmed", np.bool_),
                ("age", np.int64),
                ("hits", np.int64),
                ("misses", np.int64),
                ("unseen", np.float64),  # frames since its last target by the clock, whether there were updates or not
                ("target", np.object_),
                ("trail", np.float64, (self.options.history, 2)),
                ("scr", np.float64, self.options.history),
            ]
        )
        self.reset()

    def reset(self) -> None:
        """Ends all tracks, for another sequence. Numbers go on, so that none is given twice."""
        self._tracks = np.zeros(0, self._kind)
        self._time: float | None = None
        self._times: deque[float] = deque(maxlen=INTERVALS + 1)
        self._unit: float | None = None  # s in a frame
        self._slot = 0  # of this frame in the rings of trails and SCR

    def update(
        self, targets: Sequence[Target], time: float | None = None, motion: tuple[float, float] | None = None
    ) -> list[Track]:
        """Takes the targets of the next frame.

        A frame is the usual interval between updates, the median of the last 15, or their mean where frames arrive in
        bursts. Where frames were dropped, the time tells how many, and tracks are predicted over the gap;
        without times each update is one frame.

        Args:
            targets: What was found, in any order; their own times are not looked at.
            time: Time of the frame, s. May stand still, may not run backwards.
            motion: How far the background has moved in the image since the last update, x and y, px
                (`irdet.tracking.motion`); None where the camera stands still.

        Returns:
            All tracks that live, oldest first: also tentative ones and those that got no target in this frame.

        Raises:
            UsageError: The time runs backwards or is not finite (`reset` begins another sequence), or a target's
                place is not finite. Nothing has changed then.
        """
        options = self.options
        values = np.array([(one.x, one.y, one.area, one.scr) for one in targets], np.float64).reshape(-1, 4)
        if not np.isfinite(values[:, :2]).all():
            raise UsageError("a target's place is not finite: the tracker needs x and y in pixels")
        elapsed = self._elapsed(time)
        used = np.arange(len(targets))
        if len(targets) > options.max_targets:
            scores = np.array([one.score for one in targets])
            used = np.sort(np.argsort(-scores, kind="stable")[: options.max_targets])
            self.left_out += len(targets) - len(used)
        places = values[used, :2]
        noise = (options.noise + options.noise_per_size * np.sqrt(values[used, 2])) ** 2

        self._predict(elapsed, motion)
        hit, taken = self._associate(places, noise)
        self._slot = (self._slot + 1) % options.history
        self._correct(hit, places[taken], noise[taken])
        chosen = used[taken]
        tracks = self._tracks
        tracks["target"][hit] = _objects(targets, chosen)
        tracks["scr"][:, self._slot] = np.nan
        tracks["scr"][hit, self._slot] = values[chosen, 3]

        free = np.ones(len(used), np.bool_)
        free[taken] = False
        tracks = self._kept()
        born = np.flatnonzero(free)[: max(0, options.max_tracks - len(tracks))]
        if len(born):
            new = self._born(places[born], noise[born], _objects(targets, used[born]), values[used[born], 3])
            tracks = np.concatenate([tracks, new])
        self._tracks = tracks
        tracks["confirmed"] |= tracks["hits"] >= options.confirm
        tracks["trail"][:, self._slot] = tracks["place"]
        return self._told()

    def _elapsed(self, time: float | None) -> float:
        """Returns the frames since the last update, and takes note of the time."""
        if time is None:
            return 1.0
        if not math.isfinite(time):
            raise UsageError(f"time {time}: the tracker needs seconds, or None for frames without a clock")
        last, self._time = self._time, time
        if last is None:
            return 1.0
        if time < last:
            self._time = last
            raise UsageError(
                f"time runs backwards, from {last:g} to {time:g} s: give frames in order, or reset the tracker before "
                "another sequence"
            )
        if time > last:
            self._times.extend((time,) if self._times else (last, time))
            self._measure()
        return (time - last) / self._unit if self._unit else 1.0

    def _measure(self) -> None:
        """Measures how long a frame is, and brings velocities, which are in px per frame, to that unit."""
        intervals = np.diff(self._times)
        unit = statistics.median_low(intervals.tolist())
        if np.count_nonzero(intervals > BURST * unit) >= BURSTS:
            unit = float(intervals.mean())
        if self._unit is not None:
            factor = unit / self._unit
            self._tracks["velocity"] *= factor
            self._tracks["variance"][:, 1] *= factor
            self._tracks["variance"][:, 2] *= factor**2
        self._unit = unit

    def _predict(self, elapsed: float, motion: tuple[float, float] | None) -> None:
        """Moves all tracks on by so many frames; those that have been alone for too long end."""
        options = self.options
        self._tracks["unseen"] += elapsed
        tracks = self._tracks = self._tracks[self._tracks["unseen"] <= self._patience() + 1]
        tracks["place"] += elapsed * tracks["velocity"]
        if motion is not None:
            tracks["place"] += motion
            tracks["trail"] += motion
        place, cross, velocity = (tracks["variance"][:, k] for k in range(3))
        drift = options.acceleration**2 * elapsed
        place += elapsed * (2 * cross + elapsed * velocity) + drift * elapsed**2 / 3
        cross += elapsed * velocity + drift * elapsed / 2
        velocity += drift
        tracks["age"] += 1
        tracks["misses"] += 1

    def _associate(self, places: Floats, noise: Floats) -> tuple[Indices, Indices]:
        """Returns the tracks that get a target, and the targets that they get."""
        tracks, gate = self._tracks, self.options.gate
        free = np.ones(len(places), np.bool_)
        hit: list[Indices] = []
        taken: list[Indices] = []
        for stage in (tracks["confirmed"], ~tracks["confirmed"]):
            own, open_ = np.flatnonzero(stage), np.flatnonzero(free)
            if not len(own) or not len(open_):
                continue
            variance = tracks["variance"][own, 0]
            reach = np.minimum(gate * np.sqrt(variance + noise[open_].max()), self.options.reach)
            row, column = near(tracks["place"][own], places[open_], reach)
            spread = variance[row] + noise[open_[column]]
            square = ((tracks["place"][own[row]] - places[open_[column]]) ** 2).sum(axis=1)
            inside = square <= np.minimum(gate * gate * spread, self.options.reach**2)
            row, column, spread, square = row[inside], column[inside], spread[inside], square[inside]
            if not len(row):
                continue
            # -2 ln of the density of the target's place, up to a constant: a wide gate is no advantage.
            costs = square / spread + 2 * np.log(spread)
            row, column = assign(row, column, costs, gate * gate + 2 * math.log(spread.max()))
            hit.append(own[row])
            taken.append(open_[column])
            free[open_[column]] = False
        if not hit:
            return np.zeros(0, np.intp), np.zeros(0, np.intp)
        return np.concatenate(hit), np.concatenate(taken)

    def _correct(self, hit: Indices, places: Floats, noise: Floats) -> None:
        """Brings the tracks that got a target towards it."""
        tracks = self._tracks
        place, cross, velocity = tracks["variance"][hit].T
        spread = place + noise
        step = places - tracks["place"][hit]
        tracks["place"][hit] += (place / spread)[:, None] * step
        tracks["velocity"][hit] += (cross / spread)[:, None] * step
        rest = noise / spread
        tracks["variance"][hit] = np.stack([rest * place, rest * cross, velocity - cross * cross / spread], axis=1)
        tracks["hits"][hit] += 1
        tracks["misses"][hit] = 0
        tracks["unseen"][hit] = 0.0

    def _patience(self) -> NDArray[np.int64]:
        """Returns for how many frames each track lives on without a target."""
        options, tracks = self.options, self._tracks
        # No track is carried on for longer than it has been seen: one of few targets may be a false one.
        return np.where(tracks["confirmed"], np.minimum(tracks["hits"], options.coast), options.window)

    def _kept(self) -> NDArray[np.void]:
        """Returns the tracks without those that were alone for too long, cannot be confirmed any more or have left."""
        options, tracks = self.options, self._tracks
        lost = ~tracks["confirmed"] & (tracks["age"] - tracks["hits"] > options.window - options.confirm)
        lost |= tracks["unseen"] > self._patience()
        if self.size is not None:
            low, high = -0.5 - OUTSIDE, np.array(self.size) - 0.5 + OUTSIDE
            outside = ((tracks["place"] < low) | (tracks["place"] > high)).any(axis=1)
            lost |= outside & (tracks["misses"] > 0)
        return tracks[~lost]

    def _born(self, places: Floats, noise: Floats, targets: NDArray[np.object_], scr: Floats) -> NDArray[np.void]:
        """Returns new tracks, one per target."""
        born = np.zeros(len(places), self._kind)
        born["id"] = self._next + np.arange(len(places))
        self._next += len(places)
        born["place"] = places
        born["variance"][:, 0] = noise
        born["variance"][:, 2] = (self.options.speed / 3) ** 2
        born["age"] = born["hits"] = 1
        born["target"] = targets
        born["scr"] = np.nan
        born["scr"][:, self._slot] = scr
        return born

    def _told(self) -> list[Track]:
        """Returns the tracks in the words of `Track`."""
        tracks, size = self._tracks, self.options.history
        order = (self._slot + 1 + np.arange(size)) % size
        trail, scr = tracks["trail"][:, order], tracks["scr"][:, order]
        names = ("id", "confirmed", "place", "velocity", "variance", "age", "hits", "misses", "target")
        columns = zip(*(tracks[name].tolist() for name in names), trail, scr, strict=True)
        return [
            Track(
                number,
                "tentative" if not confirmed else "coasted" if misses else "confirmed",
                place[0],
                place[1],
                velocity[0],
                velocity[1],
                tuple(variance),
                age,
                hits,
                misses,
                target,
                steps[-age:],
                ratios[-age:],
            )
            for number, confirmed, place, velocity, variance, age, hits, misses, target, steps, ratios in columns
        ]


def _objects(targets: Sequence[Target], indices: Indices) -> NDArray[np.object_]:
    """Returns some of the targets as an array."""
    some = np.empty(len(indices), np.object_)
    some[:] = [targets[index] for index in indices.tolist()]
    return some
