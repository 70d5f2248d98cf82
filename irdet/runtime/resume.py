"""Going on with a run that was cut off: what it finished is kept, and what it had half written is cut away."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from irdet.core.errors import IrdetError, UsageError
from irdet.core.files import abandoned
from irdet.runtime.provenance import NAME as RECORD
from irdet.runtime.sources import NothingLeft, SourceOptions

#: A line or row is no longer than this (bytes): two million targets in one frame are no frame.
LONGEST = 1 << 29

#: What runs leave that cannot be gone on with.
_WHOLE = ("coco.json", "tracks.jsonl", "part-0001")

#: Records of a run beside that of its options.
_RESULTS = ("targets.jsonl", "targets.csv", "tracks.jsonl", "tracks.csv", "tracks.mot.txt", "coco.json")

#: Folders of pictures.
_PICTURES = ("masks", "annotated")

#: What there is before the first line.
_BEFORE = {RECORD, *_PICTURES}

#: No frame has a longer number.
_DIGITS = 18

#: Bytes that are read from the end of a file at first.
_STEP = 1 << 16


@dataclass(frozen=True)
class Done:
    """The last frame that a run finished.

    Attributes:
        frame: Its number in its source.
        source: What the frame was called; None where its line does not tell.
        range: Its `Frame.range`, from which that of the next frame follows.
    """

    frame: int
    source: str | None = None
    range: tuple[float, float] | None = None


def resume(folder: Path) -> Done | None:
    """Finds the last frame that a run finished, cuts its files behind it, and takes away what was half written.

    A frame's masks and pictures are written before its line, and that before its rows, so the last frame counts only
    where all its rows are there. Of a run that was stopped before its first line, an empty folder is left, or one with
    its record and the first frame's pictures.

    Args:
        folder: The run's folder.

    Returns:
        That frame; None where none was finished.

    Raises:
        UsageError: The folder holds no run of `irdet infer`.
        IrdetError: Its files cannot be read or cut.
    """
    lines, rows = folder / "targets.jsonl", folder / "targets.csv"
    for half in (one for kind in ("", *_PICTURES) for one in abandoned(folder / kind)):
        with contextlib.suppress(OSError):
            half.unlink()
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    if not there or (RECORD in there and there <= _BEFORE):
        return None
    if whole := [name for name in _WHOLE if (folder / name).exists()]:
        raise UsageError(
            f"--resume {folder}: {whole[0]} of that run needs the whole run (--coco, --track, --rotate); run it anew"
        )
    if not lines.is_file():
        raise UsageError(f"--resume {folder}: no targets.jsonl of a run is there")
    try:
        end = _whole_lines(lines)
        last = _last_line(lines, end)
        if last is None:
            _cut(lines, 0)
            rows.unlink(missing_ok=True)
            return None
        done: Done | None
        done, targets = _frame(lines, last)
        if rows.is_file() or end == len(last):  # the table is begun after the first line
            _cut_rows(rows, done.frame)
            if _rows_of(rows, done.frame) != targets:
                end -= len(last)
                last = _last_line(lines, end)
                done = None if last is None else _frame(lines, last)[0]
                _cut_rows(rows, -1 if done is None else done.frame)
        _cut(lines, end)
    except OSError as error:
        raise IrdetError(f"cannot resume {folder}: {error.strerror or error}") from error
    return done


def clear(folder: Path, spared: Collection[Path] = ()) -> None:
    """Takes away what a run that a folder held before has left: mixed with what the next one writes it would mislead.

    Of a folder without a run's record nothing is taken away: its masks are the labels of a data set.

    Args:
        folder: The folder of both.
        spared: Files, and folders of files, that the next run reads; absolute.

    Raises:
        UsageError: The folder holds pictures, and no record of a run that wrote them.
        IrdetError: Something cannot be taken away.
    """
    if not (folder / RECORD).is_file():
        if foreign := [kind for kind in _PICTURES if any((folder / kind).glob("*.png"))]:
            raise UsageError(f"{folder / foreign[0]} holds pictures that are no run's: choose another --output")
        return
    try:
        for part in (folder, *folder.glob("part-[0-9]*")):
            own = [part / name for name in (RECORD, *_RESULTS, "annotated.mkv")]
            own += part.glob("annotated-[0-9]*.mkv")
            own += [picture for kind in _PICTURES for picture in (part / kind).glob("*.png")]
            for path in own:
                if not {path.resolve(), path.parent.resolve()} & set(spared):
                    path.unlink(missing_ok=True)
            for empty in (*(part / kind for kind in _PICTURES), *([part] if part != folder else [])):
                with contextlib.suppress(OSError):  # not empty, or not there
                    empty.rmdir()
    except OSError as error:
        raise IrdetError(f"cannot write to {folder}: {error.strerror or error}") from error


def finished(folder: Path) -> Iterator[Done]:
    """Yields the frames of a run that `resume` has cut, in order.

    Raises:
        IrdetError: A line is no frame.
    """
    lines = folder / "targets.jsonl"
    if lines.is_file():
        with lines.open("rb") as file:
            for line in file:
                yield _frame(lines, line)[0]


def after(options: SourceOptions, last: int | None) -> SourceOptions:
    """Returns the options that begin behind a frame.

    Args:
        options: Those of the whole run.
        last: The last frame that is done; None for none.

    Raises:
        UsageError: The frame is none that these options take.
        NothingLeft: It is the last one that they take.
    """
    if last is None:
        return options
    if not options.takes(last):
        raise UsageError(f"--resume: frame {last} is none that these --start, --stride and --limit take")
    done = (last - options.start) // options.stride + 1
    if options.limit is not None and done >= options.limit:
        raise NothingLeft("--resume: all frames that --limit takes are done")
    left = None if options.limit is None else options.limit - done
    return replace(options, start=last + options.stride, limit=left)


def free_name(path: Path) -> Path:
    """Returns a name that is not taken: `annotated.mkv`, `annotated-2.mkv` ... A video cannot be gone on with."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_stem(f"{path.stem}-{number}")
    return candidate


def _whole_lines(path: Path) -> int:
    """Returns where the last whole line ends."""
    size = path.stat().st_size
    with path.open("rb") as file:
        place = size
        while place:
            start = max(0, place - _STEP)
            file.seek(start)
            found = file.read(place - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            if size - start > LONGEST:
                raise IrdetError(f"{path} is no file of lines")
            place = start
    return 0


def _last_line(path: Path, end: int) -> bytes | None:
    """Returns the line that ends at `end`, with its newline; None at the file's start."""
    if end == 0:
        return None
    step = _STEP
    with path.open("rb") as file:
        while True:
            start = max(0, end - step)
            file.seek(start)
            data = file.read(end - start)
            found = data.rfind(b"\n", 0, len(data) - 1)
            if found >= 0 or start == 0:
                return data[found + 1 :]
            if step > LONGEST:
                raise IrdetError(f"{path} is no file of lines")
            step *= 4


def _frame(path: Path, line: bytes) -> tuple[Done, int]:
    """Returns a line's frame and the number of its targets."""
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError, OverflowError):
        record = json.loads(line)
        number, targets, source, span = record["frame"], record["targets"], record.get("source"), record.get("range")
        low, high = map(float, span or (0, 0))
        if type(number) is int and number >= 0 and isinstance(targets, list) and -math.inf < low <= high < math.inf:
            name = source if isinstance(source, str) else None
            return Done(number, name, (low, high) if span else None), len(targets)
    raise IrdetError(f"{path}: a line is no frame of irdet's, so the run cannot be gone on with")


def _rows_of(path: Path, number: int) -> int:
    """Counts the whole rows of a frame at the end of the table."""
    if not path.is_file():
        return 0
    count, end = 0, _whole_lines(path)
    while (row := _last_line(path, end)) is not None and _number(row) == number:
        count += 1
        end -= len(row)
    return count


def _cut_rows(path: Path, number: int) -> None:
    """Cuts away the rows behind a frame, and a row that is not whole; the header stays."""
    if not path.is_file():
        return
    end = _whole_lines(path)
    while (row := _last_line(path, end)) is not None:
        found = _number(row)
        if found is None or found <= number:
            break
        end -= len(row)
    _cut(path, end)
    if end == 0:
        path.unlink()


def _number(row: bytes) -> int | None:
    """Returns the frame of a row; None for the header."""
    first = row.partition(b",")[0]
    return int(first) if first.isdigit() and len(first) <= _DIGITS else None


def _cut(path: Path, size: int) -> None:
    if size != path.stat().st_size:
        os.truncate(path, size)
