from __future__ import annotations

import functools
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typing_extensions import Self

from irdet.core.errors import IrdetError, ModelError
from irdet.core.frame import Preprocessor
from irdet.runtime.detector import Detection, Detector
from irdet.runtime.pipeline import STAGES, Pulse, Stalled, Watch, run
from irdet.runtime.sinks import CsvSink, JsonLinesSink, MaskSink, PictureSink, Sink, VideoSink
from irdet.runtime.sources import RawFrame, SkipLog, open_source

MakeEngine = Callable[..., Any]


class ListSink:
    """Keeps what it is given."""

    wants_picture: ClassVar[bool] = False

    def __init__(self) -> None:
        self.path: Path | None = None
        self.detections: list[Detection] = []
        self.closed = 0

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None) -> None:
        assert picture is None and not self.closed
        self.detections.append(detection)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images of which the third is empty and the last holds nothing but NaN."""
    path = tmp_path / "images"
    path.mkdir()
    rng = np.random.default_rng(0)
    for index in range(10):
        pixels = rng.integers(60, 70, (50, 60)).astype(np.float32)
        pixels[20:22, 5 * index : 5 * index + 2] = 250
        if index == 9:
            pixels[:] = np.nan
        (path / f"{index}.tiff").write_bytes(cv2.imencode(".tiff", pixels)[1].tobytes())
    (path / "2.tiff").write_bytes(b"")
    return path


def test_images_are_mapped_each_by_itself_and_stacks_in_their_order(tmp_path: Path, make_engine: MakeEngine) -> None:
    """A hot image before a cold one must not take the cold one's contrast; in a stack the range follows slowly."""
    rng = np.random.default_rng(0)
    raw = [np.asarray(level + rng.integers(0, 100, (40, 50)), np.uint16) for level in (30000, 3000, 3100)]
    for index, pixels in enumerate(raw):
        cv2.imwrite(str(tmp_path / f"{index}.png"), pixels)
    np.save(tmp_path / "stack.npy", np.stack(raw))
    follow = Preprocessor()
    for where, wanted in (
        (tmp_path, [Preprocessor()(pixels).pixels for pixels in raw]),
        (tmp_path / "stack.npy", [follow(pixels).pixels for pixels in raw]),
    ):
        kept = ListSink()
        with open_source(where) as source:
            run(source, Preprocessor(), Detector(make_engine()), [kept])
        for detection, mapped in zip(kept.detections, wanted, strict=True):
            assert np.array_equal(detection.frame.pixels, mapped)


def test_run_over_a_folder(folder: Path, tmp_path: Path, make_engine: MakeEngine) -> None:
    out, kept = tmp_path / "out", ListSink()
    seen: list[int] = []
    sinks: list[Sink] = [
        JsonLinesSink(out / "t.jsonl"),
        CsvSink(out / "t.csv"),
        PictureSink(out / "a"),
        MaskSink(out / "m"),
    ]
    with open_source(folder) as source:
        summary = run(source, Preprocessor(), Detector(make_engine()), sinks, lambda one: seen.append(one.frame.index))
    assert seen == [0, 1, 3, 4, 5, 6, 7, 8]
    assert (summary.frames, summary.skipped_frames, summary.source) == (8, 2, "images")
    assert [skipped.name for skipped in summary.skipped] == ["2.tiff", "9.tiff"]
    assert "0 bytes" in summary.skipped[0].reason and "no finite pixel" in summary.skipped[1].reason
    assert summary.targets == summary.frames_with_targets == 8
    lines = [json.loads(line) for line in (out / "t.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == seen
    assert [line["targets"][0]["x"] for line in lines] == pytest.approx([5 * index + 0.5 for index in seen], abs=0.1)
    assert sorted(path.stem for path in (out / "a").iterdir()) == [str(index) for index in seen]
    assert sorted(path.stem for path in (out / "m").iterdir()) == [str(index) for index in seen]
    with open_source(folder) as source:
        run(source, Preprocessor(), Detector(make_engine()), [kept])
    assert kept.closed == 1 and len(kept.detections) == 8


def test_frames_that_are_searched_at_once_stay_in_order(folder: Path, make_engine: MakeEngine) -> None:
    one, two = ListSink(), ListSink()
    with open_source(folder) as source:
        run(source, Preprocessor(), Detector(make_engine()), [one])
    engine, meeting, slow = make_engine(), threading.Barrier(2), iter([0.05, 0.0] * 4)
    plain = engine.run

    def meet(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        meeting.wait(5)  # breaks where no other frame is searched meanwhile
        time.sleep(next(slow))
        answer: NDArray[np.float32] = plain(batch)
        return answer

    engine.run = meet
    with open_source(folder) as source:
        summary = run(source, Preprocessor(), Detector(engine), [two], searches=2)
    assert summary.frames == 8
    assert [d.frame.index for d in two.detections] == [d.frame.index for d in one.detections]
    assert [d.targets for d in two.detections] == [d.targets for d in one.detections]


def test_a_search_that_fails_beside_others_ends_the_run_in_its_place(folder: Path, make_engine: MakeEngine) -> None:
    engine, kept = make_engine(), ListSink()
    plain = engine.run

    def fail(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if batch[0, 0, 20, 25] > 0.9:  # the frame of number 5
            raise ModelError("it broke")
        answer: NDArray[np.float32] = plain(batch)
        return answer

    engine.run = fail
    with open_source(folder) as source, pytest.raises(ModelError, match="it broke"):
        run(source, Preprocessor((0, 255)), Detector(engine), [kept], searches=3)
    assert [d.frame.index for d in kept.detections] == [0, 1, 3, 4] and kept.closed == 1


def test_times_add_up(folder: Path, make_engine: MakeEngine, tmp_path: Path) -> None:
    with open_source(folder) as source:
        summary = run(source, Preprocessor(), Detector(make_engine()), [PictureSink(tmp_path / "a")])
    stages = tuple(stage for stage in STAGES if stage != "tracks")
    assert tuple(summary.times) == stages
    assert all(0 < seconds <= summary.seconds for seconds in summary.times.values())
    assert summary.fps == pytest.approx(8 / summary.seconds)
    record = json.loads(json.dumps(summary.to_dict(), allow_nan=False))
    assert tuple(record["stages"]) == stages and record["skipped"][0]["name"] == "2.tiff"
    for stage, seconds in summary.times.items():
        assert record["stages"][stage]["mean_ms"] == pytest.approx(1e3 * seconds / 8, abs=1e-3)


def test_nothing_is_drawn_where_nobody_looks(folder: Path, make_engine: MakeEngine) -> None:
    kept = ListSink()  # refuses a picture
    with open_source(folder) as source:
        summary = run(source, Preprocessor(), Detector(make_engine()), [kept])
    assert summary.times["draw"] == 0


def test_run_over_a_video(tmp_path: Path, make_engine: MakeEngine) -> None:
    sink = VideoSink(tmp_path / "in.mkv", 20)
    for index in range(12):
        frame = np.full((64, 96, 3), 80, np.uint8)
        frame[30:33, 10 + 4 * index : 13 + 4 * index] = 255
        sink.write(None, frame)  # type: ignore[arg-type]
    sink.close()
    kept = ListSink()
    with open_source(tmp_path / "in.mkv") as source:
        video = VideoSink(tmp_path / "out.mkv", source.fps)
        lines = JsonLinesSink(tmp_path / "t.jsonl")
        summary = run(source, Preprocessor(), Detector(make_engine()), [video, lines])
    assert (summary.frames, summary.targets, summary.skipped_frames) == (12, 12, 0)
    records = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [record["time"] for record in records] == pytest.approx([index / 20 for index in range(12)])
    assert [record["targets"][0]["x"] for record in records] == pytest.approx([11 + 4 * i for i in range(12)], abs=0.3)
    with open_source(tmp_path / "out.mkv") as source:
        assert source.length == 12 and source.fps == pytest.approx(20)
        run(source, Preprocessor(), Detector(make_engine()), [kept])
    assert len(kept.detections) == 12


def test_the_caller_can_end_the_run(folder: Path, make_engine: MakeEngine) -> None:
    kept = ListSink()
    with open_source(folder) as source:
        summary = run(
            source, Preprocessor(), Detector(make_engine()), [kept], lambda one: False if one.frame.index == 3 else None
        )
    assert summary.frames == 3 and kept.closed == 1


@pytest.mark.parametrize("error", [ModelError("the engine is gone"), KeyboardInterrupt()])
def test_failed_run_closes_its_files(folder: Path, make_engine: MakeEngine, error: BaseException) -> None:
    engine = make_engine()
    plain, kept = engine.run, ListSink()

    def fail_on_the_third(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(engine.shapes) == 2:
            raise error
        return plain(batch)

    engine.run = fail_on_the_third
    with open_source(folder) as source, pytest.raises(type(error)):
        run(source, Preprocessor(), Detector(engine), [kept])
    assert kept.closed == 1 and len(kept.detections) == 2


def test_source_without_one_usable_frame(tmp_path: Path, make_engine: MakeEngine) -> None:
    nothing = np.full((20, 20), np.nan, np.float32)
    (tmp_path / "nan.tiff").write_bytes(cv2.imencode(".tiff", nothing)[1].tobytes())
    kept = ListSink()
    with (
        open_source(tmp_path / "nan.tiff") as source,
        pytest.raises(IrdetError, match=r"cannot use nan: nan\.tiff \(frame 0\) has no finite pixel") as caught,
    ):
        run(source, Preprocessor(), Detector(make_engine()), [kept])
    assert caught.value.exit_code == 1 and kept.closed == 1 and not kept.detections


class Made:
    """A source of made frames; `pause` seconds before each, and a hook that may hang or fail."""

    name = "made"
    is_video = True
    fps: float | None = 25.0
    length: int | None = None
    size: tuple[int, int] = (64, 48)
    notes: tuple[str, ...] = ()

    def __init__(self, count: int, *, live: bool = False, pause: float = 0.0, hook: Any = None) -> None:
        self.live, self.skipped = live, SkipLog()
        self._count, self._pause, self._hook = count, pause, hook
        self.given = 0

    def __iter__(self) -> Iterator[RawFrame]:
        for index in range(self._count):
            time.sleep(self._pause)
            if self._hook is not None:
                self._hook(index)
            pixels = np.full((48, 64), 60, np.uint8)
            pixels[10:12, index % 60 : index % 60 + 2] = 250
            self.given += 1
            yield RawFrame(pixels, index, index / 25, self.name)

    def name_of(self, index: int) -> str:
        return self.name

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def one_after_the_other(frames: Made, detector: Detector) -> list[Detection]:
    preprocess = Preprocessor()
    return [detector.detect(preprocess(raw.pixels, raw.index, raw.time, raw.name)) for raw in frames]


def test_overlapped_is_what_one_after_the_other_gives(make_engine: MakeEngine) -> None:
    kept = ListSink()
    run(Made(40), Preprocessor(), Detector(make_engine()), [kept])
    wanted = one_after_the_other(Made(40), Detector(make_engine()))
    assert [one.frame.index for one in kept.detections] == list(range(40))
    for one, other in zip(kept.detections, wanted, strict=True):
        assert one.targets == other.targets
        np.testing.assert_array_equal(one.probability, other.probability)


def test_stages_overlap(make_engine: MakeEngine) -> None:
    """While a frame is written the next one is searched and the one after that is read, time after time."""
    count = 12
    engine, meeting = make_engine(), threading.Barrier(3)
    plain, searched, written = engine.run, itertools.count(), itertools.count()

    def meet(frame: int, read_ahead: int) -> None:
        if 0 <= frame - read_ahead < count - 2:
            meeting.wait(30)  # breaks where one of the three waits for another

    def search(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        meet(next(searched), 1)
        answer: NDArray[np.float32] = plain(batch)
        return answer

    engine.run = search
    source = Made(count, hook=lambda index: meet(index, 2))
    summary = run(source, Preprocessor(), Detector(engine), [], lambda _: meet(next(written), 0))
    assert summary.frames == count


def test_memory_is_bounded_by_back_pressure(make_engine: MakeEngine) -> None:
    source = Made(200)
    lead: list[int] = []

    def on_frame(detection: Detection) -> None:
        time.sleep(0.002)
        lead.append(source.given - detection.frame.index)

    run(source, Preprocessor(), Detector(make_engine()), [], on_frame)
    assert len(lead) == 200 and max(lead) <= 9


def test_a_live_source_keeps_its_newest_frame_and_counts_the_drops(make_engine: MakeEngine) -> None:
    source, kept = Made(60, live=True, pause=0.002), ListSink()
    summary = run(source, Preprocessor(), Detector(make_engine()), [kept], lambda _: time.sleep(0.02))
    numbers = [one.frame.index for one in kept.detections]
    assert numbers == sorted(set(numbers)) and numbers[-1] == 59
    assert summary.dropped_frames > 0 and summary.frames + summary.dropped_frames == 60
    assert summary.to_dict()["dropped_frames"] == summary.dropped_frames


def test_an_error_comes_in_its_place(make_engine: MakeEngine) -> None:
    def fail(index: int) -> None:
        if index == 7:
            raise IrdetError("the cable is out")

    kept = ListSink()
    with pytest.raises(IrdetError, match="the cable is out"):
        run(Made(20, hook=fail), Preprocessor(), Detector(make_engine()), [kept])
    assert len(kept.detections) == 7 and kept.closed == 1


def _before(end: int, detection: Detection) -> bool:
    return detection.frame.index < end


def test_threads_end_with_the_run(make_engine: MakeEngine) -> None:
    before = threading.active_count()
    for end in (3, 10**9):
        run(Made(8), Preprocessor(), Detector(make_engine()), [], functools.partial(_before, end))
    assert threading.active_count() == before


@pytest.mark.parametrize("searches", [1, 2, 4])
def test_after_the_last_frame_no_thread_waits_for_another(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, searches: int
) -> None:
    monkeypatch.setattr("irdet.runtime.pipeline.TICK", 60.0)  # a thread that waits now hangs, and that is told
    for count in (1, 8):
        assert run(Made(count), Preprocessor(), Detector(make_engine()), [], searches=searches).frames == count


@pytest.mark.parametrize("place", ["source", "engine"])
def test_a_hang_is_given_up_and_named(make_engine: MakeEngine, place: str) -> None:
    let_go = threading.Event()
    engine, kept = make_engine(), ListSink()
    plain = engine.run

    def hang(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(engine.shapes) == 3:
            let_go.wait(20)
        return plain(batch)

    if place == "engine":
        engine.run = hang
    source = Made(10, hook=(lambda index: index == 3 and let_go.wait(20)) if place == "source" else None)
    begun = time.monotonic()
    try:
        with pytest.raises(Stalled, match=f"0.3 s .*the {place} does not answer"):
            run(source, Preprocessor(), Detector(engine), [kept], watch=Watch(max_stall=0.3))
        assert time.monotonic() - begun < 5
        assert len(kept.detections) == 3 and kept.closed == 1
    finally:
        let_go.set()


def test_a_slow_sink_is_no_stall(make_engine: MakeEngine) -> None:
    summary = run(
        Made(3), Preprocessor(), Detector(make_engine()), [], lambda _: time.sleep(0.3), watch=Watch(max_stall=0.2)
    )
    assert summary.frames == 3


def test_stop_ends_after_the_frame_at_hand(make_engine: MakeEngine) -> None:
    kept = ListSink()
    stop = lambda: len(kept.detections) >= 5  # noqa: E731
    summary = run(Made(10**6), Preprocessor(), Detector(make_engine()), [kept], watch=Watch(stop=stop))
    assert summary.frames == 5 and summary.stopped and kept.closed == 1


@pytest.mark.parametrize("how", ["stop", "window"])
def test_a_slow_engine_finishes_the_frame_at_hand(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("irdet.runtime.pipeline.GRACE", 0.1)
    engine, kept = make_engine(), ListSink()
    plain = engine.run

    def slow(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        time.sleep(0.6)
        return plain(batch)

    engine.run = slow
    asked = time.monotonic() + 0.2
    watch = Watch(stop=lambda: how == "stop" and time.monotonic() > asked)
    summary = run(Made(10), Preprocessor(), Detector(engine), [kept], lambda _: how != "window", watch=watch)
    assert summary.frames == len(kept.detections) == kept.closed == 1
    assert summary.stopped == (how == "stop")


def test_the_end_of_a_run_ends_the_wait_of_a_live_source(make_engine: MakeEngine) -> None:
    closed = threading.Event()

    class Waits(Made):
        def close(self) -> None:
            closed.set()

    source = Waits(5, live=True, hook=lambda index: index == 2 and closed.wait(20))
    asked = time.monotonic() + 0.5
    begun = time.monotonic()
    summary = run(
        source, Preprocessor(), Detector(make_engine()), [], watch=Watch(stop=lambda: time.monotonic() > asked)
    )
    assert summary.stopped and summary.frames >= 1 and time.monotonic() - begun < 5


def test_stop_while_no_frame_comes(make_engine: MakeEngine) -> None:
    let_go, asked = threading.Event(), time.monotonic() + 0.3

    def stop() -> bool:
        if time.monotonic() > asked:
            let_go.set()  # as closing the source would
            return True
        return False

    summary = run(
        Made(5, hook=lambda _: let_go.wait(20)), Preprocessor(), Detector(make_engine()), [], watch=Watch(stop=stop)
    )
    assert summary.frames == 0 and summary.stopped
    json.dumps(summary.to_dict(), allow_nan=False)


def test_whatever_ends_the_run_a_hang_is_told(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irdet.runtime.pipeline.GRACE", 0.2)
    let_go, engine, kept = threading.Event(), make_engine(), ListSink()

    def fail(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        raise ModelError("the engine is gone")

    engine.run = fail
    try:
        with pytest.raises(Stalled, match="the engine is gone; the source does not answer"):
            source = Made(5, hook=lambda index: index == 1 and let_go.wait(20))
            run(source, Preprocessor(), Detector(engine), [kept])
        assert kept.closed == 1
    finally:
        let_go.set()


def test_heartbeat(make_engine: MakeEngine) -> None:
    beats: list[Pulse] = []
    watch = Watch(heartbeat=0.15, beat=beats.append)
    run(Made(30, pause=0.02), Preprocessor(), Detector(make_engine()), [], watch=watch)
    assert 2 <= len(beats) <= 5
    assert 20 < beats[-1].fps < 60 and beats[-1].frames > beats[0].frames
    assert 0 < (beats[-1].latency or 0) < 0.5
    assert "frames/s" in str(beats[-1]) and "ms from capture to record" in str(beats[-1])
