"""What all sources share: the frame as it came, which frames are wanted, and the log of those that were lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from irdet.core.errors import IrdetError, UsageError, unknown_name
from irdet.core.frame import Frame, Preprocessor
from irdet.core.images import MAX_PIXELS, check_size

#: Frame rate of a sequence that does not tell its own (1/s).
FALLBACK_FPS = 25.0

#: A frame rate above this is a container's time base, not a camera's (1/s).
MAX_FPS = 1000.0

#: Types of raw frames by the name that `--raw-dtype` takes.
RAW_DTYPES = {
    "uint8": "|u1",
    "uint16le": "<u2",
    "uint16be": ">u2",
    "int16le": "<i2",
    "int16be": ">i2",
    "int32le": "<i4",
    "float32le": "<f4",
    "float32be": ">f4",
}


class NothingLeft(IrdetError):
    """The source has frames, but none of those that are wanted, or none of them can be read.

    Args:
        message: Which are wanted, and why there is none.
        skipped: Those that are wanted and cannot be read.
    """

    def __init__(self, message: str, skipped: SkipLog | None = None) -> None:
        super().__init__(message)
        self.skipped = skipped or SkipLog()


@dataclass(frozen=True, eq=False)
class RawFrame:
    """One frame as it came.

    Attributes:
        pixels: [H, W] or [H, W, channels] in OpenCV's order, of the source's own type.
        index: Number of the frame in its source, from 0; frames that were left out or lost are counted.
        time: Seconds since the first frame of the source; None for images, which have no clock.
        name: File or stream that it came from.
    """

    pixels: NDArray[np.generic]
    index: int
    time: float | None
    name: str

    def prepare(self, preprocessor: Preprocessor) -> Frame:
        """Returns it ready for a model. Images have nothing to do with one another, so each has a range of its own.

        Raises:
            FrameError: It is not usable.
        """
        if self.time is None:
            preprocessor.begin()
        return preprocessor(self.pixels, self.index, self.time, self.name)


@dataclass(frozen=True)
class RawFormat:
    """How frames without a header lie in a file or a pipe: row by row, one after the other.

    Attributes:
        width: Pixels in a row.
        height: Rows.
        dtype: One of `RAW_DTYPES`.

    Raises:
        UsageError: Not a size, or not such a type.
    """

    width: int
    height: int
    dtype: str = "uint16le"

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise UsageError(f"raw shape {self.width}x{self.height}: both sides must be at least 1 px")
        if self.dtype not in RAW_DTYPES:
            raise unknown_name("type of raw frames", self.dtype, RAW_DTYPES)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.width * self.height * np.dtype(RAW_DTYPES[self.dtype]).itemsize

    def frame(self, data: bytes | bytearray | memoryview) -> NDArray[np.generic]:
        """Returns the bytes of one frame as [H, W], in the byte order of this machine."""
        pixels = np.frombuffer(data, RAW_DTYPES[self.dtype]).reshape(self.height, self.width)
        return pixels.astype(pixels.dtype.newbyteorder("="))

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.dtype}"


@dataclass(frozen=True)
class SourceOptions:
    """Which frames of a source are wanted, and what it does not tell by itself.

    Attributes:
        start: Number of the first frame that is wanted, from 0.
        stride: Every so many frames one is wanted.
        limit: No more than so many places are visited; None for no limit.
        fps: Frames per second, in place of what the source tells; None to believe it.
        raw: How frames without a header lie; None where the source has headers.
        max_pixels: Larger frames are refused.
        patience: A live source that is gone for longer ends the run, s; None to try for ever.

    Raises:
        UsageError: A value cannot be what was meant.
    """

    start: int = 0
    stride: int = 1
    limit: int | None = None
    fps: float | None = None
    raw: RawFormat | None = None
    max_pixels: int = MAX_PIXELS
    patience: float | None = None

    def __post_init__(self) -> None:
        if self.start < 0:
            raise UsageError(f"--start {self.start}: the first frame is 0")
        for name, value in (("stride", self.stride), ("limit", self.limit), ("max-pixels", self.max_pixels)):
            if value is not None and value < 1:
                raise UsageError(f"--{name} {value}: must be at least 1")
        if self.fps is not None and not 0 < self.fps <= MAX_FPS:
            raise UsageError(f"--fps {self.fps:g}: must be above 0 and at most {MAX_FPS:g}")
        if self.patience is not None and not self.patience >= 0:
            raise UsageError(f"--give-up {self.patience:g}: must not be negative")

    @property
    def stop(self) -> int | None:
        """Number of the first frame beyond those that are wanted; None where there is no such."""
        return None if self.limit is None else self.start + self.stride * self.limit

    def chosen(self, length: int, name: str) -> range:
        """Returns the numbers of the frames that are wanted of a source of that length.

        Raises:
            NothingLeft: There is none; `name` is who has none.
        """
        numbers = range(self.start, length if self.stop is None else min(self.stop, length), self.stride)
        if not numbers:
            raise NothingLeft(f"cannot use {name}: it has {length} frames, so none from --start {self.start} on")
        return numbers

    def takes(self, index: int) -> bool:
        """Tells whether a frame is wanted."""
        return index >= self.start and (index - self.start) % self.stride == 0 and not self.over(index)

    def over(self, index: int) -> bool:
        """Tells whether neither this frame nor a later one is wanted."""
        return self.stop is not None and index >= self.stop

    def check_size(self, width: int, height: int, name: str) -> None:
        """Refuses frames that are too large.

        Raises:
            FrameError: They are.
        """
        check_size(width, height, self.max_pixels, name)

    def rate(self, declared: float | None, name: str) -> tuple[float, tuple[str, ...]]:
        """Returns the frame rate to go by, and a note where it had to be assumed."""
        if self.fps is not None:
            return self.fps, ()
        if declared is not None and 0 < declared <= MAX_FPS:  # false for NaN
            return declared, ()
        return FALLBACK_FPS, (f"{name} tells no frame rate: {FALLBACK_FPS:g} frames/s assumed (--fps sets it)",)


@dataclass(frozen=True)
class Skipped:
    """Frames that could not be had.

    Attributes:
        name: File, with the frame's number where it is one of many.
        reason: What was wrong, in a sentence that names the file.
        frames: How many they are.
    """

    name: str
    reason: str
    frames: int = 1


class SkipLog:
    """Counts the frames that were skipped and keeps the first reasons, so that it stays small.

    Args:
        limit: Number of entries to keep.

    Attributes:
        frames: Number of all skipped frames.
        named: The first entries.
    """

    LIMIT = 20

    def __init__(self, limit: int = LIMIT) -> None:
        self.frames = 0
        self.named: list[Skipped] = []
        self._limit = limit
        self._listener: Callable[[Skipped], None] | None = None

    def add(self, skipped: Skipped) -> None:
        """Counts an entry."""
        self.frames += skipped.frames
        if len(self.named) < self._limit:
            self.named.append(skipped)
            if self._listener is not None:
                self._listener(skipped)

    def listen(self, listener: Callable[[Skipped], None]) -> None:
        """Has the entries that are kept told as they come; those that are there already, at once."""
        self._listener = listener
        for skipped in self.named:
            listener(skipped)


class Source(Protocol):
    """Frames in order, once. Use it as a context manager, or call `close`.

    Attributes:
        name: Short name for messages and files.
        is_video: True where frames follow each other in time and have one size.
        live: True where frames come at their own pace, and one that is not fetched in time is lost.
        fps: Frames per second; None for images.
        length: Number of frames that will come, as far as the source declares it; None where it does not.
        size: Width and height of the first frame, px.
        skipped: What could not be read so far.
        notes: What the user should know about the source.
    """

    name: str
    is_video: bool
    live: bool
    fps: float | None
    length: int | None
    size: tuple[int, int]
    skipped: SkipLog
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frames; those that cannot be read are left out and stand in `skipped`."""
        ...

    def name_of(self, index: int) -> str:
        """Returns what the frame of that number is called in messages and records."""
        ...

    def close(self) -> None:
        """Frees the source; may be called from another thread, and again."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Closing:
    """The context manager around `close`."""

    def close(self) -> None:
        """Frees the source. Calling it again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
