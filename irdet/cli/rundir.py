"""Where a run puts its files: `runs/<task>/<name>`, numbered, never over an older run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from irdet.core.errors import IrdetError, UsageError


@contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """Keeps a run's folder, which it yields, from other runs of irdet where the system has locks for folders (POSIX).

    The lock leaves no file, and dies with the process.

    Raises:
        UsageError: Another run is writing there.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield folder
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # of a file system without locks
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"{folder}: another run of irdet is writing there; choose another folder") from error
        yield folder
    finally:
        os.close(place)


def named_after(source: str) -> str:
    """Returns the name of a run after what it reads, without a sign of a path."""
    return re.sub(r"[/\\\0]", "_", source)


def new_run(task: str, name: str | None = None, exist_ok: bool = False, root: Path = Path("runs")) -> Path:
    """Makes the folder of a run.

    Args:
        task: Name of the command, for instance `"train"`.
        name: Name of the run; `"run"` where None.
        exist_ok: Use the folder of that very name even if it is there. Else `name`, `name-2`, `name-3` ...: the
            first that is free, taken in one step, so that two runs that start together get one each.
        root: Folder of all runs.

    Returns:
        `root/task/name`, or the numbered one.

    Raises:
        UsageError: The name is no plain folder name.
        IrdetError: The folder cannot be made.
    """
    name = name or "run"
    if name in (".", "..") or any(sign in name for sign in "/\\\0"):
        raise UsageError(f"--name {name!r}: must be a folder name without path; the folder is {root / task}")
    parent = root / task
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder, number = parent / name, 1
        while True:
            try:
                folder.mkdir(exist_ok=exist_ok)
                return folder
            except FileExistsError:
                if exist_ok:  # then it is a file
                    raise
                number += 1
                folder = parent / f"{name}-{number}"
    except OSError as error:
        raise IrdetError(f"cannot make the run folder {parent / name}: {error.strerror}") from error


@contextmanager
def run_folder(output: Path | None, task: str, name: str, exist_ok: bool) -> Iterator[Path]:
    """Holds the folder that a user named, made where it is missing, or a new run's, as `claimed` does.

    A run that fails before it has written anything takes the folder that was made for it away again.

    Args:
        output: The folder; None for a new one of this task.
        task: Name of the command.
        name: Name of the new run.
        exist_ok: Write into the folder although something is in it.

    Raises:
        UsageError: The folder is not empty, another run is writing there, or the name is no plain folder name.
        IrdetError: It cannot be made or read.
    """
    made = output is None or not output.exists()
    folder = new_run(task, name, exist_ok) if output is None else _named(output, exist_ok)
    with claimed(folder):
        try:
            yield folder
        except BaseException:
            if made:
                with suppress(OSError):  # something is in it
                    folder.rmdir()
            raise


def _named(output: Path, exist_ok: bool) -> Path:
    try:
        output.mkdir(parents=True, exist_ok=True)
        if exist_ok or not any(output.iterdir()):
            return output
    except OSError as error:
        raise IrdetError(f"cannot write to {output}: {error.strerror or error}") from error
    raise UsageError(f"{output} is not empty: choose another folder, or add --exist-ok")
