from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from irdet.core.errors import UsageError
from irdet.runtime.detector import Detection
from irdet.runtime.rotate import LOOK, RotatingSink, Rotation, parse_rotation
from irdet.runtime.sinks import CsvSink, JsonLinesSink, PictureSink, Sink


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("500MB", Rotation(size=500_000_000)),
        ("1.5 GiB", Rotation(size=3 << 29)),
        ("2kb", Rotation(size=2000)),
        ("90s", Rotation(age=90)),
        ("30min", Rotation(age=1800)),
        ("1h", Rotation(age=3600)),
        ("1d", Rotation(age=86400)),
    ],
)
def test_sizes_and_ages(text: str, wanted: Rotation) -> None:
    assert parse_rotation(text) == wanted


@pytest.mark.parametrize("text", ["", "5", "MB", "-1h", "0s", "1y", "1e3s", "nanh", "0.0001kb"])
def test_neither(text: str) -> None:
    with pytest.raises(UsageError, match="--rotate"):
        parse_rotation(text)


def _make(folder: Path) -> list[Sink]:
    return [JsonLinesSink(folder / "targets.jsonl"), CsvSink(folder / "targets.csv")]


def _rows(folder: Path) -> list[str]:
    """All rows of all parts without their headers."""
    return [row for part in sorted(folder.iterdir()) for row in (part / "targets.csv").read_text().splitlines()[1:]]


def test_by_age_nothing_is_lost_and_parts_are_whole(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    now = 100.0
    sink = RotatingSink(tmp_path / "out", _make, Rotation(age=10), lambda: now)
    for index in range(12):
        sink.write(detect(index), None)
        now += 3
    sink.close()
    parts = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert parts == ["part-0001", "part-0002", "part-0003"]
    counts = [len((tmp_path / "out" / part / "targets.jsonl").read_text().splitlines()) for part in parts]
    assert counts == [4, 4, 4]
    one = CsvSink(tmp_path / "whole.csv")
    for index in range(12):
        one.write(detect(index))
    one.close()
    assert _rows(tmp_path / "out") == (tmp_path / "whole.csv").read_text().splitlines()[1:]


def test_by_size(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    now = 0.0
    sink = RotatingSink(tmp_path, _make, Rotation(size=4000), lambda: now)
    for index in range(30):
        sink.write(detect(index), None)
        now += LOOK
    sink.close()
    sizes = [sum(file.stat().st_size for file in part.iterdir()) for part in sorted(tmp_path.iterdir())]
    assert len(sizes) > 3 and all(size >= 4000 for size in sizes[:-1]) and max(sizes) < 6000


def test_a_look_that_takes_long_is_rare(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    """As over thousands of masks, in the thread that writes."""
    now, looks = 0.0, 0
    sink = RotatingSink(tmp_path, _make, Rotation(size=10**9), lambda: now)
    plain = Path.rglob

    def slow(self: Path, pattern: str) -> object:
        nonlocal now, looks
        now, looks = now + 1.0, looks + 1
        return plain(self, pattern)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rglob", slow)
        for index in range(200):
            sink.write(detect(index), None)
            now += 0.5
    sink.close()
    assert 1 < looks < 6


def test_pictures_are_wanted_where_one_is_drawn(tmp_path: Path) -> None:
    assert not RotatingSink(tmp_path, _make, Rotation(age=1)).wants_picture
    assert RotatingSink(tmp_path, lambda folder: [PictureSink(folder)], Rotation(age=1)).wants_picture
    assert not list(tmp_path.iterdir()), "nothing is made before the first frame"
