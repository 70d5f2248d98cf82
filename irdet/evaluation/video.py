"""Measuring on video with one line of truth per target and frame: detections alone, and with tracking.

A target is found where a point lies in its box, grown by a margin; points in no box are false. The same holds for
tracks, whose points are the places of all confirmed tracks, coasted ones included: what a user is shown.
"""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from irdet.core.errors import DataError, FrameError, UsageError
from irdet.core.frame import Preprocessor
from irdet.core.jsonable import jsonable
from irdet.metrics.target import poisson_bounds
from irdet.runtime.detector import Detection, Detector
from irdet.runtime.follow import Follower
from irdet.runtime.sources import Skipped, SourceOptions, open_source, redacted
from irdet.tracking import TrackerOptions

#: Boxes are grown by this, px: those of real clips are loose, and centroids wander.
MARGIN = 3.0

#: A target that shows in fewer frames is not counted as lost where no track found it.
VISIBLE = 10

#: Videos in a folder of clips.
VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".ts")

#: A point: x and y, px.
Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A target in a frame: its number, and left, top, width and height of its box, px."""

    id: int
    x: float
    y: float
    width: float
    height: float

    def holds(self, point: Point, margin: float) -> bool:
        """Tells whether a point lies in the box grown by a margin."""
        x, y = point
        return (
            self.x - margin <= x <= self.x + self.width + margin
            and self.y - margin <= y <= self.y + self.height + margin
        )

    def distance(self, point: Point) -> float:
        """Distance of a point from the middle of the box, px. Pixel centres lie at whole numbers."""
        return math.hypot(point[0] - self.x - (self.width - 1) / 2, point[1] - self.y - (self.height - 1) / 2)


@dataclass(frozen=True)
class Truth:
    """The targets of a clip.

    Attributes:
        boxes: Frame -> its targets. Frames from the first to the last are judged, also those between without a target;
            where there is no target at all, every frame is.
    """

    boxes: Mapping[int, tuple[Box, ...]]

    @cached_property
    def span(self) -> tuple[int, float]:
        """The first and the last frame that is judged."""
        return (min(self.boxes), max(self.boxes)) if self.boxes else (0, math.inf)

    def judges(self, frame: int) -> bool:
        """Tells whether the truth of a frame is known."""
        first, last = self.span
        return first <= frame <= last


def read_truth(path: Path) -> Truth:
    """Reads the truth of a clip.

    Args:
        path: CSV with a header: `frame` (or `frame0`), counted from 0, `x`, `y`, `w`, `h` of the box, px, and `id`
            where a frame has more than one target. Other columns are left alone.

    Raises:
        DataError: It cannot be read, a column is missing, or a line is not what it should be; names the line.
    """
    boxes: dict[int, list[Box]] = defaultdict(list)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            names = rows.fieldnames or ()
            frame = next((name for name in ("frame", "frame0") if name in names), "frame")
            if missing := [name for name in (frame, "x", "y", "w", "h") if name not in names]:
                raise DataError(f"{path} has no column {missing[0]}: the truth of a clip has frame, x, y, w, h")
            for row in rows:
                try:
                    number, thing = int(row[frame]), int(row.get("id") or 0)
                    x, y, width, height = (float(row[name]) for name in ("x", "y", "w", "h"))
                except (TypeError, ValueError):
                    raise DataError(
                        f"{path}, line {rows.line_num}: {frame}, x, y, w, h and id must be numbers"
                    ) from None
                finite = all(map(math.isfinite, (x, y, width, height)))
                if number < 0 or not finite or not (width > 0 and height > 0):
                    raise DataError(f"{path}, line {rows.line_num}: not a box of a frame from 0 on")
                if any(box.id == thing for box in boxes[number]):
                    why = "twice the same id" if "id" in names else "two boxes, and there is no column id"
                    raise DataError(f"{path}, line {rows.line_num}: frame {number} has {why}")
                boxes[number].append(Box(thing, x, y, width, height))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return Truth({number: tuple(some) for number, some in boxes.items()})


@dataclass(frozen=True)
class PointScore:
    """Points against boxes, frame by frame.

    Attributes:
        frames: Frames that were judged.
        seconds: Their time.
        boxes: True targets in them.
        found: Those with a point in their box.
        false: Points in no box.
    """

    frames: int = 0
    seconds: float = 0.0
    boxes: int = 0
    found: int = 0
    false: int = 0

    @property
    def pd(self) -> float:
        """Found targets / targets, over all frames; NaN without targets."""
        return self.found / self.boxes if self.boxes else math.nan

    @property
    def false_per_frame(self) -> float:
        """False points per frame."""
        return self.false / self.frames if self.frames else math.nan

    def __add__(self, other: PointScore) -> PointScore:
        return PointScore(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def to_dict(self) -> dict[str, Any]:
        """Returns counts and rates as JSON values; rates per hour with exact Poisson bounds (95 % each)."""
        return {
            **vars(self),
            "pd": jsonable(self.pd),
            "false_per_frame": jsonable(self.false_per_frame),
            **per_hour("false", self.false, self.seconds),
        }


@dataclass(frozen=True)
class TrackScore:
    """Confirmed tracks against targets.

    Attributes:
        points: Their places, frame by frame.
        tracks: Confirmed tracks that lived in a judged frame.
        false_tracks: Those that were in no box in more than half of their judged frames.
        pure_frames: Frames of the other tracks in which they were on the target on which they were most often.
        track_frames: Judged frames of the other tracks.
        switches: How often another track than before was on a target.
        targets: Targets that show in at least `VISIBLE` frames.
        lost: Those on which no confirmed track ever was.
        confirmed_after: Of each target that a track was on, frames from its first to the first of these, both counted.
    """

    points: PointScore = PointScore()
    tracks: int = 0
    false_tracks: int = 0
    pure_frames: int = 0
    track_frames: int = 0
    switches: int = 0
    targets: int = 0
    lost: int = 0
    confirmed_after: tuple[int, ...] = ()

    @property
    def purity(self) -> float:
        """Share of their frames that tracks are on one and the same target; NaN without tracks on targets."""
        return self.pure_frames / self.track_frames if self.track_frames else math.nan

    @property
    def frames_to_confirm(self) -> float:
        """Mean of `confirmed_after`; NaN where it is empty."""
        return sum(self.confirmed_after) / len(self.confirmed_after) if self.confirmed_after else math.nan

    def __add__(self, other: TrackScore) -> TrackScore:
        return TrackScore(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def to_dict(self) -> dict[str, Any]:
        """Returns counts and rates as JSON values."""
        values = {name: value for name, value in vars(self).items() if name not in ("points", "confirmed_after")}
        return {
            **self.points.to_dict(),
            **values,
            "purity": jsonable(self.purity),
            "frames_to_confirm": jsonable(self.frames_to_confirm),
            **per_hour("false_tracks", self.false_tracks, self.points.seconds),
        }


@dataclass(frozen=True)
class ClipScore:
    """What was measured on a clip, or on several together.

    Attributes:
        name: Name of the clip.
        detections: Targets of single frames.
        tracks: Confirmed tracks.
        skipped: Frames that could not be read; what is in them counts for nothing.
        beyond: Places of targets that the truth has behind the last frame; they count for nothing, too.
        notes: What had to be assumed.
    """

    name: str
    detections: PointScore
    tracks: TrackScore
    skipped: int = 0
    beyond: int = 0
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as JSON values."""
        figures = {"detections": self.detections.to_dict(), "tracks": self.tracks.to_dict()}
        return {
            "clip": self.name,
            **figures,
            "skipped_frames": self.skipped,
            "beyond_the_end": self.beyond,
            "notes": list(self.notes),
        }


def total(clips: Sequence[ClipScore]) -> ClipScore:
    """Adds up the counts of clips; rates are those of all frames together."""
    return ClipScore(
        "all",
        sum((clip.detections for clip in clips), PointScore()),
        sum((clip.tracks for clip in clips), TrackScore()),
        sum(clip.skipped for clip in clips),
        sum(clip.beyond for clip in clips),
    )


@dataclass
class _Followed:
    """What became of one target."""

    first: int
    frames: int = 0
    track: int | None = None
    after: int | None = None


@dataclass
class Scorer:
    """Adds up what is found in the frames of a clip, in their order.

    Args:
        truth: The clip's truth.
        margin: Boxes are grown by this, px.
    """

    truth: Truth
    margin: float = MARGIN
    _detected: PointScore = field(default=PointScore(), init=False)
    _tracked: PointScore = field(default=PointScore(), init=False)
    _targets: dict[int, _Followed] = field(default_factory=dict, init=False)
    _tracks: dict[int, Counter[int | None]] = field(default_factory=lambda: defaultdict(Counter), init=False)
    _switches: int = field(default=0, init=False)

    def add(self, detection: Detection, seconds: float) -> None:
        """Takes a frame that lasts so long; one that the truth does not judge counts for nothing."""
        index = detection.frame.index
        if not self.truth.judges(index):
            return
        boxes = self.truth.boxes.get(index, ())
        points = [(target.x, target.y) for target in detection.targets]
        places = {track.id: (track.x, track.y) for track in detection.tracks or () if track.confirmed}
        self._detected += self._judged(boxes, points, seconds)
        self._tracked += self._judged(boxes, places.values(), seconds)
        for box in boxes:
            self._follow(index, box, places)
        for number, place in places.items():
            on = min(
                (box for box in boxes if box.holds(place, self.margin)), key=lambda b: b.distance(place), default=None
            )
            self._tracks[number][None if on is None else on.id] += 1

    def result(self, name: str) -> ClipScore:
        """Returns what was measured so far."""
        false = {number for number, on in self._tracks.items() if 2 * on[None] > on.total()}
        true = [on for number, on in self._tracks.items() if number not in false]
        seen = [target for target in self._targets.values() if target.frames >= VISIBLE]
        tracks = TrackScore(
            points=self._tracked,
            tracks=len(self._tracks),
            false_tracks=len(false),
            pure_frames=sum(max(count for thing, count in on.items() if thing is not None) for on in true),
            track_frames=sum(on.total() for on in true),
            switches=self._switches,
            targets=len(seen),
            lost=sum(target.track is None for target in seen),
            confirmed_after=tuple(target.after for target in self._targets.values() if target.after is not None),
        )
        return ClipScore(name, self._detected, tracks)

    def _judged(self, boxes: Sequence[Box], points: Iterable[Point], seconds: float) -> PointScore:
        points = list(points)
        found = sum(any(box.holds(point, self.margin) for point in points) for box in boxes)
        false = sum(not any(box.holds(point, self.margin) for box in boxes) for point in points)
        return PointScore(1, seconds, len(boxes), found, false)

    def _follow(self, index: int, box: Box, places: Mapping[int, Point]) -> None:
        """Takes note of the track that is on a target: the same as before where it still is, else the nearest."""
        target = self._targets.setdefault(box.id, _Followed(index))
        target.frames += 1
        inside = [number for number, place in places.items() if box.holds(place, self.margin)]
        if not inside or target.track in inside:
            return
        self._switches += target.track is not None
        target.track = min(inside, key=lambda number: box.distance(places[number]))
        if target.after is None:
            target.after = index - target.first + 1


def evaluate_clip(
    detector: Detector,
    clip: Path,
    truth: Truth,
    options: TrackerOptions | None = None,
    *,
    stabilise: bool = False,
    margin: float = MARGIN,
    fps: float | None = None,
    preprocessor: Preprocessor | None = None,
    progress: Callable[[], object] | None = None,
) -> ClipScore:
    """Measures a detector, alone and with tracking, on a clip.

    Args:
        detector: What finds the targets.
        clip: A video, or whatever else `open_source` takes.
        truth: Its truth.
        options: What the tracker goes by.
        stabilise: Take the camera's motion out of the tracks.
        margin: Boxes are grown by this, px.
        fps: Frames per second, in place of what the clip tells; where neither does, a usual rate, and a note.
        preprocessor: Maps the frames; one that follows the data where None.
        progress: Called after every frame.

    Raises:
        DataError: No frame of it could be judged.
        IrdetError: It cannot be read, or the engine failed.
        MissingDependency: SciPy is not installed.
    """
    follow, scorer, preprocess = Follower(options, stabilise), Scorer(truth, margin), preprocessor or Preprocessor()
    preprocess.begin()
    wanted, last = SourceOptions(fps=fps), -1
    with open_source(clip, wanted) as source:
        rate, notes = (source.fps, source.notes) if source.fps else wanted.rate(None, source.name)
        for raw in source:
            last = raw.index
            try:
                frame = raw.prepare(preprocess)
            except FrameError as error:
                source.skipped.add(Skipped(raw.name, str(error)))
                continue
            scorer.add(follow(detector.detect(frame)), 1.0 / rate)
            if progress is not None:
                progress()
    beyond = sum(len(boxes) for index, boxes in truth.boxes.items() if index > last)
    score = replace(scorer.result(clip.stem), skipped=source.skipped.frames, beyond=beyond, notes=notes)
    if not score.detections.frames:
        raise DataError(f"{clip}: none of its frames is in the truth, which begins at frame {truth.span[0]}")
    return score


def find_clips(path: Path, truth: Path | None = None) -> list[tuple[Path, Path]]:
    """Finds clips with their truth.

    Args:
        path: A clip (a video or a folder of images), or a folder of videos.
        truth: The truth of the one clip; where None, `NAME.csv` beside each.

    Returns:
        Clips and truths, by name.

    Raises:
        UsageError: One truth for a folder of videos.
        DataError: Nothing is there, or a truth is missing.
    """
    clips = [path]
    videos = sorted(one for one in path.iterdir() if one.suffix.lower() in VIDEO_SUFFIXES) if path.is_dir() else []
    if truth is not None and videos:
        raise UsageError(f"--truth {truth} is of one clip, and {path} holds several: name one, or leave --truth out")
    if path.is_dir() and truth is None:
        clips = videos
        if not clips:
            raise DataError(f"{path} holds no videos ({', '.join(VIDEO_SUFFIXES)}); of images, give --truth too")
    elif not path.exists():
        raise DataError(f"cannot read {redacted(str(path))}: no such file or folder")
    pairs = [(clip, truth or clip.with_suffix(".csv")) for clip in clips]
    for clip, file in pairs:
        if not file.is_file():
            raise DataError(
                f"{clip} has no truth: {file} is not there (columns frame, x, y, w, h; --truth names another)"
            )
    return pairs


def per_hour(name: str, count: int, seconds: float) -> dict[str, Any]:
    """Returns a rate per hour with exact Poisson bounds (95 % each) as JSON values."""
    hours = seconds / 3600.0
    if not hours:
        return {f"{name}_per_hour": None}
    lower, upper = poisson_bounds(count)
    return {
        f"{name}_per_hour": count / hours,
        f"{name}_per_hour_lower": lower / hours,
        f"{name}_per_hour_upper": upper / hours,
    }
