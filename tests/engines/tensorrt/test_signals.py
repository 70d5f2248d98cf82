"""Signals wait until TensorRT is done; those that nobody handles in Python are left alone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from irdet.engines.tensorrt.signals import held_back


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_it_acts_when_the_block_ends() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), held_back() as come:
        signal.raise_signal(signal.SIGINT)
        done.append(list(come))
    assert done == [[signal.SIGINT]]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_goes_before_an_error_of_the_block() -> None:
    with pytest.raises(KeyboardInterrupt), held_back():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("what was stopped gave nothing")


def test_defaults_stay() -> None:
    with held_back() as come:
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert come == []


def test_other_threads_set_no_handlers() -> None:
    errors = []

    def run() -> None:
        try:
            with held_back():
                assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert errors == []
