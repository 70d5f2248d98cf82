"""Where results go: JSON lines, CSV, annotated video or pictures, masks, a window. Each opens at its first frame."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, Protocol, TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import IrdetError, MissingDependency
from irdet.core.frame import Frame
from irdet.core.images import opencv_name, quiet_opencv, write_png
from irdet.core.targets import Target
from irdet.runtime.detector import Detection
from irdet.runtime.sources import FALLBACK_FPS, SourceOptions, open_source

#: A video stops while this much is left on its disk beside what its container holds back: OpenCV's writer loses frames
#: without a word where it is full. Where it is not known what is held back, that is 5 MB at most (a cluster).
RESERVED_BYTES, HELD_BYTES = 256 << 10, 8 << 20

#: Longer names are cut, bytes: file systems hold 255, and what is added is some.
LONGEST_NAME = 200

#: Of the annotated video's frames, 0 to 100.
_JPEG_QUALITY = 85

#: JPEG holds no longer side (libjpeg's limit), px.
_JPEG_SIDE = 65500

#: Has OpenCV's writer take frames that are JPEGs already: libjpeg-turbo makes them in a third of the time that FFmpeg's
#: coder takes, and truer. OpenCV 4.8 cannot, and leaves them to FFmpeg.
_RAW_VIDEO = [raw, 1] if (raw := getattr(cv2, "VIDEOWRITER_PROP_RAW_VIDEO", None)) is not None else []

#: What is measured in counts of the source.
_COUNTS = ("peak", "background", "background_std", "contrast")

#: Decimals of what is written; other numbers are whole.
_DECIMALS = {"x": 3, "y": 3, "score": 4, "mean_score": 4, "scr": 3} | dict.fromkeys(_COUNTS, 3)

#: Counts below this have six digits that count instead.
SMALL = 0.1

_COLUMNS = (
    *("frame", "time", "source", "x", "y", "left", "top", "width", "height", "area", "score", "mean_score", "peak"),
    *("background", "background_std", "contrast", "scr", "touches_border", "saturated", "bad_pixel"),
)


class Sink(Protocol):
    """Takes the frames of a run, in order.

    Attributes:
        path: The file or folder that it writes; None where it writes none.
    """

    path: Path | None

    @property
    def wants_picture(self) -> bool:
        """Whether it needs the annotated picture."""
        ...

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None) -> None:
        """Takes one frame.

        Args:
            detection: What was found in it.
            picture: The annotated frame, uint8 [H, W, 3], BGR; None unless some sink wants it.

        Raises:
            IrdetError: It cannot be written.
        """
        ...

    def close(self) -> None:
        """Finishes what was written. Calling it again does nothing.

        Raises:
            IrdetError: What was written is not all there.
        """
        ...


class JsonLinesSink:
    """One line of strict JSON a frame, as `frame_record` has it. See `Sink`.

    Each line is handed to the system before the next frame, so a run that is killed keeps every finished one.

    Args:
        path: The file to write.
        resume: Go on after what the file holds.
    """

    wants_picture: ClassVar[bool] = False

    def __init__(self, path: Path, resume: bool = False) -> None:
        self.path: Path | None = path
        self._out = TextFile(path, resume)

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None = None) -> None:
        """Appends the frame's line."""
        self._out.append(frame_line(detection))

    def close(self) -> None:
        """Closes the file."""
        self._out.close()


class CsvSink:
    """One row a target under a header; frames without targets have none. See `Sink`.

    Args:
        path: The file to write.
        resume: Go on after what the file holds.
    """

    wants_picture: ClassVar[bool] = False

    def __init__(self, path: Path, resume: bool = False) -> None:
        self.path: Path | None = path
        self._out = TextFile(path, resume)
        self._rows = csv.writer(self._out, lineterminator="\n")
        self._headed = resume and path.exists()

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None = None) -> None:
        """Appends a row for each target of the frame."""
        if not self._headed:
            self._rows.writerow(_COLUMNS)
            self._headed = True
        frame = detection.frame
        for target in detection.targets:
            record = _record(target)
            record |= dict(zip(("left", "top", "width", "height"), record["bbox"], strict=True))
            record |= {name: int(record[name]) for name in ("touches_border", "saturated", "bad_pixel")}
            record |= {"frame": frame.index, "time": seconds(frame.time), "source": frame.source}
            self._rows.writerow(record[name] for name in _COLUMNS)
        self._out.flush()

    def close(self) -> None:
        """Closes the file."""
        self._out.close()


class VideoSink:
    """The annotated video: Motion JPEG in Matroska. See `Sink`.

    Every frame stands by itself and Matroska needs no index, so what a killed run has written plays. Motion JPEG is
    in every build of OpenCV and keeps targets of three pixels (40 to 51 dB on thermal clips, 4 to 13 kB a frame).

    Args:
        path: The file to write; its suffix is `.mkv`.
        fps: Frames per second; `FALLBACK_FPS` where the source has none.
    """

    wants_picture: ClassVar[bool] = True

    def __init__(self, path: Path, fps: float | None) -> None:
        self.path: Path | None = path
        self._path = path
        self._fps = fps or FALLBACK_FPS
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._frames = self._bytes = 0

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None) -> None:
        """Appends the picture."""
        assert picture is not None
        if not self._frames:
            # The codec wants even sides.
            self._size = picture.shape[1] + picture.shape[1] % 2, picture.shape[0] + picture.shape[0] % 2
        right, bottom = self._size[0] - picture.shape[1], self._size[1] - picture.shape[0]
        if (right, bottom) not in ((0, 0), (0, 1), (1, 0), (1, 1)):
            # Frames of another size would be dropped without a word.
            picture = np.asarray(cv2.resize(picture, self._size), np.uint8)
        elif right or bottom:
            picture = np.pad(picture, ((0, bottom), (0, right), (0, 0)), mode="edge")
        if _RAW_VIDEO:
            picture = _jpeg(picture)
        self._make_room(picture.nbytes)
        if self._writer is None:
            self._writer = self._open()
        with quiet_opencv():
            self._writer.write(picture)
        self._frames += 1
        self._bytes += picture.nbytes

    def close(self) -> None:
        """Finishes the video and makes sure that it holds all its frames."""
        if self._writer is None:
            return
        with quiet_opencv():
            self._writer.release()
        self._writer = None
        try:
            with open_source(self._path, SourceOptions(max_pixels=sys.maxsize)) as video:
                length = video.length or 0
        except IrdetError:
            length = 0
        if length < self._frames - 1:  # the length is rounded from the duration
            raise IrdetError(f"cannot write {self._path}: not all of its {self._frames} frames arrived; disk full?")

    def _make_room(self, size: int) -> None:
        """Finishes the video where the disk has no room for so many bytes more, while it has some for what is held."""
        there = self._path.stat().st_size if self._path.exists() else 0
        held = max(0, self._bytes - there) if _RAW_VIDEO else HELD_BYTES
        folder = next(one for one in self._path.absolute().parents if one.exists())
        if shutil.disk_usage(folder).free < held + size + RESERVED_BYTES:
            self.close()
            kept = f"the first {self._frames} frames are kept" if self._frames else "there is no room for one frame"
            raise IrdetError(f"cannot write {self._path}: the disk is full; {kept}")

    def _open(self) -> cv2.VideoWriter:
        with _writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.open("wb").close()  # OpenCV would not say why it cannot
        code = cv2.VideoWriter.fourcc(*"MJPG")
        with quiet_opencv():
            writer = cv2.VideoWriter(opencv_name(self._path), cv2.CAP_FFMPEG, code, self._fps, self._size, _RAW_VIDEO)
        if not writer.isOpened():
            raise IrdetError(f"cannot write {self._path}: this OpenCV cannot write Motion JPEG in Matroska (.mkv)")
        return writer


def _jpeg(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if max(picture.shape) > _JPEG_SIDE:
        raise IrdetError(
            f"no video of {picture.shape[1]}x{picture.shape[0]}: at most {_JPEG_SIDE} px fit; add --no-video"
        )
    return np.asarray(cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))[1], np.uint8)


class PictureSink:
    """Annotated pictures, a PNG for each frame. See `Sink`.

    Args:
        folder: The folder to write into.
        done: Number and source of the frames that were written before.
        named: Files are called as the frames' sources; None for those of frames without a clock.
    """

    wants_picture: ClassVar[bool] = True

    def __init__(self, folder: Path, done: Iterable[tuple[int, str]] = (), named: bool | None = None) -> None:
        self.path: Path | None = folder
        self._names = _PngNames(folder, done, named)

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None) -> None:
        """Writes the picture."""
        assert picture is not None
        write_png(self._names.next(detection.frame), picture)

    def close(self) -> None:
        """Does nothing."""


class MaskSink:
    """The pixels of the targets, an 8-bit PNG of 0 and 255 for each frame, as large as the frame. See `Sink`.

    Args:
        folder: The folder to write into.
        done: Number and source of the frames that were written before.
        named: Files are called as the frames' sources; None for those of frames without a clock.
    """

    wants_picture: ClassVar[bool] = False

    def __init__(self, folder: Path, done: Iterable[tuple[int, str]] = (), named: bool | None = None) -> None:
        self.path: Path | None = folder
        self._names = _PngNames(folder, done, named)

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None = None) -> None:
        """Writes the mask."""
        write_png(self._names.next(detection.frame), detection.mask.astype(np.uint8) * np.uint8(255))

    def close(self) -> None:
        """Does nothing."""


class WindowSink:
    """Shows the annotated frames in a window; `q`, Escape or closing it sets `closed`. See `Sink`.

    Args:
        title: Title of the window.

    Raises:
        MissingDependency: This OpenCV or this machine cannot show windows; says what helps.
    """

    wants_picture: ClassVar[bool] = True

    def __init__(self, title: str) -> None:
        # Without a display, Qt would end the process rather than raise.
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise MissingDependency("--show needs a display, and this machine has none (DISPLAY is not set)")
        try:
            cv2.namedWindow(title, cv2.WINDOW_AUTOSIZE)
        except cv2.error as error:
            raise MissingDependency(
                "--show needs an OpenCV with windows: "
                "pip uninstall opencv-python-headless, then pip install opencv-python"
            ) from error
        self.path: Path | None = None
        self.closed = False
        self._title = title

    def write(self, detection: Detection, picture: NDArray[np.uint8] | None) -> None:
        """Shows the picture."""
        assert picture is not None
        cv2.imshow(self._title, picture)
        pressed = cv2.waitKey(1) & 0xFF
        gone = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        self.closed = self.closed or pressed in (ord("q"), 27) or gone

    def close(self) -> None:
        """Closes the window."""
        cv2.destroyAllWindows()


def frame_line(detection: Detection) -> str:
    """Returns a frame's line of JSON, ended."""
    return json.dumps(frame_record(detection), allow_nan=False) + "\n"


def frame_record(detection: Detection) -> dict[str, Any]:
    """Returns what is written of a frame as JSON values.

    That is `frame`, `time` (s or null), `source`, `range` (the counts that became 0 and 1; of deep frames alone, where
    they follow the data) and `targets`.
    """
    frame = detection.frame
    return {
        "frame": frame.index,
        "time": seconds(frame.time),
        "source": frame.source,
        **({} if frame.range is None else {"range": list(frame.range)}),
        "targets": [_record(target) for target in detection.targets],
    }


class TextFile:
    """A text file that is opened when it is first written to, and whose errors name it.

    Args:
        path: The file to write.
        resume: Go on after what it holds.
    """

    def __init__(self, path: Path, resume: bool = False) -> None:
        self._path = path
        self._mode: Literal["a", "w"] = "a" if resume else "w"
        self._file: TextIO | None = None

    def write(self, text: str) -> None:
        """Writes; what is written reaches the system at `flush` at the latest."""
        with _writing(self._path):
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open(self._mode, encoding="utf-8", newline="")
            self._file.write(text)

    def flush(self) -> None:
        """Hands what was written to the system."""
        if self._file is not None:
            with _writing(self._path):
                self._file.flush()

    def append(self, text: str) -> None:
        """Writes a whole line at once and hands it to the system."""
        self.write(text)
        self.flush()

    def close(self) -> None:
        """Closes the file."""
        file, self._file = self._file, None
        if file is not None:
            with _writing(self._path):
                file.close()


class _PngNames:
    """Names a PNG after the frame's source, or after its number where all come from one.

    Args:
        folder: The folder that they lie in.
        done: Number and source of the images that have theirs.
        named: Every frame is an image of its own; None where its having no clock tells.
    """

    def __init__(self, folder: Path, done: Iterable[tuple[int, str]] = (), named: bool | None = None) -> None:
        self._folder = folder
        self._named = named
        self._taken: set[str] = set()
        for index, source in done:
            self._name(index, source)

    def next(self, frame: Frame) -> Path:
        named = frame.time is None if self._named is None else self._named
        name = self._name(frame.index, frame.source) if named else f"{frame.index:06d}"
        return self._folder / f"{name}.png"

    def _name(self, index: int, source: str) -> str:
        flat = _short(re.sub(r"[/\\:]+", "_", source)) or "frame"
        name = PurePosixPath(flat).stem
        if name in self._taken:  # a.png and a.tif, or the same name in two folders
            name = flat if flat not in self._taken else f"{flat}-{index}"
        self._taken.add(name)
        return name


def _short(name: str) -> str:
    """Returns a name that a file may have; paths below a folder may be longer together."""
    data = name.encode()
    if len(data) <= LONGEST_NAME:
        return name
    end = PurePosixPath(name).suffix
    return data[:LONGEST_NAME].decode(errors="ignore") + "-" + hashlib.sha256(data).hexdigest()[:12] + end


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise IrdetError(f"cannot write {path}: {error.strerror or error}") from error


def _record(target: Target) -> dict[str, Any]:
    """Returns a target as JSON values, without its frame and time, rounded to what they are worth."""
    fields: Mapping[str, Any] = target.to_dict()
    return {
        name: _rounded(name, value) if name in _DECIMALS else list(value) if name == "bbox" else value
        for name, value in fields.items()
        if name not in ("frame", "time")
    }


def _rounded(name: str, value: float) -> float:
    # Radiances and the like may be far below 1, where decimals leave nothing.
    return float(f"{value:.6g}") if name in _COUNTS and abs(value) < SMALL else round(value, _DECIMALS[name])


def seconds(time: float | None) -> float | None:
    """Returns a time as it stands in results, s."""
    return None if time is None else round(time, 6)
