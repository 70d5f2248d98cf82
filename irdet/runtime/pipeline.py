"""The run over a source: each frame is decoded, preprocessed, searched, drawn and written, and all of it is timed.

Reading, searching and writing overlap, in a thread each with short queues between them: while the engine computes one
frame, or as many as it takes at once, the next is decoded and the last is drawn and written. Frames stay in order, and
what is written is what a run one frame after the other would write.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from irdet.core.errors import FrameError, IrdetError
from irdet.core.frame import Frame, Preprocessor
from irdet.runtime.detector import Detection, Detector
from irdet.runtime.draw import annotate
from irdet.runtime.sinks import Sink
from irdet.runtime.sources import Skipped, Source

#: What a frame goes through, in order; `"tracks"` only where targets are followed.
STAGES = ("decode", "preprocess", "inference", "targets", "tracks", "draw", "encode")

#: Frames that wait between two stages: enough that none of them waits for a single slow frame, few enough that memory
#: stays small and what is written is fresh.
DEPTH = 2

#: Seconds after which a thread that waits looks whether the run was stopped.
TICK = 0.1

#: Seconds that a thread gets to finish what it is at when the run is over, and so many times the slowest search so far;
#: one that takes longer hangs.
GRACE, SLOWEST = 2.0, 3.0

#: Frames over which the rate and the latency of the heartbeat are taken.
RECENT = 100

_T = TypeVar("_T")

_NOTHING = object()


class Stalled(IrdetError):
    """The run is over, its results are closed, and a thread still hangs in the source or the engine.

    Neither may be closed under it: end the process (`os._exit`).
    """


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        source: Name of the source.
        frames: Frames that were searched.
        skipped: The first frames that could not be used, with the reasons.
        skipped_frames: Number of all of them.
        dropped_frames: Frames of a live source that came while an older one was still waiting, and replaced it.
        targets: Targets in all frames.
        frames_with_targets: Frames with at least one.
        times: Seconds in each of `STAGES` that there was, over all frames; they overlap, so they may add up to more.
        seconds: Seconds of the whole run, from the first frame to the closed files.
        stopped: The run was stopped before the source was over.
    """

    source: str
    frames: int = 0
    skipped: tuple[Skipped, ...] = ()
    skipped_frames: int = 0
    dropped_frames: int = 0
    targets: int = 0
    frames_with_targets: int = 0
    times: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    stopped: bool = False

    @property
    def fps(self) -> float:
        """Frames per second of the whole run."""
        return self.frames / self.seconds if self.frames else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns the summary as JSON values; `stages` has the total (s) and the mean per frame (ms) of each."""
        return {
            "source": self.source,
            "frames": self.frames,
            "skipped_frames": self.skipped_frames,
            "skipped": [{"name": one.name, "reason": one.reason, "frames": one.frames} for one in self.skipped],
            "dropped_frames": self.dropped_frames,
            "targets": self.targets,
            "frames_with_targets": self.frames_with_targets,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 2),
            "stopped": self.stopped,
            "stages": {
                stage: {"total_s": round(total, 4), "mean_ms": round(1e3 * total / max(self.frames, 1), 4)}
                for stage, total in self.times.items()
            },
        }


@dataclass(frozen=True)
class Pulse:
    """How a run is doing, for its heartbeat.

    Attributes:
        frames: Frames that were written so far.
        fps: Frames per second, over the last `RECENT`.
        dropped: Frames of a live source that were dropped so far.
        skipped: Frames that could not be used so far.
        latency: Seconds from a frame's capture to its record, mean over the last `RECENT`; None before the first.
    """

    frames: int
    fps: float
    dropped: int
    skipped: int
    latency: float | None

    def __str__(self) -> str:
        told = f"alive: {self.frames} frames, {self.fps:.1f} frames/s, {self.dropped} dropped, {self.skipped} skipped"
        late = "" if self.latency is None else f", {1e3 * self.latency:.0f} ms from capture to record"
        return told + late


@dataclass(frozen=True)
class Watch:
    """What is watched while a run goes on.

    Attributes:
        stop: Asked between frames; true ends the run after the frame at hand, which is waited for as any other is.
        max_stall: Seconds without a frame after which the run is given up; None to wait for ever.
        heartbeat: Seconds between two calls of `beat`; None for none.
        beat: Takes the heartbeat.
    """

    stop: Callable[[], bool] = lambda: False
    max_stall: float | None = None
    heartbeat: float | None = None
    beat: Callable[[Pulse], object] = lambda pulse: None


def run(
    source: Source,
    preprocessor: Preprocessor,
    detector: Detector,
    sinks: Sequence[Sink] = (),
    on_frame: Callable[[Detection], bool | None] | None = None,
    follow: Callable[[Detection], Detection] | None = None,
    watch: Watch | None = None,
    searches: int = 1,
    resumed: bool = False,
) -> RunSummary:
    """Finds the targets in every frame of a source and hands them to the sinks, in the order of the frames.

    Frames that cannot be used are left out and counted. Sources that are not live wait until there is room for their
    next frame; of a live one the newest frame is kept, and those that it replaces are counted as dropped. The sinks
    are closed whatever happens, so a run that fails or is interrupted leaves finished files.

    Args:
        source: Stays the caller's to close. A live one is closed at the end of the run, too, since that ends its waits.
        preprocessor: Holds the running range of this source.
        detector: What finds them.
        sinks: Where the results go; used in the calling thread alone.
        on_frame: Called after each frame is written; False ends the run.
        follow: Gives each detection, in order, its tracks (`irdet.runtime.follow`); None where none are wanted.
        watch: What is watched meanwhile.
        searches: Frames that are searched at once: as many as the engine may `run` at once, and one of a live source,
            where the newest frame counts.
        resumed: Frames of this source are done already, so that none of the rest can be used is no failure.

    Returns:
        The summary.

    Raises:
        IrdetError: Not one frame could be used and none is done, the engine failed, or a result could not be written.
        Stalled: No frame came for `watch.max_stall` seconds, or the run ended otherwise while the source or the engine
            does not answer.
    """
    watch = watch or Watch()
    clock = _Clock(stage for stage in STAGES if stage != "tracks" or follow is not None)
    flow = _Flow(source.live, searches, source.close if source.live else lambda: None)
    frames = targets = with_targets = 0
    stopped = False
    start = time.perf_counter()
    with flow.told_of_hangs(), ExitStack() as closing:
        for sink in sinks:
            closing.callback(sink.close)
        closing.callback(flow.end)
        flow.begin(
            lambda: _read(source, preprocessor, detector, clock),
            lambda item: item.found(detector.detect(item.frame)),
        )
        for item in flow.results(watch, lambda: source.skipped.frames):
            detection = item.detection
            assert detection is not None
            clock.add(detection.times)
            if follow is not None:
                with clock("tracks"):
                    detection = follow(detection)
            picture = None
            for sink in sinks:  # those before the first picture need not wait for it
                if sink.wants_picture and picture is None:
                    with clock("draw"):
                        tracks = None if follow is None else detection.tracks
                        picture = annotate(item.frame, detection.targets, tracks=tracks)
                with clock("encode"):
                    sink.write(detection, picture)
            frames += 1
            targets += len(detection.targets)
            with_targets += bool(detection.targets)
            flow.written(item)
            if on_frame is not None and on_frame(detection) is False:
                break
            if stopped := watch.stop():
                break
        else:
            stopped = flow.stopped
    skipped = source.skipped
    if not (frames or stopped or resumed):
        reason = next((one.reason for one in skipped.named), "it has no frames")
        raise IrdetError(f"cannot use {source.name}: {reason}")
    return RunSummary(
        source=source.name,
        frames=frames,
        skipped=tuple(skipped.named),
        skipped_frames=skipped.frames,
        dropped_frames=flow.dropped,
        targets=targets,
        frames_with_targets=with_targets,
        times=clock.seconds,
        seconds=time.perf_counter() - start,
        stopped=stopped,
    )


@dataclass
class _Item:
    """A frame on its way."""

    frame: Frame
    captured: float
    detection: Detection | None = None

    def found(self, detection: Detection) -> _Item:
        self.detection = detection
        return self


def _read(source: Source, preprocessor: Preprocessor, detector: Detector, clock: _Clock) -> Iterator[_Item]:
    for raw in clock.each("decode", source):
        captured = time.monotonic()
        try:
            with clock("preprocess"):
                frame = raw.prepare(preprocessor)
                detector.check(frame)
        except FrameError as error:
            source.skipped.add(Skipped(raw.name, str(error)))
            continue
        yield _Item(frame, captured)


class _Over:
    """Comes after the last frame."""


@dataclass(frozen=True)
class _Failed:
    """Comes where a thread failed."""

    error: BaseException


class _Flow:
    """Threads and two queues: one thread reads frames, others search them; the calling thread takes the results.

    The second queue holds what is, or will be, found, in the order of the frames. An error of a thread comes out of
    `results` in its place, after the frames before it.

    Args:
        live: Frames come at their own pace: a new one replaces one that waits.
        searches: Frames that are searched at once.
        wake: Ends a wait of the reading thread for a frame.
    """

    def __init__(self, live: bool, searches: int, wake: Callable[[], None]) -> None:
        self.dropped = 0
        self.stopped = False
        self._live = live
        self._wake = wake
        self._halt = threading.Event()
        self._frames: queue.Queue[Any] = queue.Queue(1 if live else DEPTH)
        self._searches = searches
        self._turn = threading.Lock()
        self._read_out = False  # what comes after the last frame was taken, and nothing comes after that
        self._found: queue.Queue[Any] = queue.Queue(DEPTH + searches)
        self._threads: list[threading.Thread] = []
        self._searching: set[int] = set()
        self._slowest = 0.0  # search so far, s
        self._written = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)  # when, and how late

    def begin(self, read: Callable[[], Iterator[_Item]], search: Callable[[_Item], _Item]) -> None:
        """Starts the threads."""

        def reader() -> None:
            try:
                for item in read():
                    if not self._offer(item):
                        return
                last: object = _Over()
            except BaseException as error:
                last = _Failed(error)
            self._put(self._frames, last)

        def searcher() -> None:
            while True:
                with self._turn:  # who takes a frame takes its place among the results, too
                    if self._read_out:
                        return
                    item = self._get(self._frames)
                    if not isinstance(item, _Item):
                        self._read_out = True
                        self._put(self._found, item)
                        return
                    place: Future[_Item] = Future()
                    if not self._put(self._found, place):
                        return
                self._searching.add(threading.get_ident())
                begun = time.monotonic()
                try:
                    place.set_result(search(item))
                except BaseException as error:
                    place.set_exception(error)
                self._slowest = max(self._slowest, time.monotonic() - begun)
                self._searching.discard(threading.get_ident())

        for name, target in (("read", reader), *[("search", searcher)] * self._searches):
            thread = threading.Thread(target=target, name=f"irdet-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def results(self, watch: Watch, skipped: Callable[[], int]) -> Iterator[_Item]:
        """Yields the frames that were searched until the source is over or the run is stopped.

        Raises:
            Stalled: None came for too long.
        """
        last = beat = time.monotonic()
        place: Any = None
        while True:
            try:
                place = place or self._found.get(timeout=TICK)
            except queue.Empty:
                item = None
            else:
                ready = not isinstance(place, Future) or wait_for((place,), TICK).done
                item, place = (place, None) if ready else (None, place)
            now = time.monotonic()
            if watch.heartbeat is not None and now - beat >= watch.heartbeat:
                beat = now
                watch.beat(self._pulse(now, skipped()))
            if isinstance(item, _Failed):
                raise item.error
            if isinstance(item, _Over):
                return
            if isinstance(item, Future):
                yield item.result()
                last = time.monotonic()  # writing is no stall of theirs
                continue
            self.stopped = self.stopped or watch.stop()
            if self.stopped and place is None:
                return
            if watch.max_stall is not None and now - last > watch.max_stall:
                raise Stalled(f"no frame for {watch.max_stall:g} s (--max-stall): {self._who()} does not answer")

    def written(self, item: _Item) -> None:
        """Notes that a frame's results are out."""
        now = time.monotonic()
        self._written += 1
        self._recent.append((now, now - item.captured))

    def end(self) -> None:
        """Stops the threads and waits for them, so that the source and the engine may be closed."""
        self._halt.set()
        self._wake()
        until = time.monotonic() + max(GRACE, SLOWEST * self._slowest)
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    @contextmanager
    def told_of_hangs(self) -> Iterator[None]:
        """Raises `Stalled`, in place of whatever else, where a thread hangs after the block."""
        why = "the run is over"
        try:
            yield
        except Stalled:
            raise
        except BaseException as error:
            if not any(thread.is_alive() for thread in self._threads):
                raise
            why = str(error) or type(error).__name__
        if any(thread.is_alive() for thread in self._threads):
            raise Stalled(f"{why}; {self._who()} does not answer")

    def _who(self) -> str:
        return "the engine" if self._searching else "the source"

    def _pulse(self, now: float, skipped: int) -> Pulse:
        recent = self._recent
        spent = now - recent[0][0] if len(recent) > 1 else 0.0
        return Pulse(
            frames=self._written,
            fps=(len(recent) - 1) / spent if spent > 0 else 0.0,
            dropped=self.dropped,
            skipped=skipped,
            latency=sum(late for _, late in recent) / len(recent) if recent else None,
        )

    def _offer(self, item: _Item) -> bool:
        """Hands on a frame that was read; False where the run is over."""
        if not self._live:
            return self._put(self._frames, item)
        while not self._halt.is_set():
            try:
                self._frames.put_nowait(item)
                return True
            except queue.Full:
                try:
                    self._frames.get_nowait()
                    self.dropped += 1
                except queue.Empty:
                    pass
        return False

    def _put(self, where: queue.Queue[Any], item: object) -> bool:
        while not self._halt.is_set():
            try:
                where.put(item, timeout=TICK)
                return True
            except queue.Full:
                continue
        return False

    def _get(self, where: queue.Queue[Any]) -> Any:
        while not self._halt.is_set():
            try:
                return where.get(timeout=TICK)
            except queue.Empty:
                continue
        return None


class _Clock:
    """Adds up the seconds of each stage, from whichever thread."""

    def __init__(self, stages: Iterable[str]) -> None:
        self.seconds = dict.fromkeys(stages, 0.0)
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - start})

    def add(self, times: Mapping[str, float]) -> None:
        with self._lock:
            for stage, seconds in times.items():
                self.seconds[stage] += seconds

    def each(self, stage: str, items: Iterable[_T]) -> Iterator[_T]:
        """Yields the items; the time until each is there counts for the stage."""
        iterator = iter(items)
        while True:
            with self(stage):
                item = next(iterator, _NOTHING)
            if item is _NOTHING:
                return
            yield item  # type: ignore[misc]
