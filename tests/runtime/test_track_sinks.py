from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy")
from irdet.core.frame import Preprocessor
from irdet.runtime.detector import Detection, Detector
from irdet.runtime.draw import annotate
from irdet.runtime.follow import Follower
from irdet.runtime.sinks import Sink
from irdet.runtime.track_sinks import MotSink, TrackCsvSink, TrackLinesSink


@pytest.fixture
def detections(make_engine: Callable[..., Any]) -> list[Detection]:
    """Ten frames of a target that moves to the right; it is gone in the seventh and eighth."""
    detector, follow, found = Detector(make_engine()), Follower(), []
    for index in range(10):
        pixels = np.random.default_rng(index).integers(60, 66, (60, 90)).astype(np.uint8)
        if index not in (6, 7):
            pixels[20:23, 10 + 4 * index : 13 + 4 * index] = 220
        found.append(follow(detector.detect(Preprocessor()(pixels, index, index / 30, "clip.mkv"))))
    return found


def write(sink: Sink, detections: list[Detection]) -> str:
    for detection in detections:
        sink.write(detection, None)
    sink.close()
    sink.close()
    assert sink.path is not None
    return sink.path.read_text(encoding="utf-8")


def test_json_lines(tmp_path: Path, detections: list[Detection]) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = write(TrackLinesSink(tmp_path / "new" / "tracks.jsonl"), detections)
    records = [json.loads(line, parse_constant=no_constant) for line in text.splitlines()]
    assert [record["frame"] for record in records] == list(range(10))
    assert all(list(record) == ["frame", "time", "source", "tracks"] for record in records)
    states = [record["tracks"][0]["state"] for record in records]
    assert states == ["tentative"] * 2 + ["confirmed"] * 4 + ["coasted"] * 2 + ["confirmed"] * 2
    for record, detection in zip(records, detections, strict=True):
        (values,), (track,) = record["tracks"], detection.tracks or ()
        assert [values[name] for name in ("x", "y", "vx", "vy")] == pytest.approx(
            [track.x, track.y, track.vx, track.vy], abs=6e-4
        )
        np.testing.assert_allclose(values["covariance"], track.covariance, atol=6e-6)
        assert (values["id"], values["age"], values["hits"], values["misses"]) == (
            1,
            track.age,
            track.hits,
            track.misses,
        )
        assert values["target"] == (None if track.misses else 0)
        assert len(values["scr"]) == track.age and (values["scr"][-1] is None) == bool(track.misses)


def test_csv(tmp_path: Path, detections: list[Detection]) -> None:
    rows = list(csv.DictReader(write(TrackCsvSink(tmp_path / "tracks.csv"), detections).splitlines()))
    assert len(rows) == 10 and {row["id"] for row in rows} == {"1"}
    assert [row["scr"] == "" for row in rows] == [index in (6, 7) for index in range(10)]
    last, (track,) = rows[-1], detections[-1].tracks or ()
    assert [float(last[name]) for name in ("x", "vx", "place_variance", "velocity_variance")] == pytest.approx(
        [track.x, track.vx, track.variance[0], track.variance[2]], abs=6e-4
    )
    assert float(last["mean_scr"]) == pytest.approx(np.nanmean(track.scr), abs=1e-3)


def test_mot_challenge(tmp_path: Path, detections: list[Detection]) -> None:
    rows = [line.split(",") for line in write(MotSink(tmp_path / "tracks.mot.txt"), detections).splitlines()]
    assert [int(row[0]) for row in rows] == list(range(3, 11))  # confirmed in its third frame, which is number 3 there
    for row in rows:
        assert len(row) == 10 and row[1] == "1" and row[7:] == ["-1", "-1", "-1"]
        # The first pixel of the target, counted from 1.
        assert [float(value) for value in row[2:6]] == pytest.approx([11 + 4 * (int(row[0]) - 1), 21, 3, 3], abs=0.4)
    assert write(MotSink(tmp_path / "none.mot.txt"), detections[:2]) == ""


def test_tracks_are_drawn(detections: list[Detection]) -> None:
    def drawn(index: int) -> np.ndarray:
        detection = detections[index]
        return np.ptp(annotate(detection.frame, detection.targets, tracks=detection.tracks).astype(int), axis=2) > 60

    # Nothing in colour before it is confirmed; then a bracket, and a trail to where it came from.
    assert not drawn(1).any() and drawn(3).any()
    scale, strip = 6, annotate(detections[9].frame, ()).shape[0] - 6 * 60
    row = drawn(9)[strip + 21 * scale : strip + 22 * scale]
    assert row[:, 14 * scale : 40 * scale].any(axis=0).mean() > 0.9
    assert not row[:, 45 * scale : 50 * scale].any()  # the target itself stays free
    # Coasted: still there, where nothing was found.
    assert not detections[7].targets and drawn(7).any()
