"""What the commands print: results on stdout, everything else on stderr. Imports rich when it is first used."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from irdet.core.jsonable import jsonable

if TYPE_CHECKING:
    from rich.console import Console

    from irdet.runtime.sources import Skipped

#: Columns of a table that goes into a file or a pipe, where there is no window that it must fit.
PLAIN_WIDTH = 160

#: Words of so many signs are never broken in a table, however narrow the terminal: half a number reads as another.
WHOLE = 12

#: Without a terminal, progress is told in lines: at each tenth of the work, and at least this often (seconds).
PLAIN_SECONDS = 30.0


class Advance(Protocol):
    """Tells that `n` more steps are done; `fields` are shown beside the bar, for instance `loss=0.41`."""

    def __call__(self, n: int = 1, **fields: object) -> None:
        """Advances by `n` steps."""


def console() -> Console:
    """Returns a console on stderr, for progress; `say` prints what is said in lines."""
    return _console(stderr=True)


def out() -> Console:
    """Returns a console on stdout: what the user asked for."""
    return _console(stderr=False)


def say(text: object) -> None:
    """Prints a line on stderr; what it holds of files' contents and names cannot steer the terminal."""
    console().print(plain(str(text)), markup=False, soft_wrap=True)


def print_line(text: object) -> None:
    """Prints a line on stdout, as `say` does on stderr."""
    out().print(plain(str(text)), markup=False, soft_wrap=True)


def tell_notes(notes: Iterable[str], quiet: bool = False) -> None:
    """Tells on stderr, unless quiet, what an engine, a source or a data set has to say of itself."""
    for note in () if quiet else notes:
        say(note)


def tell_skipped(one: Skipped) -> None:
    """Tells on stderr of frames that could not be had."""
    say(f"skipped: {one.reason}")


def ways_round(views: int) -> str:
    """How frames were looked at, to follow their size; nothing where as they come."""
    return "" if views == 1 else f", looked at in {views} ways round"


def counted(number: int, what: str) -> str:
    """Returns a number of things in words: `1 frame`, `2 frames`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def print_json(obj: object) -> None:
    """Prints JSON on stdout. Numbers that are not finite become null, which JSON has no other word for."""
    sys.stdout.write(json.dumps(jsonable(obj), indent=2) + "\n")


def print_table(title: str, rows: Sequence[Sequence[object]], columns: Sequence[str] = ()) -> None:
    """Prints a table on stdout.

    Args:
        title: Line above it.
        rows: Cells; floats are shown with four significant digits, numbers to the right, None as "-".
        columns: Names of the columns; none for a table of names and values.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    width = max([len(columns), *(len(row) for row in rows)])
    table = Table(box=SIMPLE_HEAD, show_header=bool(columns), show_edge=False, padding=(0, 1, 0, 0))
    for index in range(width):
        cells = [row[index] for row in rows if index < len(row) and row[index] is not None]
        numeric = bool(cells) and all(isinstance(cell, (int, float)) for cell in cells)
        name = columns[index] if index < len(columns) else ""
        longest = max((len(word) for cell in (name, *map(_cell, cells)) for word in cell.split()), default=0)
        table.add_column(
            Text(name),
            justify="right" if numeric else "left",
            overflow="fold",
            min_width=min(longest, WHOLE),
        )
    for row in rows:
        table.add_row(*(Text(plain(_cell(value))) for value in row))  # names hold brackets, and no markup
    # Not the table's own title: that is broken at the table's width.
    console = out()
    console.print(Text(plain(title), style="table.title"), soft_wrap=True)
    console.print(table, crop=False)


@contextmanager
def progress(description: str, total: int | None = None, quiet: bool = False) -> Iterator[Advance]:
    """Shows progress on stderr: a bar on a terminal, else now and then a line, nothing when quiet.

    Args:
        description: What is being done.
        total: Number of steps, None where unknown.
        quiet: Show nothing.

    Yields:
        A callable that tells of finished steps.
    """
    if quiet:
        yield _silent
    elif sys.stderr.isatty():
        with _bar(description, total) as advance:
            yield advance
    else:
        yield _Lines(description, total, lambda line: print(line, file=sys.stderr, flush=True))


def _silent(n: int = 1, **fields: object) -> None:
    return


@contextmanager
def _bar(description: str, total: int | None) -> Iterator[Advance]:
    from rich import progress as widgets
    from rich.markup import escape

    columns = (
        widgets.TextColumn("{task.description}"),
        widgets.BarColumn(),
        widgets.MofNCompleteColumn(),
        widgets.TimeElapsedColumn(),
        widgets.TimeRemainingColumn(),
        widgets.TextColumn("{task.fields[notes]}"),
    )
    with widgets.Progress(*columns, console=console()) as bar:
        task = bar.add_task(escape(description), total=total, notes="")
        notes = ""

        def advance(n: int = 1, **fields: object) -> None:
            nonlocal notes
            notes = escape(_fields(fields)) or notes
            bar.update(task, advance=n, notes=notes)

        yield advance


class _Lines:
    """Progress for logs: a line at each tenth of the work, and one whenever the last is long ago."""

    def __init__(self, description: str, total: int | None, write: Callable[[str], None]) -> None:
        self._description = description
        self._total = total
        self._write = write
        self._done = 0
        self._tenths = 0
        self._last = time.monotonic()

    def __call__(self, n: int = 1, **fields: object) -> None:
        self._done += n
        tenths = 10 * self._done // self._total if self._total else 0
        now = time.monotonic()
        if tenths > self._tenths or now - self._last >= PLAIN_SECONDS:
            self._tenths, self._last = tenths, now
            count = f"{self._done}/{self._total}" if self._total else f"{self._done}"
            self._write(" ".join(filter(None, (f"{self._description} {count}", _fields(fields)))))


def _fields(fields: Mapping[str, object]) -> str:
    return " ".join(f"{name}={_cell(value)}" for name, value in fields.items())


def plain(text: str) -> str:
    """Returns a text without what would steer a terminal, or cannot be encoded: names come from files."""
    from unicodedata import category

    return "".join(sign if sign.isprintable() or category(sign) == "Zs" else "\ufffd" for sign in text)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _console(stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else PLAIN_WIDTH)
