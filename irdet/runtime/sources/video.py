"""Recordings: video files, and those that a server sends."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import IrdetError
from irdet.core.images import opencv_name, printable, quiet_opencv
from irdet.runtime.sources.base import Closing, NothingLeft, RawFrame, SkipLog, Skipped, SourceOptions

#: A video is at its end when so many frames in a row cannot be decoded.
MAX_FAILED = 500

#: A frame that is further from a whole number of periods, in periods, is of a rate that varies.
OFF_BEAT = 0.25

#: What FFmpeg calls grey of 16 bits, little endian: the one deep format that OpenCV leaves as it is.
_GREY16 = b"Y1\x00\x10"

#: Grey of 9 to 16 bits: little endian begins, big endian ends with these (FFmpeg's tags).
_DEEP_GREY, _DEEP_GREY_BIG = b"Y1\x00", b"\x001Y"

#: Colours of 9 to 16 bits, likewise: luma and chroma without and with transparency, red, green and blue.
_DEEP_COLOURS = b"Y3", b"Y4", b"G3", b"G4"

_TO_GREY = "ffmpeg -i {} -c:v ffv1 -pix_fmt gray16le deep.mkv"

#: Bytes at the start of a file that tell whether it is text.
_HEAD_BYTES = 1024


class VideoSource(Closing):
    """A recording. See `Source`.

    A frame that cannot be decoded is skipped and keeps its number, so `index` and `time` of the others stay right: how
    many a damaged place has cost is told by the container's stamp of the frame behind it, since some decoders leave
    more out than they report. Where they report none at all, those are missed at the end, by what the file declares.

    Args:
        capture: The opened video; closed with the source.
        name: Name of the source.
        file: What its frames are called.
        options: Which of them are wanted.

    Raises:
        IrdetError: Without one frame that can be decoded, or of a depth that OpenCV would cut.
    """

    is_video = True
    live = False

    def __init__(self, capture: cv2.VideoCapture, name: str, file: str, options: SourceOptions) -> None:
        self.name = name
        self.skipped = SkipLog()
        self._file = file
        self._capture = capture
        self._options = options
        try:
            self._prepare()
        except IrdetError:
            self.close()
            raise

    def _prepare(self) -> None:
        with quiet_opencv():
            cut = keep_depth(self._capture, self._file)
        width, height = (int(self._capture.get(what)) for what in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self._options.check_size(width, height, self._file)
        fps, notes = self._options.rate(self._capture.get(cv2.CAP_PROP_FPS), self._file)
        notes += cut
        self.fps: float | None = fps
        # A video that was never closed declares no duration, and some containers then give nonsense.
        self._declared = declared_length(self._capture)
        self.length: int | None = None
        if self._declared is None:
            notes += (f"{self._file} declares no length: its recording was not closed, so its end may be missing",)
        else:
            self.length = len(self._options.chosen(self._declared, self._file))
        self.notes: tuple[str, ...] = notes
        frames = self._read(1 / fps)
        first = next(frames, None)
        if first is None:
            told = f"cannot read {self._file}: the video has no frame"
            if self._options.start:
                raise NothingLeft(
                    f"{told} from --start {self._options.start} on that can be decoded; cut off or damaged?",
                    self.skipped,
                )
            raise IrdetError(f"{told} that can be decoded; cut off or damaged?")
        self.size = first.pixels.shape[1], first.pixels.shape[0]
        self._frames = chain([first], frames)

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frames that can be decoded."""
        return self._frames

    def name_of(self, index: int) -> str:
        """Returns what every frame is called."""
        return self._file

    def close(self) -> None:
        """Closes the file."""
        self._capture.release()

    def _read(self, period: float) -> Iterator[RawFrame]:
        index = failed = 0
        clock = _Clock(self._capture, period, trusted=self._options.fps is None)
        while not self._options.over(index + failed):
            # Behind damaged frames the place is known only when it is reached.
            ok, pixels = self._next(wanted=failed > 0 or self._options.takes(index))
            if ok:
                if failed:
                    lost = clock.lost(index, failed)
                    if self._declared is not None and index + lost >= self._declared:
                        lost = failed
                    which = f"frame {index}" if lost == 1 else f"frames {index} to {index + lost - 1}"
                    self._skip(f"{which} cannot be decoded", lost)
                    index, failed = index + lost, 0
                time = clock(index)
                if pixels is not None and self._options.takes(index):
                    yield RawFrame(pixels, index, time, self._file)
                index += 1
                continue
            # Either a frame that is damaged, or the end: only trying tells.
            failed += 1
            if failed >= MAX_FAILED or (self._declared is not None and index + failed >= self._declared):
                break
        else:  # all that was wanted
            if failed:
                self._skip(f"{failed} of the last frames that were wanted cannot be decoded", failed)
            return
        # The length is an estimate from the duration in some containers: one frame less is no loss.
        if self._declared is not None and (lost := self._declared - index) > 1:
            self._skip(f"{lost} of the {self._declared} frames that it declares cannot be decoded; cut off?", lost)

    def _next(self, wanted: bool) -> tuple[bool, NDArray[np.generic] | None]:
        """Goes to the next frame and decodes it where it is wanted; tells whether that worked."""
        try:
            with quiet_opencv():
                ok = self._capture.grab()
                return self._capture.retrieve() if ok and wanted else (ok, None)
        except cv2.error:  # OpenCV's own reader of AVI asserts that chunks are small
            return False, None

    def _skip(self, reason: str, frames: int) -> None:
        self.skipped.add(Skipped(self._file, f"{self._file}: {reason}", frames))


class _Clock:
    """Time of the frames: the container's own stamps, which hold for varying rates too, else the number by the rate.

    A stamp that stands still or runs backwards is none: the frame comes so many periods after the last that had one.
    """

    def __init__(self, capture: cv2.VideoCapture, period: float, *, trusted: bool) -> None:
        self._capture = capture
        self._period = period
        self._trusted = trusted
        self._first: float | None = None
        self._base = 0, 0.0  # the last frame with a stamp, and its time
        self._last = -math.inf

    def __call__(self, index: int) -> float:
        """Returns the seconds since the first frame for the frame that was grabbed last."""
        stamp = self._stamp()
        if self._first is None:
            self._first = stamp - index * self._period
        time = stamp - self._first
        if self._trusted and math.isfinite(time) and time > self._last:
            self._base = index, time
        else:
            time = self._base[1] + (index - self._base[0]) * self._period
        self._last = time
        return time

    def lost(self, index: int, reported: int) -> int:
        """Returns how many frames lie between the last one and the one that was grabbed now.

        Args:
            index: The number that the frame would have if none lay between.
            reported: How many of them the decoder could not decode. Right where stamps cannot tell: at the start, and
                where the last frame and this one are not whole periods from the first.
        """
        stamp = self._stamp()
        if self._first is None or not self._trusted or not math.isfinite(stamp - self._first):
            return reported
        before, now = self._last / self._period, (stamp - self._first) / self._period
        steady = abs(before - (index - 1)) < OFF_BEAT and abs(now - round(now)) < OFF_BEAT
        return round(now) - index if steady and round(now) > index else reported

    def _stamp(self) -> float:
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3


def open_video(path: Path, options: SourceOptions) -> VideoSource:
    """Opens a video file.

    Raises:
        IrdetError: Not a video, or without one frame that can be decoded.
    """
    if path.stat().st_size == 0:
        raise IrdetError(f"cannot read {path}: the file is empty (0 bytes)")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if _is_text(head):  # which FFmpeg would draw as a film of its letters
        raise IrdetError(f"cannot read {path}: a text file, neither an image nor a video")
    with quiet_opencv():
        # Absolute, because FFmpeg would take "concat:a" for a protocol.
        capture = cv2.VideoCapture(opencv_name(path.absolute()))
    if not capture.isOpened():
        raise IrdetError(f"cannot read {path}: {_why_not(head)}")
    return VideoSource(capture, printable(path.stem), printable(path.name), options)


def declared_length(capture: cv2.VideoCapture) -> int | None:
    """Returns the number of frames that a video declares; None where it does not, as live streams do not."""
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if math.isfinite(count) and 0 < count < 2**31 else None


def keep_depth(capture: cv2.VideoCapture, name: str) -> tuple[str, ...]:
    """Has grey frames of 16 bits come as they are; all others of up to 8 bits are converted well.

    Returns:
        A note where colours are deeper, of which OpenCV leaves 8 bits: they are mostly pictures for the eye.

    Raises:
        IrdetError: It would cut grey, which are counts, to 8 bits.
    """
    tag = int(capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)).to_bytes(4, "little", signed=True)
    if tag == _GREY16:
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    elif tag.startswith(_DEEP_GREY) or tag.endswith(_DEEP_GREY_BIG):
        bits = f"{tag[3]} bits" if tag.startswith(_DEEP_GREY) else f"{tag[0]} bits, big endian,"
        raise IrdetError(
            f"cannot read {name}: OpenCV would cut its grey of {bits} to 8; convert it: {_TO_GREY.format(name)}"
        )
    depth = tag[3] if tag[:2] in _DEEP_COLOURS else tag[0] if tag[:1:-1] in _DEEP_COLOURS else 8
    if 8 < depth <= 16 or tag in (b"P010", b"P016"):
        return (f"{name}: OpenCV leaves 8 bits of its deeper colours; to keep all: {_TO_GREY.format(name)}",)
    return ()


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", "ignore")
    # A letter may be cut in two at the end of what was read.
    return len(text.encode()) > len(head) - 4 and all(sign.isprintable() or sign.isspace() for sign in text)


def _why_not(head: bytes) -> str:
    if head[4:8] in (b"ftyp", b"mdat", b"moov"):
        return "an MP4 without its index, so the recording or the copy was cut off"
    return "neither an image nor a video that OpenCV can decode"
