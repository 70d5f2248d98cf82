"""Reading images as they are stored, writing pictures, and the order of their names."""

from __future__ import annotations

import io
import os
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import FrameError, IrdetError
from irdet.core.files import replacing

#: Suffixes that are read as images.
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".pnm", ".jp2"})

#: Frames of more pixels are refused unless asked for: 8192 x 8192.
MAX_PIXELS = 1 << 26

#: What a PNG file begins with (PNG specification, 5.2).
PNG = b"\x89PNG"


class _Quiet:
    """OpenCV's log level is the whole process's: the first of several threads lowers it, the last puts it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._level = 0
        # OpenCV 4 has the function at its top, OpenCV 5 in a module.
        self._set = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._level = self._set(0)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._set(self._level)


_QUIET = _Quiet()


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keeps OpenCV from writing on stderr: what it has to say is said in our one line."""
    _QUIET.enter()
    try:
        yield
    finally:
        _QUIET.leave()


def check_size(width: int, height: int, max_pixels: int, name: str | os.PathLike[str], settable: bool = True) -> None:
    """Refuses frames that are too large.

    Args:
        width: Of the frame, px.
        height: Of the frame, px.
        max_pixels: The most that is allowed.
        name: Whose frame it is.
        settable: The user can raise the limit, and is told so.

    Raises:
        FrameError: They are.
    """
    if width * height > max_pixels:
        hint = "; if that is meant, raise --max-pixels" if settable else ""
        raise FrameError(f"cannot read {name}: {width}x{height} px are more than {max_pixels} pixels{hint}")


def check_header(file: Path | bytes, max_pixels: int, name: str | os.PathLike[str], settable: bool = True) -> None:
    """Refuses an image that its own header calls too large, before anything is decoded.

    A few kilobytes can unpack to gigabytes. Headers that cannot be understood are left to the decoder.

    Args:
        file: Its path, or what it holds.
        max_pixels: The most that is allowed.
        name: Whose frame it is.
        settable: The user can raise the limit, and is told so.

    Raises:
        FrameError: It is too large.
    """
    width, height = sides(file)
    if width > 0 and height > 0:
        check_size(width, height, max_pixels, name, settable)


def sides(file: Path | bytes) -> tuple[int, int]:
    """Returns width and height by an image's header; -1 where it is of no known format, or damaged."""
    # imagesize brings urllib and ssl along: what most frames are stored as need not wait for these.
    if isinstance(file, bytes) and file.startswith(PNG) and file[12:16] == b"IHDR":  # PNG specification, 11.2.1
        return int.from_bytes(file[16:20], "big"), int.from_bytes(file[20:24], "big")
    import imagesize

    try:
        width, height = imagesize.get(io.BytesIO(file) if isinstance(file, bytes) else file)
    except Exception:  # what it raises for damaged headers is not documented
        return -1, -1
    return width, height


def printable(name: str) -> str:
    """Returns a file's name as it can be written in a line: bytes that are no UTF-8, and breaks, become one sign."""
    return re.sub(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]", "\ufffd", os.fsencode(name).decode("utf-8", "replace"))


def opencv_name(path: str | os.PathLike[str]) -> str:
    """Returns a path for OpenCV to open, which crashes on names that are no UTF-8.

    Raises:
        FrameError: The name is none.
    """
    text = os.fspath(path)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FrameError(f"{printable(text)}: OpenCV opens no name that is not UTF-8; rename it") from error
    return text


def write_png(path: str | os.PathLike[str], pixels: NDArray[np.generic]) -> None:
    """Writes a PNG in one step, under names that are no UTF-8, too, on which `cv2.imwrite` crashes.

    Args:
        path: The file.
        pixels: uint8 or uint16, [H, W] or [H, W, 3] in OpenCV's order (BGR).

    Raises:
        IrdetError: It cannot be encoded or written.
    """
    done, data = cv2.imencode(".png", pixels)
    if not done:
        raise IrdetError(f"cannot encode {path}")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def read_image(path: str | os.PathLike[str], max_pixels: int | None = None) -> NDArray[np.generic]:
    """Reads an image as it is stored: its own depth, its own channels.

    Args:
        path: The file.
        max_pixels: Larger ones are refused by their header; `MAX_PIXELS` where None.

    Raises:
        FrameError: It cannot be read; says why.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FrameError(f"cannot read {path}: {error.strerror or error}") from error
    if not data:
        raise FrameError(f"cannot read {path}: the file is empty (0 bytes)")
    check_header(data, MAX_PIXELS if max_pixels is None else max_pixels, path, max_pixels is not None)
    pixels = None
    if not _damaged(data):
        with quiet_opencv(), suppress(cv2.error):
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise FrameError(f"cannot read {path}: not an image that OpenCV can decode, or damaged")
    return pixels


def is_image(path: Path) -> bool:
    """Tells whether a file counts as an image: by its suffix, and not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def natural_key(path: str | os.PathLike[str]) -> tuple[list[tuple[int, int, str]], str]:
    """Key that sorts numbers in names by value: `Misc_2` before `Misc_10`."""
    name = Path(path).as_posix()
    parts = filter(None, re.split(r"([0-9]+)", name))
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part.casefold()) for part in parts], name


def _damaged(data: bytes) -> bool:
    """Tells damage that a decoder would pass over, or complain of on stderr by itself.

    A JPEG whose end is missing is filled up with grey by some; a PNG carries checksums.
    """
    if data.startswith(b"\xff\xd8"):
        return not _whole_jpeg(data)
    return data.startswith(PNG) and not _whole_png(data)


def _whole_jpeg(data: bytes) -> bool:
    """Tells whether an end follows the first scan. What cameras append behind it may hold any bytes."""
    place = 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 4 <= len(data):
        kind = data[place + 1]
        if kind == 0xDA:
            return data.find(b"\xff\xd9", place) >= 0
        # Markers without a segment, and what fills up between two of them.
        alone = kind in (0x00, 0x01, 0xFF) or 0xD0 <= kind <= 0xD9
        place += (1 if kind == 0xFF else 2) if alone else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def _whole_png(data: bytes) -> bool:
    place = 8
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        if zlib.crc32(data[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return False
        if data[place + 4 : place + 8] == b"IEND":
            return True
        place = end + 4
    return False
