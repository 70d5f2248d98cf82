"""Sources that are never over: cameras, network streams, GStreamer pipelines. What drops out is connected again."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import FrameError, IrdetError, UsageError
from irdet.core.images import quiet_opencv
from irdet.runtime.sources.base import Closing, RawFrame, SkipLog, Skipped, Source, SourceOptions
from irdet.runtime.sources.video import VideoSource, declared_length, keep_depth

#: A server that does not answer, or sends nothing for so long, is gone (ms).
OPEN_TIMEOUT, READ_TIMEOUT = 5_000, 10_000

#: Seconds until the first attempt to connect again, and the most between two; each waits twice as long as the last.
FIRST_DELAY, LAST_DELAY = 0.5, 30.0

#: Gaps that are kept with their reasons.
MAX_GAPS = 1000

#: Protocols that are passed on to FFmpeg.
SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "rtp", "srt")

#: Names that recorders and GStreamer have for the user, the password and other secrets, and their values.
_NAMED_SECRET = re.compile(
    r"\b(user(?:name|-?id)?|(?:user|proxy)-?(?:id|pw)|passw(?:or)?d|pass|passphrase|pwd|token|extra-headers)="
    r"(?:\"[^\"]*\"|'[^']*'|[^\s&?#]*)",
    re.I,
)

#: What an address begins with, one where a slash was forgotten, too; a drive of Windows is none.
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}"

_Y16 = cv2.VideoWriter.fourcc(*"Y16 ")


class LiveSource(Closing):
    """Frames as they arrive. See `Source`.

    `time` is when a frame arrived. When the stream drops out it is connected again, after 0.5 s, 1 s, 2 s ... up to
    30 s, until a frame comes; the gap stands in `skipped`, and `index` goes on as if the frames had come, so that it
    stays in step with `time`.

    Args:
        connect: Opens the stream; its result is not open where that fails.
        name: Name of the source.
        label: What its frames are called.
        options: Which of them are wanted, and how long to wait for a stream that is gone.
        capture: The stream where it is open already.

    Raises:
        IrdetError: It gives no frame.
    """

    is_video = True
    live = True
    length: int | None = None

    def __init__(
        self,
        connect: Callable[[], cv2.VideoCapture],
        name: str,
        label: str,
        options: SourceOptions,
        capture: cv2.VideoCapture,
    ) -> None:
        self.name = name
        self.skipped = SkipLog(MAX_GAPS)
        self._connect = connect
        self._label = label
        self._options = options
        self._capture = capture
        self._closed = threading.Event()
        self._busy = threading.Lock()  # held while the capture is used
        if options.limit is not None:
            self.length = options.limit
        try:
            cut = keep_depth(capture, label)
            self.fps: float | None
            self.fps, notes = options.rate(capture.get(cv2.CAP_PROP_FPS), label)
            self.notes = notes + cut
            frames = self._frames(self.fps)
            first = next(frames, None)
            if first is None:
                raise IrdetError(f"cannot read {label}: connected, but no frame comes")
        except IrdetError:
            self.close()
            raise
        self.size = first.pixels.shape[1], first.pixels.shape[0]
        self._all = chain([first], frames)

    def __iter__(self) -> Iterator[RawFrame]:
        """Yields the frames that arrive."""
        return self._all

    def name_of(self, index: int) -> str:
        """Returns what every frame is called."""
        return self._label

    def close(self) -> None:
        """Closes the stream; a wait for it ends.

        While another thread reads, that thread frees the stream when the read is over: freed under it, it would crash.
        """
        self._closed.set()
        if self._busy.acquire(blocking=False):
            try:
                self._capture.release()
            finally:
                self._busy.release()

    def _frames(self, fps: float) -> Iterator[RawFrame]:
        index = 0
        start = last = 0.0  # arrival of the first frame, and of the last
        delay = 0.0  # what was waited for a stream that is gone
        while not self._options.over(index) and not self._closed.is_set():
            pixels = self._next()
            now = time.monotonic()
            if pixels is None:
                if index == 0:  # without one frame so far it is no stream that dropped out
                    return
                # Only a frame proves that it is back: some servers let everybody in and send nothing.
                delay = self._again(last, delay)
                continue
            if index == 0:
                start = now
            elif delay:
                lost = max(1, round((now - last) * fps) - 1)
                reason = f"{self._label}: lost after {last - start:.1f} s, back after {now - last:.1f} s"
                self.skipped.add(Skipped(self._label, f"{reason}, about {lost} frames", lost))
                index += lost
                delay = 0.0
            last = now
            if self._options.takes(index):
                try:
                    self._options.check_size(pixels.shape[1], pixels.shape[0], self._label)
                except FrameError as error:
                    if index == 0:
                        raise
                    self.skipped.add(Skipped(self._label, str(error)))
                else:
                    yield RawFrame(pixels, index, now - start, self._label)
            index += 1

    def _next(self) -> NDArray[np.generic] | None:
        """Returns the next frame; None where none comes."""
        with self._busy:
            pixels = self._read()
        if self._closed.is_set():
            self.close()
        return pixels

    def _read(self) -> NDArray[np.generic] | None:
        try:
            with quiet_opencv():
                ok, pixels = self._capture.read()
                if ok and int(self._capture.get(cv2.CAP_PROP_FOURCC)) == _Y16:
                    return deep_frame(pixels, self._capture)
        except (cv2.error, ValueError):  # the latter: bytes that are no frame of the declared size
            return None
        return pixels if ok else None

    def _again(self, last: float, delay: float) -> float:
        """Waits, twice as long as before, and connects again; returns what it meant to wait, s."""
        delay = min(2 * delay, LAST_DELAY) if delay else FIRST_DELAY
        patience, gone = self._options.patience, time.monotonic() - last
        if patience is not None and gone >= patience:
            raise IrdetError(f"{self._label}: gone for {gone:.0f} s (--give-up {patience:g})")
        with self._busy:
            self._capture.release()
        if self._closed.wait(delay if patience is None else min(delay, patience - gone)):
            return delay
        with quiet_opencv():
            capture = self._connect()
            keep_depth(capture, self._label)
        with self._busy:
            self._capture = capture
        if self._closed.is_set():
            self.close()
        return delay


def open_url(url: str, options: SourceOptions) -> Source:
    """Opens what a server sends: a recording where it declares its length, else a live stream.

    Raises:
        IrdetError: Nothing answers, or it sends no video.
        UsageError: Not an address.
    """
    label = redacted(url)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageError(f"{label} is no address") from error
    if parts.scheme.lower() not in SCHEMES:
        raise IrdetError(f"cannot read {label}: no protocol of {', '.join(SCHEMES)}")

    def connect() -> cv2.VideoCapture:
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT]
        return cv2.VideoCapture(url, cv2.CAP_FFMPEG, timeouts)

    with quiet_opencv():
        capture = connect()
    if not capture.isOpened():
        raise IrdetError(f"cannot read {label}: nothing answers there, or it sends no video that OpenCV can decode")
    name = _plain(f"{parts.hostname or ''}{urlsplit(label).path}") or "stream"
    if declared_length(capture) is not None:
        return VideoSource(capture, name, label, options)
    return LiveSource(connect, name, label, options, capture)


def open_camera(number: int, options: SourceOptions) -> LiveSource:
    """Opens a camera by its number, in its 16-bit mode (V4L2's Y16) where it has one.

    Raises:
        IrdetError: No such camera, or it gives no frame.
    """
    backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
    label = f"camera {number}"

    def connect() -> cv2.VideoCapture:
        capture = cv2.VideoCapture(number, backend)
        if capture.isOpened() and backend == cv2.CAP_V4L2 and capture.set(cv2.CAP_PROP_FOURCC, _Y16):
            if int(capture.get(cv2.CAP_PROP_FOURCC)) == _Y16:
                capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
            else:  # some drivers say yes and do otherwise, and are confused from then on
                capture.release()
                capture = cv2.VideoCapture(number, backend)
        return capture

    with quiet_opencv():
        capture = connect()
    if not capture.isOpened():
        raise IrdetError(f"cannot open {label}: no such camera, no permission, or another program uses it")
    return LiveSource(connect, f"camera-{number}", label, options, capture)


def open_pipeline(pipeline: str, options: SourceOptions) -> LiveSource:
    """Opens a GStreamer pipeline, which must end in an appsink.

    Raises:
        IrdetError: This OpenCV has no GStreamer, or the pipeline does not start.
    """

    def connect() -> cv2.VideoCapture:
        return cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)

    with quiet_opencv():
        capture = connect()
    if not capture.isOpened():
        has = re.search(r"GStreamer:\s*YES", cv2.getBuildInformation())
        why = "test it with gst-launch-1.0" if has else "this OpenCV has no GStreamer; JetPack's and Debian's have it"
        raise IrdetError(f"cannot start the GStreamer pipeline: {why}")
    return LiveSource(connect, "gstreamer", "the GStreamer pipeline", options, capture)


def deep_frame(pixels: NDArray[np.generic], capture: cv2.VideoCapture) -> NDArray[np.generic]:
    """Returns a Y16 frame as uint16 [H, W]; OpenCV before 4.10 hands out its bytes."""
    if pixels.dtype == np.uint16:
        return pixels.reshape(pixels.shape[:2])
    width, height = (int(capture.get(what)) for what in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    return np.ascontiguousarray(pixels).reshape(-1).view("<u2").reshape(height, width)


def redacted(source: str) -> str:
    """Returns an address or a pipeline without what it may hold of secrets.

    That is the user and the password, before an `@` or as values of their names, and what follows a `?`.
    """
    pipeline = "!" in source and "=" in source
    if not pipeline and not re.search(_SCHEME, source):
        return source
    # Passwords may hold any sign, a slash, too: what follows a colon and is no port belongs to one, up to the last @.
    without = re.sub(rf"({_SCHEME})([^/\s]*|[^/\s:\[]*:(?!\d*/)\S*)@", r"\1", source)
    without = _NAMED_SECRET.sub(r"\1=", without)
    query = rf"({_SCHEME}[^\s?#]*)[?#][^\s\"']*" if pipeline else rf"({_SCHEME}[^?#]*)[?#].*"
    return re.sub(query, r"\1", without, flags=re.DOTALL)


def _plain(text: str) -> str:
    """Returns a text as a file's name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")
