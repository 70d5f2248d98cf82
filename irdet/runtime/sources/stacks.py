"""Sources whose frames can be fetched by number: image files, multi-page TIFF, NumPy stacks, raw files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import FrameError, IrdetError
from irdet.core.images import check_header, opencv_name, printable, quiet_opencv, read_image, sides
from irdet.runtime.sources.base import (
    Closing,
    NothingLeft,
    RawFormat,
    RawFrame,
    SkipLog,
    Skipped,
    SourceOptions,
)

#: Suffixes of files that may hold several pages.
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})

#: Pages that are decoded at once, and bytes that they may take: each call walks through the file from its start.
PAGES_AT_ONCE, BYTES_AT_ONCE = 16, 1 << 26


class _Numbered(Closing, ABC):
    """Frames by number: chooses the wanted ones and skips those that cannot be read.

    Args:
        name: Name of the source.
        count: Number of its frames.
        options: Which of them are wanted.
        is_video: Whether they follow each other in time.
    """

    live = False

    def __init__(self, name: str, count: int, options: SourceOptions, *, is_video: bool) -> None:
        self.name = name
        self.is_video = is_video
        self.fps: float | None = None
        self.notes: tuple[str, ...] = ()
        if is_video or options.fps is not None:  # images have no clock unless they are given one
            self.fps, self.notes = options.rate(None, name)
        self.skipped = SkipLog()
        self._options = options
        numbers = options.chosen(count, name)
        self.length: int | None = len(numbers)
        frames = self._frames(numbers)
        first = next(frames, None)
        if first is None:
            reason = self.skipped.named[0].reason
            told = reason if len(numbers) == 1 else f"none of the {len(numbers)} images of {name} is readable: {reason}"
            raise NothingLeft(told, self.skipped) if options.start else IrdetError(told)
        self.size = first.pixels.shape[1], first.pixels.shape[0]
        self._all = chain([first], frames)

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frames that can be read; `index` counts all, read or not."""
        return self._all

    def _frames(self, numbers: Sequence[int]) -> Iterator[RawFrame]:
        for index in numbers:
            name = self.name_of(index)
            try:
                pixels = self._read(index)
                self._options.check_size(pixels.shape[1], pixels.shape[0], name)
            except FrameError as error:
                self.skipped.add(Skipped(name, str(error)))
            else:
                yield RawFrame(pixels, index, None if self.fps is None else index / self.fps, name)

    @abstractmethod
    def name_of(self, index: int) -> str:
        """Returns what a frame is called: the name of its file."""

    @abstractmethod
    def _read(self, index: int) -> NDArray[np.generic]:
        """Returns a frame's pixels, [H, W] or more; raises FrameError."""


class ImageSource(_Numbered):
    """Image files, one frame each. See `Source`.

    Args:
        paths: The files, in order; at least one.
        name: Name of the source.
        root: Frames are named by their path below this folder.
        options: Which of them are wanted.

    Raises:
        IrdetError: None of the files can be read.
    """

    def __init__(self, paths: Sequence[Path], name: str, root: Path, options: SourceOptions) -> None:
        self._paths = paths
        self._root = root
        super().__init__(name, len(paths), options, is_video=False)

    def name_of(self, index: int) -> str:
        """Returns what a frame is called: its path below the root."""
        path = self._paths[index]
        return printable(path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else str(path))

    def _read(self, index: int) -> NDArray[np.generic]:
        path = self._paths[index]
        pixels = read_image(path, self._options.max_pixels)
        if path.suffix.lower() in TIFF_SUFFIXES and (pages := count_pages(path)) > 1:
            reason = f"{path} has {pages} pages, of which a folder or a glob gives the first; name the file for all"
            self.skipped.add(Skipped(self.name_of(index), reason, pages - 1))
        return pixels


class TiffSource(_Numbered):
    """The pages of one TIFF. See `Source`.

    Pages of another size than the first are no frames of a sequence: smaller copies of it (overviews), masks.

    Args:
        path: The file.
        pages: Number of its pages.
        options: Which of them are wanted.

    Raises:
        IrdetError: None of the pages can be read.
    """

    def __init__(self, path: Path, pages: int, options: SourceOptions) -> None:
        check_header(path, options.max_pixels, path)  # of the first page; the others are asked once they are decoded
        self._path = path
        self._end = pages if options.stop is None else min(pages, options.stop)
        self._shape: tuple[int, ...] | None = None  # by the first page that is read
        if not options.takes(0):  # that may be an overview then
            width, height = sides(path)
            self._shape = (height, width) if width > 0 and height > 0 else None
        self._first = 0
        self._block: list[NDArray[np.generic]] = []
        super().__init__(printable(path.stem), pages, options, is_video=True)

    def name_of(self, index: int) -> str:
        """Returns what every frame is called: the file's name."""
        return printable(self._path.name)

    def _read(self, index: int) -> NDArray[np.generic]:
        if not self._first <= index < self._first + len(self._block):
            count = 1
            if self._options.stride == 1 and self._block:
                count = min(PAGES_AT_ONCE, max(1, BYTES_AT_ONCE // self._block[0].nbytes), self._end - index)
            # A page that is damaged takes its block along, so then they are fetched one by one.
            self._block = self._decode(index, count) or self._decode(index, 1)
            self._first = index
        if not self._block:
            raise FrameError(f"cannot read {self._path}: page {index} is damaged")
        page = self._block[index - self._first]
        self._shape = self._shape or page.shape[:2]
        if page.shape[:2] != self._shape:
            (height, width), (high, wide) = page.shape[:2], self._shape
            raise FrameError(
                f"{self._path}: page {index} is {width}x{height} and the first {wide}x{high}: an overview?"
            )
        return page

    def _decode(self, first: int, count: int) -> list[NDArray[np.generic]]:
        try:
            with quiet_opencv():
                done, pages = cv2.imreadmulti(opencv_name(self._path), first, count, flags=cv2.IMREAD_UNCHANGED)
        except cv2.error:
            return []
        return [np.asarray(page) for page in pages] if done and len(pages) == count else []


class NpySource(_Numbered):
    """A NumPy stack (.npy): [N, H, W] or [N, H, W, channels]; [H, W] is one frame. Read from disk as it is needed.

    Args:
        path: The file.
        options: Which of its frames are wanted.

    Raises:
        IrdetError: Not such an array. Arrays of Python objects are never loaded.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        try:
            stack = np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            raise IrdetError(f"cannot read {path}: {error.strerror or error}") from error
        except Exception as error:  # NumPy has no one error for a damaged header: ValueError, EOFError, SyntaxError ...
            raise IrdetError(f"cannot read {path}: not a NumPy array of numbers, or cut short") from error
        if isinstance(stack, np.memmap) and stack.ndim == 2:
            stack = stack[None]
        if not isinstance(stack, np.memmap) or stack.ndim not in (3, 4) or 0 in stack.shape:
            shape = list(stack.shape) if isinstance(stack, np.ndarray) else "several arrays"
            raise IrdetError(f"cannot read {path}: its shape is {shape}, not [frames, height, width]")
        options.check_size(stack.shape[2], stack.shape[1], str(path))
        self._stack = stack
        self._path = path
        super().__init__(printable(path.stem), len(stack), options, is_video=True)

    def name_of(self, index: int) -> str:
        """Returns what every frame is called: the file's name."""
        return printable(self._path.name)

    def _read(self, index: int) -> NDArray[np.generic]:
        # Touching mapped memory beyond the end of the file would kill the process.
        try:
            there = self._path.stat().st_size
        except OSError as error:
            raise FrameError(f"cannot read {self._path}: {error.strerror or error}") from error
        if there < self._stack.offset + self._stack.nbytes:
            raise FrameError(f"cannot read {self._path}: the file is shorter than it was")
        pixels = np.array(self._stack[index])
        return pixels.astype(pixels.dtype.newbyteorder("="))


class RawSource(_Numbered):
    """A file of frames without headers. See `Source`.

    Args:
        path: The file.
        layout: How the frames lie in it.
        options: Which of them are wanted.

    Raises:
        IrdetError: The file is shorter than one frame.
    """

    def __init__(self, path: Path, layout: RawFormat, options: SourceOptions) -> None:
        options.check_size(layout.width, layout.height, str(path))
        count, rest = divmod(path.stat().st_size, layout.frame_bytes)
        if not count:
            raise IrdetError(f"cannot read {path}: shorter than one frame of {layout} ({layout.frame_bytes} bytes)")
        self._file = path.open("rb")
        self._path = path
        self._layout = layout
        super().__init__(printable(path.stem), count, options, is_video=True)
        if rest:
            wrong = f"{rest} bytes after its {count} frames of {layout} are no whole frame; is --raw-shape right?"
            self.skipped.add(Skipped(path.name, f"{path}: {wrong}"))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def name_of(self, index: int) -> str:
        """Returns what every frame is called: the file's name."""
        return printable(self._path.name)

    def _read(self, index: int) -> NDArray[np.generic]:
        try:
            self._file.seek(index * self._layout.frame_bytes)
            data = self._file.read(self._layout.frame_bytes)
        except OSError as error:
            raise FrameError(f"cannot read {self._path}: {error.strerror or error}") from error
        if len(data) < self._layout.frame_bytes:
            raise FrameError(f"cannot read {self._path}: it ends within frame {index}")
        return self._layout.frame(data)


def count_pages(path: Path) -> int:
    """Returns the number of pages of a TIFF; 0 where it cannot be read."""
    try:
        with quiet_opencv():
            return int(cv2.imcount(opencv_name(path), cv2.IMREAD_UNCHANGED))
    except (cv2.error, FrameError):
        return 0
