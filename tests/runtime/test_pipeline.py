from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.core.errors import IrdetError, ModelError
from irdet.core.frame import Preprocessor
from irdet.runtime.detector import Detection, Detector
from irdet.runtime.pipeline import STAGES, run
from irdet.runtime.sinks import CsvSink, JsonLinesSink, MaskSink, PictureSink, Sink, VideoSink
from irdet.runtime.sources import open_source

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


def test_times_add_up(folder: Path, make_engine: MakeEngine, tmp_path: Path) -> None:
    with open_source(folder) as source:
        summary = run(source, Preprocessor(), Detector(make_engine()), [PictureSink(tmp_path / "a")])
    assert tuple(summary.times) == STAGES
    assert all(seconds > 0 for seconds in summary.times.values())
    assert sum(summary.times.values()) <= summary.seconds
    assert summary.fps == pytest.approx(8 / summary.seconds)
    record = json.loads(json.dumps(summary.to_dict(), allow_nan=False))
    assert tuple(record["stages"]) == STAGES and record["skipped"][0]["name"] == "2.tiff"
    for stage, seconds in summary.times.items():
        assert record["stages"][stage]["mean_ms"] == pytest.approx(1e3 * seconds / 8, abs=1e-3)


def test_nothing_is_drawn_where_nobody_looks(folder: Path, make_engine: MakeEngine) -> None:
    kept = ListSink()  # refuses a picture
    with open_source(folder) as source:
        summary = run(source, Preprocessor(), Detector(make_engine()), [kept])
    assert summary.times["draw"] < summary.times["inference"]


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
