from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irdet.core.errors import IrdetError, UsageError
from irdet.core.frame import Preprocessor
from irdet.runtime.detector import Detection
from irdet.runtime.resume import Done, after, finished, free_name, resume
from irdet.runtime.sinks import CsvSink, JsonLinesSink
from irdet.runtime.sources import NothingLeft, SourceOptions


def _write(folder: Path, detections: list[Detection], go_on: bool = False) -> None:
    sinks = JsonLinesSink(folder / "targets.jsonl", go_on), CsvSink(folder / "targets.csv", go_on)
    for detection in detections:
        for sink in sinks:
            sink.write(detection)
    for sink in sinks:
        sink.close()


def _texts(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "targets.jsonl").read_bytes(), (folder / "targets.csv").read_bytes()


def test_wherever_it_was_killed_the_files_end_as_if_it_had_not_been(
    tmp_path: Path, detect: Callable[..., Detection]
) -> None:
    """Every length of the last line and its rows, as a kill in the middle of a write leaves them."""
    detections = [detect(index, index / 25, targets=index % 4) for index in range(8)]
    whole = tmp_path / "whole"
    _write(whole, detections)
    lines, rows = _texts(whole)
    ends = [0] + [index + 1 for index, byte in enumerate(lines) if byte == 10]
    tried = 0
    for cut in [*range(ends[5] - 3, ends[6] + 2), 0, 1, ends[1]]:
        done = max(number for number, end in enumerate(ends) if end <= cut)  # whole lines
        known = [row for row in rows.splitlines(keepends=True)[1:] if int(row.split(b",")[0]) < done]
        header = rows.splitlines(keepends=True)[0]
        table = header + b"".join(known)
        own = sum(len(row) for row in known if int(row.split(b",")[0]) == done - 1)
        for missing in {0, min(1, own), own // 2, own}:  # of the last frame's rows
            folder = tmp_path / f"{cut}-{missing}"
            folder.mkdir()
            (folder / "targets.jsonl").write_bytes(lines[:cut])
            (folder / "targets.csv").write_bytes(table[: len(table) - missing])
            last = resume(folder)
            assert last is None or last.frame <= done - 1
            _write(folder, detections[0 if last is None else last.frame + 1 :], go_on=True)
            assert _texts(folder) == (lines, rows)
            tried += 1
    assert tried > 50


def test_rows_that_are_ahead_of_the_lines_are_cut(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    detections = [detect(index) for index in range(4)]
    _write(tmp_path, detections)
    lines, _ = _texts(tmp_path)
    (tmp_path / "targets.jsonl").write_bytes(b"".join(lines.splitlines(keepends=True)[:2]))
    assert resume(tmp_path) == Done(1, "a.png")
    assert {row.split(b",")[0] for row in _texts(tmp_path)[1].splitlines()[1:]} == {b"0", b"1"}


def test_a_run_without_targets(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    _write(tmp_path, [detect(index, targets=0) for index in range(3)])
    before = _texts(tmp_path)
    assert resume(tmp_path) == Done(2, "a.png") and _texts(tmp_path) == before


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no targets\.jsonl"):
        resume(tmp_path / "none")
    assert resume(tmp_path) is None, "an empty folder is of a run that was stopped before its first frame"
    (tmp_path / "other").write_text("")
    with pytest.raises(UsageError, match=r"no targets\.jsonl"):
        resume(tmp_path)
    (tmp_path / "targets.jsonl").write_text("")
    assert resume(tmp_path) is None


def test_what_a_kill_left_half_written_is_taken_away(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    _write(tmp_path, [detect(0)])
    (tmp_path / "masks").mkdir()
    for name in ("masks/.f1-d4fc983b70f185a5.png", "masks/f0.png", ".run-0123456789abcdef.json", "masks/.mine.png"):
        (tmp_path / name).touch()
    resume(tmp_path)
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"f0.png", ".mine.png"}
    assert not list(tmp_path.glob(".run-*"))
    (tmp_path / "new").mkdir()
    for name in ("run.json", ".run-0123456789abcdef.json"):
        (tmp_path / "new" / name).touch()
    assert resume(tmp_path / "new") is None, "stopped before its first line"


@given(st.lists(st.integers(0, 65535), min_size=6, max_size=6), st.integers(0, 5))
def test_the_range_of_a_deep_source_goes_on(
    tmp_path_factory: pytest.TempPathFactory, levels: list[int], done: int
) -> None:
    """The frames after the last one that is done are mapped as if the run had not been cut off there."""
    folder = tmp_path_factory.mktemp("run")
    raw = [np.array([[level, level // 2, 7]], np.uint16) for level in levels]
    whole, rest = Preprocessor(), Preprocessor()
    wanted = [whole(pixels, index, index / 25) for index, pixels in enumerate(raw)]
    _write(folder, [Detection(frame, np.zeros((1, 3), np.float32), (), 0.5) for frame in wanted[: done + 1]])
    last = resume(folder)
    assert last is not None and last.range == wanted[done].range is not None
    rest.begin(last.range)
    for index in range(done + 1, 6):
        assert np.array_equal(rest(raw[index], index, index / 25).pixels, wanted[index].pixels)


@pytest.mark.parametrize("rows", [None, b"", b"frame,ti", b"HEADER"])
@pytest.mark.parametrize("targets", [0, 2])
def test_a_run_that_was_killed_at_its_first_frame(
    tmp_path: Path, detect: Callable[..., Detection], rows: bytes | None, targets: int
) -> None:
    """The table is begun after the first line: without it, that frame's rows are not there."""
    detections = [detect(index, targets=targets) for index in range(3)]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    _write(whole, detections)
    cut.mkdir()
    lines, table = _texts(whole)
    (cut / "targets.jsonl").write_bytes(lines.splitlines(keepends=True)[0])
    if rows is not None:
        (cut / "targets.csv").write_bytes(table.splitlines(keepends=True)[0] if rows == b"HEADER" else rows)
    last = resume(cut)
    assert last is None or (last.frame == 0 and not targets)
    _write(cut, detections[0 if last is None else 1 :], go_on=True)
    assert _texts(cut) == (lines, table)


def test_sources_with_breaks_and_long_fields_in_the_table(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    detections = [detect(index, None, "a" * 200_000 + f'"{index}, b') for index in range(3)]
    _write(tmp_path, detections)
    before = _texts(tmp_path)
    assert resume(tmp_path) == Done(2, detections[2].frame.source) and _texts(tmp_path) == before
    with (tmp_path / "targets.jsonl").open("a") as file:
        file.write('{"frame": 3, "targets": [], "range": [1, 1' + "0" * 400 + "]}\n")
    with pytest.raises(IrdetError, match="no frame of irdet's"):
        resume(tmp_path)


@pytest.mark.parametrize("name", ["coco.json", "tracks.jsonl", "part-0001"])
def test_runs_that_need_all_their_frames(tmp_path: Path, detect: Callable[..., Detection], name: str) -> None:
    """Their files would end where the run was cut off."""
    _write(tmp_path, [detect(0)])
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match=f"{name} of that run needs the whole run"):
        resume(tmp_path)


def test_finished_frames(tmp_path: Path, detect: Callable[..., Detection]) -> None:
    assert list(finished(tmp_path)) == []
    _write(tmp_path, [detect(index, None, f"{index}.png") for index in range(3)])
    assert list(finished(tmp_path)) == [Done(index, f"{index}.png") for index in range(3)]


@settings(max_examples=150)
@given(st.binary(max_size=400), st.binary(max_size=200))
def test_any_bytes_give_a_number_or_one_line(tmp_path_factory: pytest.TempPathFactory, one: bytes, two: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "targets.jsonl").write_bytes(one)
    (folder / "targets.csv").write_bytes(two)
    try:
        number = resume(folder)
    except IrdetError as error:
        assert "\n" not in str(error)
    else:
        assert number is None or number.frame >= 0


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        '{"frame": -1, "targets": []}',
        '{"frame": true, "targets": []}',
        "nul",
        '{"frame": 1, "targets": [], "range": [2, 1]}',
    ],
)
def test_lines_that_are_no_frames(tmp_path: Path, line: str) -> None:
    (tmp_path / "targets.jsonl").write_text(line + "\n")
    with pytest.raises(IrdetError, match="no frame of irdet's"):
        resume(tmp_path)
    assert (tmp_path / "targets.jsonl").read_text() == line + "\n", "what is not understood is left alone"


@given(st.integers(0, 20), st.integers(1, 5), st.integers(1, 9), st.integers(0, 8))
def test_what_is_left_to_do(start: int, stride: int, limit: int, done: int) -> None:
    options = SourceOptions(start=start, stride=stride, limit=limit)
    every = [start + stride * number for number in range(limit)]
    assert after(options, None) == options
    if done >= limit - 1:
        with pytest.raises(NothingLeft, match="all frames"):
            after(options, every[-1])
        return
    left = after(options, every[done])
    assert [index for index in range(200) if left.takes(index)] == every[done + 1 :]


def test_another_stride(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="frame 3 is none"):
        after(SourceOptions(stride=2), 3)


def test_a_video_gets_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "annotated.mkv"
    assert free_name(path) == path
    path.touch()
    (tmp_path / "annotated-2.mkv").touch()
    assert free_name(path) == tmp_path / "annotated-3.mkv"
