from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from irdet.core.errors import FrameError, IrdetError, UsageError
from irdet.runtime.sources import RawFormat, SourceOptions, open_source

LAYOUT = RawFormat(5, 4)
FRAMES = np.arange(200, dtype=np.uint16).reshape(10, 4, 5)


class Standard:
    """A standard input that holds bytes."""

    def __init__(self, data: bytes, keyboard: bool = False) -> None:
        self.buffer = io.BytesIO(data)
        self._keyboard = keyboard

    def isatty(self) -> bool:
        return self._keyboard


@pytest.mark.parametrize(("start", "stride", "limit"), [(0, 1, None), (2, 3, None), (1, 2, 3), (9, 1, 1), (0, 4, 9)])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, start: int, stride: int, limit: int | None) -> None:
    monkeypatch.setattr(sys, "stdin", Standard(FRAMES.astype("<u2").tobytes()))
    with open_source("-", SourceOptions(start, stride, limit, fps=50, raw=LAYOUT)) as source:
        assert (source.name, source.size, source.length, source.is_video) == ("stdin", (5, 4), None, True)
        frames = list(source)
    wanted = list(range(10))[start::stride][:limit]
    assert [frame.index for frame in frames] == wanted
    assert [frame.time for frame in frames] == pytest.approx([index / 50 for index in wanted])
    for frame in frames:
        assert np.array_equal(frame.pixels, FRAMES[frame.index])
    assert source.skipped.frames == 0


def test_no_more_is_read_than_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = Standard(FRAMES.tobytes())
    monkeypatch.setattr(sys, "stdin", stdin)
    source = open_source("-", SourceOptions(limit=2, raw=LAYOUT))
    assert len(list(source)) == 2 and stdin.buffer.tell() == 2 * LAYOUT.frame_bytes
    source.close()
    source.close()


def test_a_pipe_that_ends_within_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Standard(FRAMES.tobytes()[:-3]))
    with open_source("-", SourceOptions(raw=LAYOUT)) as source:
        assert len(list(source)) == 9
    assert "37 bytes into frame 9 of 5x4 uint16le" in source.skipped.named[0].reason


@pytest.mark.parametrize("count", [0, 39])
def test_a_pipe_without_a_frame(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(sys, "stdin", Standard(bytes(count)))
    with pytest.raises(IrdetError, match=r"cannot read stdin: it ended before frame 0 of 5x4 uint16le \(40 bytes\)"):
        open_source("-", SourceOptions(raw=LAYOUT))


def test_standard_input_needs_a_layout_and_no_keyboard(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--raw-shape"):
        open_source("-")
    monkeypatch.setattr(sys, "stdin", Standard(b"", keyboard=True))
    with pytest.raises(UsageError, match="keyboard"):
        open_source("-", SourceOptions(raw=LAYOUT))
    monkeypatch.setattr(sys, "stdin", Standard(FRAMES.tobytes()))
    with pytest.raises(FrameError, match="--max-pixels"):
        open_source("-", SourceOptions(raw=LAYOUT, max_pixels=19))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipe(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb") as pipe:
            for frame in FRAMES:
                pipe.write(frame.tobytes())
                pipe.flush()

    writer = threading.Thread(target=write)
    writer.start()
    with open_source(path, SourceOptions(raw=LAYOUT)) as source:
        frames = list(source)
    writer.join(10)
    assert not writer.is_alive()
    assert [int(frame.pixels[0, 0]) for frame in frames] == list(range(0, 200, 20))
