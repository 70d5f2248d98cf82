from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from irdet.core.errors import IrdetError, MissingDependency
from irdet.core.frame import Preprocessor
from irdet.core.images import read_image
from irdet.core.targets import Target
from irdet.runtime import sinks
from irdet.runtime.detector import Detection, Detector
from irdet.runtime.draw import annotate
from irdet.runtime.sinks import (
    CsvSink,
    JsonLinesSink,
    MaskSink,
    PictureSink,
    VideoSink,
    WindowSink,
    frame_record,
)
from irdet.runtime.sources import open_source

ROOT = Path(__file__).resolve().parents[2]


def test_json_lines_give_the_targets_back(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    detections = [detect(index, index / 30, "clip.mkv", targets=index) for index in range(4)]
    sink = JsonLinesSink(tmp_path / "new" / "targets.jsonl")
    for detection in detections:
        sink.write(detection)
    sink.close()
    sink.close()

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    lines = (tmp_path / "new" / "targets.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4
    for line, detection in zip(lines, detections, strict=True):
        record = json.loads(line, parse_constant=no_constant)
        assert list(record) == ["frame", "time", "source", "targets"]
        assert record["frame"] == detection.frame.index and record["source"] == "clip.mkv"
        assert record["time"] == pytest.approx(detection.frame.time, abs=1e-6)
        assert len(record["targets"]) == len(detection.targets)
        for values, target in zip(record["targets"], detection.targets, strict=True):
            back = Target(**{**values, "bbox": tuple(values["bbox"]), "frame": target.frame, "time": target.time})
            assert (back.bbox, back.area, back.saturated) == (target.bbox, target.area, target.saturated)
            wanted = [target.x, target.y, target.score, target.peak, target.background, target.contrast, target.scr]
            got = [back.x, back.y, back.score, back.peak, back.background, back.contrast, back.scr]
            assert got == pytest.approx(wanted, abs=6e-4)
    assert not detections[0].targets and detections[3].targets


def test_counts_far_below_one_keep_their_digits(make_engine: Callable[..., Any]) -> None:
    values = np.full((24, 24), 3e-4, np.float32) + np.float32(1e-6) * np.random.default_rng(0).random(
        (24, 24), np.float32
    )
    values[11:13, 11:13] = 5e-4
    detection = Detector(make_engine()).detect(Preprocessor((2.5e-4, 6e-4))(values))
    (target,), (written,) = detection.targets, frame_record(detection)["targets"]
    for name in ("peak", "background", "background_std", "contrast"):
        assert written[name] == pytest.approx(getattr(target, name), rel=1e-5) and written[name] > 0


def test_lines_of_deep_frames_tell_their_range(make_engine: Callable[..., Any]) -> None:
    detector, preprocess = Detector(make_engine()), Preprocessor()
    for level, range_ in ((9000, (3, 9000)), (1000, (3, 8600))):
        frame = preprocess(np.full((1, 2), level, np.uint16) - np.array([[0, level - 3]], np.uint16))
        assert frame_record(detector.detect(frame))["range"] == pytest.approx(range_)
    for other in (Preprocessor((0, 10)), Preprocessor(mode="local")):
        assert "range" not in frame_record(detector.detect(other(np.full((1, 2), 5, np.uint16))))
    assert "range" not in frame_record(detector.detect(Preprocessor()(np.full((1, 2), 5, np.uint8))))


def test_csv_gives_the_targets_back(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    detections = [detect(index, None, f'odd, "name" {index}.png') for index in range(3)]
    sink = CsvSink(tmp_path / "targets.csv")
    for detection in detections:
        sink.write(detection)
    sink.close()
    with (tmp_path / "targets.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    targets = [target for detection in detections for target in detection.targets]
    assert len(rows) == len(targets) > 3
    for row, target in zip(rows, targets, strict=True):
        assert row["source"] == f'odd, "name" {target.frame}.png' and row["time"] == ""
        assert int(row["frame"]) == target.frame and int(row["area"]) == target.area
        assert tuple(int(row[name]) for name in ("left", "top", "width", "height")) == target.bbox
        assert float(row["x"]) == pytest.approx(target.x, abs=6e-4)
        assert float(row["scr"]) == pytest.approx(target.scr, abs=6e-4)
        assert bool(int(row["saturated"])) is target.saturated


def test_csv_without_targets_has_its_header(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    sink = CsvSink(tmp_path / "targets.csv")
    sink.write(detect(targets=0))
    sink.close()
    (line,) = (tmp_path / "targets.csv").read_text().splitlines()
    assert line.startswith("frame,time,source,x,y,left,top,width,height,area,score")


def test_lines_are_there_before_the_file_is_closed(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    """So a run that is killed keeps every finished frame."""
    lines, rows = JsonLinesSink(tmp_path / "targets.jsonl"), CsvSink(tmp_path / "targets.csv")
    for index in range(3):
        lines.write(detect(index))
        rows.write(detect(index))
        assert len((tmp_path / "targets.jsonl").read_text().splitlines()) == index + 1
    written = (tmp_path / "targets.csv").read_text()
    lines.close()
    rows.close()
    assert (tmp_path / "targets.csv").read_text() == written and written.endswith("\n")


@pytest.mark.parametrize("sink", [JsonLinesSink, CsvSink, PictureSink, MaskSink])
def test_nothing_is_made_before_the_first_frame(tmp_path: Path, sink: Callable[[Path], Any]) -> None:
    sink(tmp_path / "out").close()
    VideoSink(tmp_path / "out.mkv", 25).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [JsonLinesSink, CsvSink, PictureSink, MaskSink, lambda path: VideoSink(path, 25)])
def test_place_that_cannot_be_written_to(
    tmp_path: Path, make: Callable[[Path], Any], detect: Callable[..., Detection]
) -> None:
    (tmp_path / "file").write_text("in place of a folder")
    detection = detect()
    with pytest.raises(IrdetError, match=r"cannot write .*file") as caught:
        make(tmp_path / "file" / "out.mkv").write(detection, annotate(detection.frame, detection.targets))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("make", [JsonLinesSink, CsvSink])
def test_full_disk_is_told(make: Callable[[Path], Any], detect: Callable[..., Detection]) -> None:
    sink = make(Path("/dev/full"))
    with pytest.raises(IrdetError, match="cannot write /dev/full: No space left on device"):
        sink.write(detect())
    with pytest.raises(IrdetError, match="cannot write /dev/full"):
        sink.close()  # what is still in the buffer does not fit either
    sink.close()


@pytest.mark.parametrize("fps", [30.0, 7.5, None])
def test_video_reads_back_with_all_its_frames(
    tmp_path: Path, fps: float | None, detect: Callable[..., Detection], capfd: pytest.CaptureFixture[str]
) -> None:
    sink = VideoSink(tmp_path / "annotated.mkv", fps)
    pictures = []
    for index in range(20):
        detection = detect(index, index / 25, "clip.mkv")
        pictures.append(annotate(detection.frame, detection.targets))
        sink.write(detection, pictures[-1])
    sink.close()
    sink.close()
    with open_source(tmp_path / "annotated.mkv") as video:
        assert video.fps == pytest.approx(fps or 25.0) and video.length == 20
        frames = [frame.pixels for frame in video]
    assert len(frames) == 20 and video.skipped.frames == 0
    for frame, picture in zip(frames, pictures, strict=True):
        assert np.asarray(frame).shape[0] == picture.shape[0] + picture.shape[0] % 2
        assert cv2.PSNR(np.asarray(frame)[: picture.shape[0]], picture) > 28
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("raw", [True, False], ids=["jpeg", "ffmpeg"])
def test_video_keeps_a_small_target(
    tmp_path: Path, raw: bool, detect: Callable[..., Detection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever codes the frames: irdet, or FFmpeg for an OpenCV whose writer takes no JPEGs."""
    if not raw:
        monkeypatch.setattr(sinks, "_RAW_VIDEO", [])
    elif not sinks._RAW_VIDEO:
        pytest.skip("this OpenCV's writer takes no JPEGs")
    rng = np.random.default_rng(0)
    picture = np.clip(rng.normal(90, 2, (240, 320, 1)).repeat(3, axis=2).round(), 0, 255).astype(np.uint8)
    picture[101:103, 203:205] += 60
    sink = VideoSink(tmp_path / "target.mkv", 25)
    for _ in range(3):
        sink.write(detect(), picture)
    sink.close()
    with open_source(tmp_path / "target.mkv") as video:
        frames = [np.asarray(frame.pixels).astype(int) for frame in video]
    assert len(frames) == 3
    for frame in frames:
        assert np.unravel_index(frame[..., 0].argmax(), (240, 320)) in {(y, x) for y in (101, 102) for x in (203, 204)}
        assert abs(frame[101:103, 203:205] - picture[101:103, 203:205].astype(int)).mean() < (6 if raw else 15)


def test_video_of_odd_and_changing_sizes(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    sink = VideoSink(tmp_path / "odd.mkv", 25)
    for height, width in ((41, 63), (41, 63), (42, 64), (80, 100), (41, 63)):
        sink.write(detect(), np.full((height, width, 3), 128, np.uint8))
    sink.close()
    with open_source(tmp_path / "odd.mkv") as video:
        frames = [np.asarray(frame.pixels) for frame in video]
    assert [frame.shape for frame in frames] == [(42, 64, 3)] * 5
    assert all(abs(frame.astype(int) - 128).max() < 4 for frame in frames)


_WRITER = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
from irdet.core.errors import IrdetError
from irdet.runtime.sinks import VideoSink
if sys.argv[2] == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
sink = VideoSink(Path(sys.argv[1]), 25)
noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8)
for index in range(60):
    sink.write(None, noise)
if sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
try:
    sink.close()
except IrdetError as error:
    sys.exit(str(error))
"""


def write_video(path: Path, fault: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _WRITER, str(path), fault],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and limits")
def test_killed_run_leaves_a_video_that_plays(tmp_path: Path) -> None:
    assert write_video(tmp_path / "killed.mkv", "kill").returncode == -9
    with open_source(tmp_path / "killed.mkv") as video:
        frames = [frame.index for frame in video]
    assert 40 < len(frames) <= 60 and frames == list(range(len(frames)))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and limits")
def test_video_that_did_not_arrive_is_told(tmp_path: Path) -> None:
    """OpenCV's writer says nothing where the disk is full; a limit on the file's size does the same to it."""
    result = write_video(tmp_path / "full.mkv", "full")
    assert result.returncode == 1
    assert result.stderr == f"cannot write {tmp_path}/full.mkv: not all of its 60 frames arrived; disk full?\n"


def test_video_stops_while_the_disk_has_room_to_finish_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detect: Callable[..., Detection]
) -> None:
    import shutil

    sink = VideoSink(tmp_path / "a.mkv", 25)
    frame = np.full((40, 60, 3), 100, np.uint8)
    for _ in range(10):
        sink.write(detect(), frame)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(IrdetError, match="the disk is full; the first 10 frames are kept"):
        sink.write(detect(), frame)
    with open_source(tmp_path / "a.mkv") as video:
        assert len(list(video)) == 10


def test_a_small_disk_is_filled_and_the_video_plays(
    tmp_path: Path, detect: Callable[..., Detection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the container holds back is known, so a disk of two megabytes holds more than a megabyte of frames."""
    path, size = tmp_path / "a.mkv", 2 << 20
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda _: usage._replace(free=size - (path.stat().st_size if path.exists() else 0)),
    )
    sink, frames = VideoSink(path, 25), 0
    rng = np.random.default_rng(0)
    with pytest.raises(IrdetError, match="the disk is full") as told:
        while True:
            sink.write(detect(), rng.integers(0, 256, (120, 160, 3), np.uint8))
            frames += 1
    assert size // 2 < path.stat().st_size < size and f"the first {frames} frames are kept" in str(told.value)
    with open_source(path) as video:
        assert len(list(video)) == frames
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(IrdetError, match="no room for one frame"):
        VideoSink(tmp_path / "new" / "b.mkv", 25).write(detect(), np.zeros((60, 80, 3), np.uint8))
    assert not (tmp_path / "new").exists()


def test_pictures_are_named_after_their_source(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    sink = PictureSink(tmp_path / "annotated")
    for index, name in enumerate(["a.png", "b/a.png", "a.tif", "a.tif", "../../up.png", "wärme.jpg", ""]):
        detection = detect(index, None, name)
        sink.write(detection, annotate(detection.frame, detection.targets))
    names = sorted(path.name for path in tmp_path.rglob("*.png"))
    wanted = ["a.png", "b_a.png", "a.tif.png", "a.tif-3.png", ".._.._up.png", "wärme.png", "frame.png"]
    assert names == sorted(wanted) and not list(tmp_path.parent.glob("up.png"))
    again = PictureSink(tmp_path / "annotated", [(0, "a.png"), (1, "b/a.png")])
    detection = detect(2, None, "a.tif")
    again.write(detection, np.zeros((60, 80, 3), np.uint8))
    assert not read_image(tmp_path / "annotated" / "a.tif.png").any(), "a run that goes on keeps to the names"
    detection = detect(0, None, "a.png")
    assert np.array_equal(read_image(tmp_path / "annotated" / "a.png"), annotate(detection.frame, detection.targets))


def test_long_paths_have_pictures_too(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    """A path below a folder may be longer than a name."""
    sink = MaskSink(tmp_path / "masks")
    sources = [f"{'ä' * 90}/{'b' * 90}/{end}.png" for end in "12"]
    for index, name in enumerate(sources):
        sink.write(detect(index, None, name))
    names = {path.name for path in (tmp_path / "masks").iterdir()}
    assert len(names) == 2 and all(name.startswith("ä" * 90) for name in names)
    again = MaskSink(tmp_path / "masks", [(0, sources[0])])
    again.write(detect(1, None, sources[1]))
    assert {path.name for path in (tmp_path / "masks").iterdir()} == names


def test_masks_are_those_of_the_targets(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    sink = MaskSink(tmp_path / "masks")
    for index in range(2):
        sink.write(detect(index, index / 25, "clip.mkv"))
    for index in range(2):
        mask = read_image(tmp_path / "masks" / f"{index:06d}.png")
        detection = detect(index)
        assert mask.dtype == np.uint8 and np.array_equal(mask, np.where(detection.mask, 255, 0))
        assert np.count_nonzero(mask) == sum(target.area for target in detection.targets) > 0


def test_window_tells_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_windows(*arguments: object) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(MissingDependency, match="needs a display"):
        WindowSink("irdet")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", no_windows)
    with pytest.raises(MissingDependency, match="pip install opencv-python"):
        WindowSink("irdet")
