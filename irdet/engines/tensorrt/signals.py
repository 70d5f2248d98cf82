"""Ctrl-C and SIGTERM while TensorRT works, whose bindings print and drop what Python raises inside their callbacks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back() -> Iterator[list[int]]:
    """Holds SIGINT and SIGTERM back until the block ends, and then lets their handlers act.

    Catching what they raise inside the callbacks would not do: Python runs a handler as a function is entered, before
    the first line that could catch.

    Yields:
        The signals that have come; what can stop early looks here.
    """
    come: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers, nor is one disturbed
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                handlers[number] = handler
                signal.signal(number, lambda number, _: come.append(number))
    try:
        yield come
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if come:
            signal.raise_signal(come[0])
