"""Raw frames that come through a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from irdet.core.errors import IrdetError
from irdet.runtime.sources.base import Closing, NothingLeft, RawFormat, RawFrame, SkipLog, Skipped, SourceOptions


class PipeSource(Closing):
    """Frames without headers from standard input or a named pipe. See `Source`.

    The writer waits where frames are taken more slowly than they come, so none is lost.

    Args:
        pipe: Where they come from; closed with the source.
        name: Name of the source.
        layout: What a frame is.
        options: Which of them are wanted.

    Raises:
        IrdetError: The pipe ends before the first frame that is wanted.
    """

    is_video = True
    live = False
    length: int | None = None

    def __init__(self, pipe: BinaryIO, name: str, layout: RawFormat, options: SourceOptions) -> None:
        options.check_size(layout.width, layout.height, name)
        self.name = name
        self.fps: float | None
        self.fps, self.notes = options.rate(None, name)
        self.size = layout.width, layout.height
        self.skipped = SkipLog()
        self._pipe = pipe
        frames = self._read(layout, options, 1 / self.fps)
        first = next(frames, None)
        if first is None:
            told = f"cannot read {name}: it ended before frame {options.start} of {layout} ({layout.frame_bytes} bytes)"
            raise NothingLeft(told, self.skipped) if options.start else IrdetError(told)
        self._frames = chain([first], frames)

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frames."""
        return self._frames

    def name_of(self, index: int) -> str:
        """Returns what every frame is called."""
        return self.name

    def close(self) -> None:
        """Closes the pipe, so that its writer learns that nobody listens."""
        self._pipe.close()

    def _read(self, layout: RawFormat, options: SourceOptions, period: float) -> Iterator[RawFrame]:
        index = 0
        while not options.over(index):
            data = self._pipe.read(layout.frame_bytes)
            if len(data) < layout.frame_bytes:
                if data:
                    wrong = f"it ended {len(data)} bytes into frame {index} of {layout}; is --raw-shape right?"
                    self.skipped.add(Skipped(self.name, f"{self.name}: {wrong}"))
                return
            if options.takes(index):
                yield RawFrame(layout.frame(data), index, index * period, self.name)
            index += 1
