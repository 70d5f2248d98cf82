"""Where frames come from: one image, a folder of images, a glob, a video."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from irdet.core.errors import FrameError, IrdetError
from irdet.core.images import IMAGE_SUFFIXES, is_image, natural_key, quiet_opencv, read_image

#: Frame rate of a video that does not tell its own (1/s).
FALLBACK_FPS = 25.0

#: A frame rate above this is a container's time base, not a camera's (1/s).
MAX_FPS = 1000.0

#: A video is at its end when so many frames in a row cannot be decoded.
MAX_FAILED = 500

#: What FFmpeg calls grey of 16 bits, little endian.
_GREY16 = int.from_bytes(b"Y1\x00\x10", "little")

#: Bytes at the start of a file that tell whether it is text.
_HEAD_BYTES = 1024

_GLOB_SIGNS = re.compile(r"[*?\[]")


@dataclass(frozen=True, eq=False)
class RawFrame:
    """One frame as it came.

    Attributes:
        pixels: [H, W] or [H, W, channels] in OpenCV's order, of the source's own type.
        index: Number of the frame in its source, from 0.
        time: Seconds since the first frame (`index / fps`); None for images, which have no clock.
        name: File that it came from.
    """

    pixels: NDArray[np.generic]
    index: int
    time: float | None
    name: str


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

    Attributes:
        frames: Number of all skipped frames.
        named: The first `LIMIT` entries.
    """

    LIMIT = 20

    def __init__(self) -> None:
        self.frames = 0
        self.named: list[Skipped] = []

    def add(self, skipped: Skipped) -> None:
        """Counts an entry."""
        self.frames += skipped.frames
        if len(self.named) < self.LIMIT:
            self.named.append(skipped)


class Source(Protocol):
    """Frames in order, once. Use it as a context manager, or call `close`.

    Attributes:
        name: Short name for messages and files.
        is_video: True where frames follow each other in time and have one size.
        fps: Frames per second; None for images.
        length: Number of frames as far as the source declares it; None where it does not.
        size: Width and height of the first frame, px.
        skipped: What could not be read so far.
        notes: What the user should know about the source.
    """

    name: str
    is_video: bool
    fps: float | None
    length: int | None
    size: tuple[int, int]
    skipped: SkipLog
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frames; those that cannot be read are left out and stand in `skipped`."""
        ...

    def close(self) -> None:
        """Frees the source. Calling it again does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_source(spec: str | os.PathLike[str]) -> Source:
    """Opens a source and makes sure that it has at least one frame.

    Args:
        spec: An image, a folder of images (not its subfolders; in natural order: `2.png` before `10.png`), a glob
            of images (quoted; `**` for subfolders), or a video.

    Returns:
        The source.

    Raises:
        IrdetError: Nothing is there, or nothing of it can be read; names it and says why.
    """
    text = os.fspath(spec)
    path = Path(text)
    try:
        if path.is_dir():
            return ImageSource(_in_folder(path), path.resolve().name or "images", root=path)
        if path.exists():
            if path.suffix.lower() in IMAGE_SUFFIXES:
                return ImageSource([path], path.stem, root=path.parent)
            return VideoSource(path)
        if _GLOB_SIGNS.search(text):
            return _from_glob(text)
    except OSError as error:
        raise IrdetError(f"cannot read {text}: {error.strerror or error}") from error
    raise IrdetError(f"cannot read {text}: no such file or folder{_similar(path)}")


class _Closing:
    """The context manager around `close`."""

    def close(self) -> None:
        """Frees the source. Calling it again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ImageSource(_Closing):
    """Image files, one frame each. See `Source`.

    Args:
        paths: The files, in order; at least one.
        name: Name of the source.
        root: Frames are named by their path below this folder.

    Raises:
        IrdetError: None of the files can be read.
    """

    is_video = False
    fps: float | None = None

    def __init__(self, paths: Sequence[Path], name: str, root: Path) -> None:
        self.name = name
        self.length: int | None = len(paths)
        self.skipped = SkipLog()
        self.notes: tuple[str, ...] = ()
        self._root = root
        frames = self._read(paths)
        first = next(frames, None)
        if first is None:
            reason = self.skipped.named[0].reason
            raise IrdetError(
                reason if len(paths) == 1 else f"none of the {len(paths)} images of {name} is readable: {reason}"
            )
        self.size = first.pixels.shape[1], first.pixels.shape[0]
        self._frames = chain([first], frames)

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the images that can be read; `index` counts the files, read or not."""
        return self._frames

    def _read(self, paths: Sequence[Path]) -> Iterator[RawFrame]:
        for index, path in enumerate(paths):
            name = path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else str(path)
            try:
                yield RawFrame(read_image(path), index, None, name)
            except FrameError as error:
                self.skipped.add(Skipped(name, str(error)))


class VideoSource(_Closing):
    """A video file. See `Source`.

    A frame that cannot be decoded is skipped and keeps its number, so `index` and `time` of the others stay right.
    Some decoders leave such frames out without a word: then they are missed at the end, by what the file declares.

    Args:
        path: The file.

    Raises:
        IrdetError: Not a video, or without one frame that can be decoded.
    """

    is_video = True

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.skipped = SkipLog()
        self._file = path.name
        if path.stat().st_size == 0:
            raise IrdetError(f"cannot read {path}: the file is empty (0 bytes)")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if _is_text(head):  # which FFmpeg would draw as a film of its letters
            raise IrdetError(f"cannot read {path}: a text file, neither an image nor a video")
        with quiet_opencv():
            self._capture = cv2.VideoCapture(str(path))
            if not self._capture.isOpened():
                raise IrdetError(f"cannot read {path}: {_why_not(head)}")
            # Grey frames of 16 bits would come as 8-bit colour otherwise; all others are converted well.
            if int(self._capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)) == _GREY16:
                self._capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        fps, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        known = math.isfinite(fps) and 0 < fps <= MAX_FPS
        self.fps: float | None = fps if known else FALLBACK_FPS
        notes = [] if known else [f"{self._file} tells no frame rate: {FALLBACK_FPS:g} frames/s assumed"]
        # A video that was never closed declares no duration, and some containers then give nonsense.
        self.length = int(count) if math.isfinite(count) and 0 < count < 2**31 else None
        if self.length is None:
            notes.append(f"{self._file} declares no length: its recording was not closed, so its end may be missing")
        self.notes: tuple[str, ...] = tuple(notes)
        frames = self._read(1 / self.fps)
        first = next(frames, None)
        if first is None:
            self.close()
            raise IrdetError(f"cannot read {path}: the video has no frame that can be decoded; cut off or damaged?")
        self.size = first.pixels.shape[1], first.pixels.shape[0]
        self._frames = chain([first], frames)

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frames that can be decoded."""
        return self._frames

    def close(self) -> None:
        """Closes the file."""
        self._capture.release()

    def _read(self, period: float) -> Iterator[RawFrame]:
        index = failed = 0
        while True:
            with quiet_opencv():
                ok, pixels = self._capture.read()
            if ok:
                if failed:
                    which = f"frame {index}" if failed == 1 else f"frames {index} to {index + failed - 1}"
                    self._skip(f"{which} cannot be decoded", failed)
                    index, failed = index + failed, 0
                yield RawFrame(pixels, index, index * period, self._file)
                index += 1
                continue
            # Either a frame that is damaged, or the end: only trying tells.
            failed += 1
            if failed >= MAX_FAILED or (self.length is not None and index + failed >= self.length):
                break
        # The length is an estimate from the duration in some containers: one frame less is no loss.
        if self.length is not None and (lost := self.length - index) > 1:
            self._skip(f"{lost} of the {self.length} frames that it declares cannot be decoded; cut off?", lost)

    def _skip(self, reason: str, frames: int) -> None:
        self.skipped.add(Skipped(self._file, f"{self._file}: {reason}", frames))


def _in_folder(folder: Path) -> list[Path]:
    paths = sorted(filter(is_image, folder.iterdir()), key=natural_key)
    if not paths:
        inner = folder / "images"
        hint = f"; did you mean {inner}?" if inner.is_dir() else ""
        raise IrdetError(f"cannot read {folder}: there are no images in this folder{hint}")
    return paths


def _from_glob(pattern: str) -> Source:
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    files = sorted((path for path in matches if path.is_file()), key=natural_key)
    images = list(filter(is_image, files))
    if images:
        parent = Path(os.path.commonpath([path.parent.absolute() for path in images]))
        return ImageSource([path.absolute() for path in images], parent.name or "images", root=parent)
    if len(files) == 1:
        return VideoSource(files[0])
    what = f"{len(files)} files match, but none is an image; videos go one at a time" if files else "nothing matches"
    raise IrdetError(f"cannot read {pattern}: {what}")


def _similar(path: Path) -> str:
    """Suggests a name that is there."""
    import difflib

    if not path.parent.is_dir():
        return f" ({path.parent} is not a folder)" if path.parent.exists() else ""
    close = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], 1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", "ignore")
    # A letter may be cut in two at the end of what was read.
    return len(text.encode()) > len(head) - 4 and all(sign.isprintable() or sign.isspace() for sign in text)


def _why_not(head: bytes) -> str:
    if head[4:8] in (b"ftyp", b"mdat", b"moov"):
        return "an MP4 without its index, so the recording or the copy was cut off"
    return "neither an image nor a video that OpenCV can decode"
