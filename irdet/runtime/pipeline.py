"""The run over a source: each frame is decoded, preprocessed, searched, drawn and written, and all of it is timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from irdet.core.errors import FrameError, IrdetError
from irdet.core.frame import Preprocessor
from irdet.runtime.detector import Detection, Detector
from irdet.runtime.draw import annotate
from irdet.runtime.sinks import Sink
from irdet.runtime.sources import Skipped, Source

#: What a frame goes through, in order.
STAGES = ("decode", "preprocess", "inference", "targets", "draw", "encode")

_T = TypeVar("_T")


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        source: Name of the source.
        frames: Frames that were searched.
        skipped: The first frames that could not be used, with the reasons.
        skipped_frames: Number of all of them.
        targets: Targets in all frames.
        frames_with_targets: Frames with at least one.
        times: Seconds in each of `STAGES`, over all frames.
        seconds: Seconds of the whole run, from the first frame to the closed files.
    """

    source: str
    frames: int
    skipped: tuple[Skipped, ...]
    skipped_frames: int
    targets: int
    frames_with_targets: int
    times: Mapping[str, float]
    seconds: float

    @property
    def fps(self) -> float:
        """Frames per second of the whole run."""
        return self.frames / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """Returns the summary as JSON values; `stages` has the total (s) and the mean per frame (ms) of each."""
        return {
            "source": self.source,
            "frames": self.frames,
            "skipped_frames": self.skipped_frames,
            "skipped": [{"name": one.name, "reason": one.reason, "frames": one.frames} for one in self.skipped],
            "targets": self.targets,
            "frames_with_targets": self.frames_with_targets,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 2),
            "stages": {
                stage: {"total_s": round(total, 4), "mean_ms": round(1e3 * total / self.frames, 4)}
                for stage, total in self.times.items()
            },
        }


def run(
    source: Source,
    preprocessor: Preprocessor,
    detector: Detector,
    sinks: Sequence[Sink] = (),
    on_frame: Callable[[Detection], bool | None] | None = None,
) -> RunSummary:
    """Finds the targets in every frame of a source and hands them to the sinks, in the order of the frames.

    Frames that cannot be used are left out and counted. The sinks are closed whatever happens, so a run that fails
    or is interrupted leaves finished files.

    Args:
        source: Stays the caller's to close.
        preprocessor: Holds the running range of this source.
        detector: What finds them.
        sinks: Where the results go.
        on_frame: Called after each frame is written; False ends the run.

    Returns:
        The summary.

    Raises:
        IrdetError: Not one frame could be used, the engine failed, or a result could not be written.
    """
    clock = _Clock()
    frames = targets = with_targets = 0
    draws = any(sink.wants_picture for sink in sinks)
    start = time.perf_counter()
    with ExitStack() as closing:
        for sink in sinks:
            closing.callback(sink.close)
        for raw in clock.each("decode", source):
            try:
                with clock("preprocess"):
                    frame = preprocessor(raw.pixels, raw.index, raw.time, raw.name)
            except FrameError as error:
                source.skipped.add(Skipped(raw.name, str(error)))
                continue
            detection = detector.detect(frame)
            clock.add(detection.times)
            with clock("draw"):
                picture = annotate(frame, detection.targets) if draws else None
            with clock("encode"):
                for sink in sinks:
                    sink.write(detection, picture)
            frames += 1
            targets += len(detection.targets)
            with_targets += bool(detection.targets)
            if on_frame is not None and on_frame(detection) is False:
                break
    skipped = source.skipped
    if not frames:
        reason = next((one.reason for one in skipped.named), "it has no frames")
        raise IrdetError(f"cannot use {source.name}: {reason}")
    seconds = time.perf_counter() - start
    return RunSummary(
        source.name, frames, tuple(skipped.named), skipped.frames, targets, with_targets, clock.seconds, seconds
    )


class _Clock:
    """Adds up the seconds of each stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    def add(self, times: Mapping[str, float]) -> None:
        for stage, seconds in times.items():
            self.seconds[stage] += seconds

    def each(self, stage: str, items: Iterable[_T]) -> Iterator[_T]:
        """Yields the items; the time until each is there counts for the stage."""
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.seconds[stage] += time.perf_counter() - start
            yield item
