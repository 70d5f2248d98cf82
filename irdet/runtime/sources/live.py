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

from irdet.core.errors import IrdetError
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

_Y16 = cv2.VideoWriter.fourcc(*"Y16 ")


class LiveSource(Closing):
    """Frames as they arrive. See `Source`.

    `time` is when a frame arrived. When the stream drops out it is connected again, after 0.5 s, 1 s, 2 s ... up to
    30 s; the gap stands in `skipped`, and `index` goes on as if the frames had come, so that it stays in step with
    `time`.

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
        if options.limit is not None:
            self.length = options.limit
        try:
            keep_depth(capture, label)
            self.fps: float | None
            self.fps, self.notes = options.rate(capture.get(cv2.CAP_PROP_FPS), label)
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

    def close(self) -> None:
        """Closes the stream; a wait for it ends."""
        self._closed.set()
        self._capture.release()

    def _frames(self, fps: float) -> Iterator[RawFrame]:
        index = 0
        start: float | None = None  # arrival of the first frame,
        last = 0.0  # and of the last
        while not self._options.over(index) and not self._closed.is_set():
            pixels = self._next()
            now = time.monotonic()
            if pixels is None:
                # Without one frame so far it is no stream that dropped out.
                if start is None or not self._again(last):
                    return
                back = time.monotonic()
                lost = max(1, round((back - last) * fps))
                reason = f"{self._label}: lost after {last - start:.1f} s, back after {back - last:.1f} s"
                self.skipped.add(Skipped(self._label, f"{reason}, about {lost} frames", lost))
                index += lost - 1
                last = back
                continue
            start = now if start is None else start
            last = now
            if self._options.takes(index):
                self._options.check_size(pixels.shape[1], pixels.shape[0], self._label)
                yield RawFrame(pixels, index, now - start, self._label)
            index += 1

    def _next(self) -> NDArray[np.generic] | None:
        try:
            with quiet_opencv():
                ok, pixels = self._capture.read()
                if ok and int(self._capture.get(cv2.CAP_PROP_FOURCC)) == _Y16:
                    return deep_frame(pixels, self._capture)
        except cv2.error:
            return None
        return pixels if ok else None

    def _again(self, last: float) -> bool:
        """Connects again; False where the source was closed meanwhile."""
        delay = FIRST_DELAY
        while not self._closed.is_set():
            gone = time.monotonic() - last
            if self._options.patience is not None and gone >= self._options.patience:
                raise IrdetError(f"{self._label}: gone for {gone:.0f} s (--give-up {self._options.patience:g})")
            self._capture.release()
            self._closed.wait(delay)
            delay = min(2 * delay, LAST_DELAY)
            if self._closed.is_set():
                return False
            with quiet_opencv():
                capture = self._connect()
            if capture.isOpened():
                with quiet_opencv():
                    keep_depth(capture, self._label)
                self._capture = capture
                return True
            capture.release()
        return False


def open_url(url: str, options: SourceOptions) -> Source:
    """Opens what a server sends: a recording where it declares its length, else a live stream.

    Raises:
        IrdetError: Nothing answers, or it sends no video.
    """
    parts = urlsplit(url)
    label = redacted(url)
    if parts.scheme.lower() not in SCHEMES:
        raise IrdetError(f"cannot read {label}: no protocol of {', '.join(SCHEMES)}")

    def connect() -> cv2.VideoCapture:
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT]
        return cv2.VideoCapture(url, cv2.CAP_FFMPEG, timeouts)

    with quiet_opencv():
        capture = connect()
    if not capture.isOpened():
        raise IrdetError(f"cannot read {label}: nothing answers there, or it sends no video that OpenCV can decode")
    name = _plain(f"{parts.hostname or ''}{parts.path}") or "stream"
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


def redacted(url: str) -> str:
    """Returns an address without the user and the password that it may hold."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)


def _plain(text: str) -> str:
    """Returns a text as a file's name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")
