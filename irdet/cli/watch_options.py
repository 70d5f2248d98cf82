"""What is watched while `irdet infer` runs: signals that end it, a stall that is given up, a heartbeat for logs."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from typing import Annotated, TypeVar

import typer

from irdet.cli.options import finite
from irdet.core.errors import IrdetError

_T = TypeVar("_T")

#: Signals that end a run in order -> what the user did.
_SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}

#: Seconds between two heartbeats of a live source where none are asked for: often enough for a log that is watched.
LIVE_HEARTBEAT = 60.0

MaxStallOption = Annotated[
    float | None,
    typer.Option(
        "--max-stall",
        min=0.1,
        callback=finite,
        metavar="S",
        help="Give up when no frame comes through for so long, the camera being gone or not; wait for ever by default.",
        show_default=False,
    ),
]
HeartbeatOption = Annotated[
    float | None,
    typer.Option(
        "--heartbeat",
        min=0.1,
        callback=finite,
        metavar="S",
        help=f"A line with frame rate, drops and latency every so often; {LIVE_HEARTBEAT:g} s for live sources.",
        show_default=False,
    ),
]


class Stopped(IrdetError):
    """A signal ended the run; what was done until then is kept. The exit code is the shell's for that signal."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Signals:
    """Whether a signal has asked the run to end.

    Attributes:
        number: The signal; None while there was none.
    """

    number: int | None = None

    def __call__(self) -> bool:
        """Tells whether one has come."""
        return self.number is not None

    @property
    def exit_code(self) -> int:
        """The shell's exit code for the signal; 0 while there was none."""
        return 0 if self.number is None else 128 + self.number

    def check(self, done: str) -> None:
        """Ends the command where a signal has come.

        Args:
            done: What was done until then.

        Raises:
            Stopped: One has come.
        """
        if self.number is not None:
            raise Stopped(self.number, f"{_SIGNALS[signal.Signals(self.number)]} after {done}")


def first_frame(open_it: Callable[[], _T], stop: Signals, max_stall: float | None) -> _T:
    """Opens a source, which waits for its first frame, and gives up where a run that has begun would.

    Args:
        open_it: Opens it.
        stop: Ends the wait.
        max_stall: Seconds to wait at most; None for ever.

    Returns:
        What `open_it` gives.

    Raises:
        Stalled: No frame came; the thread that waits for it hangs, so end the process.
        IrdetError: Whatever `open_it` raises.
    """
    opening: Future[_T] = Future()

    def run() -> None:
        try:
            opening.set_result(open_it())
        except BaseException as error:
            opening.set_exception(error)

    if sys.platform == "darwin" and max_stall is None:
        return open_it()  # macOS asks for leave to use a camera in the main thread alone
    threading.Thread(target=run, name="irdet-open", daemon=True).start()
    return waited_for(opening, stop, max_stall)


def waited_for(opening: Future[_T], stop: Signals, max_stall: float | None = None) -> _T:
    """Waits for what is opened in another thread, and ends the wait where a signal comes.

    Args:
        opening: What is waited for.
        stop: Ends the wait.
        max_stall: Seconds to wait at most for a source; None for ever.

    Returns:
        The result.

    Raises:
        Stalled: It was not there when the wait ended, and its thread may hang, so end the process.
        IrdetError: Whatever the opening raised.
    """
    from irdet.runtime.pipeline import TICK, Stalled

    begun = time.monotonic()
    while not (done := wait_for((opening,), TICK).done) or (stop() and opening.exception() is not None):
        if stop():  # also where it failed because of the signal: Ctrl-C ends what feeds a pipe, too
            raise Stalled(f"{_SIGNALS[signal.Signals(stop.number or 0)]} before the first frame")
        if not done and max_stall is not None and time.monotonic() - begun > max_stall:
            raise Stalled(f"no frame for {max_stall:g} s (--max-stall): the source does not answer")
    return opening.result()


@contextmanager
def signals() -> Iterator[Signals]:
    """Turns the first Ctrl-C or SIGTERM into a question that the run asks between frames; a second one ends it at once.

    Only the main thread may take signals; elsewhere none come.
    """
    found = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return

    def take(number: int, _: object) -> None:
        if found.number is not None:
            raise KeyboardInterrupt
        found.number = number
        if number == signal.SIGINT and sys.stderr.isatty():
            print("finishing this frame; once more to stop at once", file=sys.stderr)

    before = {number: signal.signal(number, take) for number in _SIGNALS}
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
