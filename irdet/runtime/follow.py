"""Follower: the targets of a run's frames become tracks, frame after frame, and a summary of them at the end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from irdet.runtime.detector import Detection
from irdet.tracking import Track, Tracker, TrackerOptions
from irdet.tracking.motion import CameraMotion


@dataclass(frozen=True)
class TrackSummary:
    """What became of the tracks of a run.

    Attributes:
        tracks: Tracks that were confirmed.
        mean_length: Mean of the frames from the first to the last target of each.
        longest: The most of these frames.
        frames_with_tracks: Frames in which a confirmed track lived.
        left_out: Targets that were not used because their frame had more than `TrackerOptions.max_targets`.
        stabilised: Frames whose shift against the one before could be measured; None where that was not asked for.
    """

    tracks: int
    mean_length: float
    longest: int
    frames_with_tracks: int
    left_out: int
    stabilised: int | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return asdict(self)


class Follower:
    """Gives each detection of one source its tracks. Use one per source, with the detections in order.

    A source that begins anew (its time runs backwards, or its frames change their size) ends all tracks; numbers go on.

    Args:
        options: What the tracker goes by.
        stabilise: Measure how the background moves (`irdet.tracking.motion`), so that a camera that shakes or pans
            does not break tracks.

    Raises:
        MissingDependency: SciPy is not installed.
    """

    def __init__(self, options: TrackerOptions | None = None, stabilise: bool = False) -> None:
        self.tracker = Tracker(options)
        self._camera = CameraMotion() if stabilise else None
        self._time: float | None = None
        self._lengths: dict[int, int] = {}  # of the confirmed tracks that live
        self._ended = self._frames = self._total = self._longest = self._stabilised = 0

    def __call__(self, detection: Detection) -> Detection:
        """Returns the detection with its tracks: those that live after it, oldest first."""
        frame = detection.frame
        height, width = frame.shape
        # Images have no clock, but numbers, which also tell where some could not be read.
        time = float(frame.index) if frame.time is None else frame.time
        if self.tracker.size != (width, height) or (self._time is not None and time < self._time):
            self.tracker.reset()
            self.tracker.size = (width, height)
        self._time = time
        motion = None
        if self._camera is not None:
            measured = self._camera(frame.pixels)
            motion = (measured.dx, measured.dy)
            self._stabilised += measured.trusted
        tracks = tuple(self.tracker.update(detection.targets, time, motion))
        self._count(tracks)
        return replace(detection, tracks=tracks)

    def summary(self) -> TrackSummary:
        """Returns what became of the tracks so far."""
        tracks = self._ended + len(self._lengths)
        return TrackSummary(
            tracks=tracks,
            mean_length=(self._total + sum(self._lengths.values())) / max(1, tracks),
            longest=max([self._longest, *self._lengths.values()]),
            frames_with_tracks=self._frames,
            left_out=self.tracker.left_out,
            stabilised=self._stabilised if self._camera is not None else None,
        )

    def _count(self, tracks: tuple[Track, ...]) -> None:
        living = {track.id: track.age - track.misses for track in tracks if track.confirmed}
        for number in self._lengths.keys() - living.keys():
            length = self._lengths.pop(number)
            self._ended += 1
            self._total += length
            self._longest = max(self._longest, length)
        self._lengths.update(living)
        self._frames += bool(living)
