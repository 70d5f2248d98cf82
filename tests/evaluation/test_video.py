from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("scipy")
from irdet.core.errors import DataError, UsageError
from irdet.core.frame import Frame
from irdet.core.info import ModelInfo
from irdet.core.targets import Target
from irdet.data.synth import SceneConfig, write_clip
from irdet.engines.base import BaseEngine
from irdet.evaluation.video import Box, Scorer, Truth, evaluate_clip, find_clips, read_truth, total
from irdet.runtime.detector import Detection, Detector
from irdet.tracking import Track


class Bright(BaseEngine):
    """Takes brightness for probability."""

    runtime = "numpy"
    max_batch: int | None = None

    def __init__(self) -> None:
        self.info = ModelInfo("bright", stride=8)

    def _compute(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return batch.copy()

    def _release(self) -> None:
        return


PIXELS = np.zeros((100, 100), np.float32)


def detection(index: int, points: list[tuple[float, float]], tracks: dict[int, tuple[float, float]]) -> Detection:
    def target(x: float, y: float) -> Target:
        return Target(x, y, (round(x), round(y), 1, 1), 1, 1.0, 1.0, 9, 1, 1, 8, 8)

    def track(number: int, x: float, y: float) -> Track:
        trail = np.zeros((1, 2))
        return Track(number, "confirmed", x, y, 0, 0, (1, 0, 1), 9, 9, 0, target(x, y), trail, trail[:, 0])

    return Detection(
        Frame(PIXELS, index=index),
        PIXELS,
        tuple(target(*point) for point in points),
        0.5,
        tracks=tuple(track(number, *place) for number, place in tracks.items()),
    )


def test_counts_by_hand() -> None:
    """Two targets for twelve frames; the tracks on the first change, one track wanders, one is false throughout."""
    boxes = {index: (Box(1, 10, 10, 5, 5), Box(2, 60, 60, 5, 5)) for index in range(3, 15)}
    scorer = Scorer(Truth(boxes), margin=2)
    scorer.add(detection(2, [(99, 99)], {9: (99, 99)}), 1.0)  # not judged
    for index in range(3, 15):
        # The first is found in all frames, by two points now and then; the second in ten.
        points = [(12.0, 12.0), *([(14.0, 16.9)] if index < 6 else []), *([(62.0, 62.0)] if index < 13 else [])]
        points += [(30.0, 30.0)] if index in (4, 8, 9) else []
        tracks = {5: (90.0, 5.0)} if index >= 6 else {}
        if 5 <= index < 9:
            tracks[1] = (12.0, 12.0)
        elif index >= 9:
            tracks[2] = (11.0, 12.0)
            tracks[1] = (50.0, 12.0) if index == 9 else (12.0, 13.0)
        scorer.add(detection(index, points, tracks), 0.5)
    score = scorer.result("made")
    found = score.detections
    assert (found.frames, found.seconds, found.boxes, found.found, found.false) == (12, 6.0, 24, 22, 3)
    assert found.pd == 22 / 24 and found.false_per_frame == 0.25
    assert found.to_dict()["false_per_hour"] == pytest.approx(1800)
    tracks_ = score.tracks
    assert (tracks_.points.found, tracks_.points.false) == (10, 10)
    assert (tracks_.tracks, tracks_.false_tracks) == (3, 1)
    # Track 1: nine of its ten frames on the first target; track 2: all of its six.
    assert (tracks_.pure_frames, tracks_.track_frames) == (15, 16)
    assert tracks_.switches == 1 and tracks_.confirmed_after == (3,)
    assert (tracks_.targets, tracks_.lost) == (2, 1)
    both = total([score, score])
    assert both.name == "all" and both.detections.frames == 24 and both.tracks.confirmed_after == (3, 3)
    json.dumps(both.to_dict(), allow_nan=False)


def test_a_clip_without_targets() -> None:
    scorer = Scorer(Truth({}))
    for index in range(100):
        scorer.add(detection(index, [], {}), 0.04)
    score = scorer.result("empty")
    assert math.isnan(score.detections.pd) and score.detections.false == 0
    # None in 4 s: below 3 in 4 s at 95 %.
    assert score.detections.to_dict()["false_per_hour_upper"] == pytest.approx(3.0 / 4 * 3600, rel=0.01)
    assert score.to_dict()["detections"]["pd"] is None and score.to_dict()["tracks"]["purity"] is None


def test_truth_is_read(tmp_path: Path) -> None:
    path = tmp_path / "clip.csv"
    path.write_text("frame0,x,y,w,h\n1,10.5,20,3,4\n4,11,20,3,4\n")
    truth = read_truth(path)
    assert truth.boxes == {1: (Box(0, 10.5, 20, 3, 4),), 4: (Box(0, 11, 20, 3, 4),)}
    # Those between without a line have no target; what lies before and after is not known.
    assert [truth.judges(index) for index in range(6)] == [False, True, True, True, True, False]
    path.write_text("frame,id,x,y,w,h,kind\n0,1,1,2,3,4,point\n0,2,5,6,7,8,drone\n")
    assert [box.id for box in read_truth(path).boxes[0]] == [1, 2]
    path.write_text("frame,x,y,w,h\n")
    assert read_truth(path).judges(0) and read_truth(path).judges(10**6)


def test_truth_of_real_and_of_synthetic_clips(shared: Path, tmp_path: Path) -> None:
    pairs = find_clips(shared / "video")
    assert len(pairs) == 8
    for _, file in pairs:
        truth = read_truth(file)
        assert len(truth.boxes) > 290 and truth.span[1] - truth.span[0] == len(truth.boxes) - 1
    written = write_clip(tmp_path / "made", SceneConfig(width=64, height=64, targets=(2, 2)), 3, 12)
    boxes = read_truth(written.truth).boxes
    assert sum(len(some) for some in boxes.values()) == written.targets > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame,x,y,w\n", "no column h"),
        ("", "no column frame"),
        ("frame,x,y,w,h\n0,1,2,3\n", "line 2: frame, x, y, w, h and id must be numbers"),
        ("frame,x,y,w,h\n0,1,2,3,a\n", "line 2"),
        ("frame,x,y,w,h\n0,1,2,3,0\n", "not a box"),
        ("frame,x,y,w,h\n-1,1,2,3,3\n", "not a box"),
        ("frame,x,y,w,h\n0,nan,2,3,3\n", "not a box"),
        ("frame,x,y,w,h\n0,1,2,3,3\n0,9,2,3,3\n", "two boxes, and there is no column id"),
        ("frame,id,x,y,w,h\n0,7,1,2,3,3\n0,7,9,2,3,3\n", "twice the same id"),
    ],
)
def test_wrong_truth(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "clip.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_truth(tmp_path / "clip.csv")


def test_clips_are_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no videos"):
        find_clips(tmp_path)
    for name in ("b.mkv", "a.mp4", "a.csv", "other.txt"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"b\.csv is not there"):
        find_clips(tmp_path)
    (tmp_path / "b.csv").touch()
    assert [(clip.name, truth.name) for clip, truth in find_clips(tmp_path)] == [("a.mp4", "a.csv"), ("b.mkv", "b.csv")]
    assert find_clips(tmp_path / "b.mkv", tmp_path / "a.csv") == [(tmp_path / "b.mkv", tmp_path / "a.csv")]
    with pytest.raises(UsageError, match="is of one clip"):
        find_clips(tmp_path, tmp_path / "a.csv")
    with pytest.raises(DataError, match="no such file"):
        find_clips(tmp_path / "c.mkv")


def test_a_clip_from_end_to_end(tmp_path: Path) -> None:
    """A target that crosses a folder of images; a hot pixel that is there in one frame only becomes no track."""
    truth = ["frame,id,x,y,w,h"]
    for index in range(25):
        pixels = np.random.default_rng(index).integers(60, 66, (80, 120)).astype(np.uint8)
        left = 5 + 4 * index
        pixels[40:43, left : left + 3] = 220
        if index % 5 == 4:
            pixels[10 + index, 110 - 4 * index] = 255
        (tmp_path / f"{index:02d}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        truth.append(f"{index},1,{left},40,3,3")
    (tmp_path / "truth.csv").write_text("\n".join(truth) + "\n")
    ((clip, file),) = find_clips(tmp_path, tmp_path / "truth.csv")
    seen: list[None] = []
    score = evaluate_clip(Detector(Bright()), clip, read_truth(file), margin=1, progress=lambda: seen.append(None))
    assert len(seen) == score.detections.frames == 25
    assert (score.detections.pd, score.detections.false) == (1.0, 5)
    assert score.tracks.points.pd == 23 / 25 and score.tracks.points.false == 0
    assert (score.tracks.tracks, score.tracks.false_tracks, score.tracks.switches) == (1, 0, 0)
    assert score.tracks.purity == 1.0 and score.tracks.frames_to_confirm == 3
    assert score.beyond == 0 and "25 frames/s assumed" in score.notes[0]
    assert score.detections.seconds == pytest.approx(1.0)

    truth += [f"{index},1,0,0,3,3" for index in range(25, 32)]
    file.write_text("\n".join(truth) + "\n")
    cut = evaluate_clip(Detector(Bright()), clip, read_truth(file), margin=1, fps=5)
    assert (cut.beyond, cut.notes, cut.detections.boxes) == (7, (), 25)
    assert cut.detections.seconds == pytest.approx(5.0)

    with pytest.raises(DataError, match="none of its frames is in the truth, which begins at frame 90"):
        evaluate_clip(Detector(Bright()), clip, Truth({90: (Box(1, 0, 0, 3, 3),)}))
