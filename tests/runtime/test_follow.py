from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("scipy")
from irdet.core.frame import Preprocessor
from irdet.runtime.detector import Detection, Detector
from irdet.runtime.follow import Follower
from irdet.runtime.pipeline import run
from irdet.runtime.sinks import JsonLinesSink
from irdet.runtime.sources import open_source
from irdet.tracking import TrackerOptions

MakeEngine = Callable[..., Any]


def picture(x: float, y: float, shape: tuple[int, int] = (80, 120), seed: int = 0) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(seed).integers(60, 66, shape).astype(np.uint8)
    left, top = round(x) - 1, round(y) - 1
    pixels[max(0, top) : top + 3, max(0, left) : left + 3] = 220
    return pixels


@pytest.fixture
def detect(make_engine: MakeEngine) -> Callable[..., Detection]:
    detector = Detector(make_engine())

    def one(pixels: NDArray[np.uint8], index: int, time: float | None = None) -> Detection:
        return detector.detect(Preprocessor()(pixels, index, time, "clip"))

    return one


def test_a_moving_target_becomes_a_track(detect: Callable[..., Detection]) -> None:
    follow = Follower()
    for index in range(30):
        detection = follow(detect(picture(10 + 3 * index, 40, seed=index), index, index / 25))
        assert detection.tracks is not None
        (track,) = detection.tracks
        assert track.id == 1 and track.target in detection.targets
    assert (track.vx, track.vy) == pytest.approx((3, 0), abs=0.2)
    summary = follow.summary()
    assert (summary.tracks, summary.longest, summary.mean_length, summary.frames_with_tracks) == (1, 30, 30, 28)
    assert summary.left_out == 0 and summary.stabilised is None


def test_images_are_counted_where_some_are_missing(detect: Callable[..., Detection]) -> None:
    follow = Follower()
    for index in [*range(12), *range(18, 26)]:
        detection = follow(detect(picture(8 + 4 * index, 40), index))
        assert detection.tracks is not None
        assert [track.id for track in detection.tracks] == [1]


def test_a_source_that_begins_anew_ends_its_tracks(detect: Callable[..., Detection]) -> None:
    follow = Follower()
    for time in (10.0, 10.04, 10.08, 10.12):
        follow(detect(picture(50, 40), 0, time))
    (track,) = follow(detect(picture(50, 40), 0, 0.0)).tracks or ()
    assert (track.id, track.age) == (2, 1)
    (track,) = follow(detect(picture(50, 40, (64, 100)), 0, 0.04)).tracks or ()
    assert (track.id, track.age) == (3, 1)
    assert follow.summary().tracks == 1 and follow.summary().longest == 4


def test_stabilised(detect: Callable[..., Detection]) -> None:
    """A camera that shakes by 6 px: the track of a slow target holds only where that is taken out."""
    rng = np.random.default_rng(1)
    ground = cv2.GaussianBlur(rng.normal(size=(300, 400)).astype(np.float32), (0, 0), 2.5)
    ground = 60 + 8 * ground / ground.std()
    places = 40 + np.clip(6 * rng.normal(size=(60, 2)), -30, 30)

    def followed(stabilise: bool) -> tuple[int, int]:
        follow = Follower(TrackerOptions(speed=3), stabilise)
        hits = longest = 0
        for index, (x, y) in enumerate(places):
            matrix = np.array([[1, 0, x], [0, 1, y]])
            view = cv2.warpAffine(ground, matrix, (200, 140), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
            left, top = round(100 + 0.5 * index - (x - 40)), round(70 - (y - 40))
            view[top - 1 : top + 2, left - 1 : left + 2] = 240
            detection = follow(detect(np.clip(view, 0, 255).astype(np.uint8), index, index / 25))
            confirmed = [track for track in detection.tracks or () if track.state == "confirmed"]
            hits += bool(confirmed)
            longest = max([longest, *(track.age for track in confirmed)])
        if stabilise:
            assert (follow.summary().stabilised or 0) >= 55
        return hits, longest

    hits, longest = followed(True)
    assert hits >= 56 and longest == 60
    assert followed(False)[1] < 40


def test_the_pipeline_hands_tracks_on(tmp_path: Path, make_engine: MakeEngine) -> None:
    for index in range(8):
        data = cv2.imencode(".png", picture(20 + 5 * index, 30))[1]
        (tmp_path / f"{index}.png").write_bytes(data.tobytes())
    kept: list[Detection] = []
    follow = Follower()
    with open_source(tmp_path) as source:
        run(
            source,
            Preprocessor(),
            Detector(make_engine()),
            [JsonLinesSink(tmp_path / "out.jsonl")],
            lambda detection: kept.append(detection),
            follow,
        )
    assert [track.state for detection in kept for track in detection.tracks or ()] == ["tentative"] * 2 + [
        "confirmed"
    ] * 6
    with open_source(tmp_path) as source:
        run(source, Preprocessor(), Detector(make_engine()), [], lambda detection: kept.append(detection))
    assert kept[-1].tracks is None
