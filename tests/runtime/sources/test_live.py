from __future__ import annotations

import http.server
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.core.errors import FrameError, IrdetError, UsageError
from irdet.runtime.sources import RawFormat, SourceOptions, live, open_source
from irdet.runtime.sources.live import FIRST_DELAY, LAST_DELAY, LiveSource, deep_frame, redacted

URL = "rtsp://user:secret@mast.example/ir"
FPS = 10.0


class Clock:
    """Time that passes only when somebody waits, in place of the real one."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def event(self) -> Any:
        clock = self

        class Event(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                assert timeout is not None
                clock.waits.append(timeout)
                clock.now += timeout
                return self.is_set()

        return Event()


class Stream:
    """A double of cv2.VideoCapture: gives its frames at its rate, then none."""

    def __init__(self, clock: Clock, frames: int, *, opened: bool = True, fps: float = FPS, stall: float = 0.0) -> None:
        self.clock, self.left, self.opened, self.fps, self.stall = clock, frames, opened, fps, stall
        self.released = 0

    def isOpened(self) -> bool:
        return self.opened and not self.released

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FPS: self.fps, cv2.CAP_PROP_FRAME_COUNT: -1.0}.get(what, 0.0)

    def set(self, what: int, value: float) -> bool:
        return False

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        if not self.isOpened() or not self.left:
            self.clock.now += self.stall
            return False, None
        self.left -= 1
        self.clock.now += 1 / self.fps
        return True, np.full((4, 6), self.left, np.uint8)

    def release(self) -> None:
        self.released += 1


Open = Callable[..., LiveSource]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(live, "time", clock)
    monkeypatch.setattr(live, "threading", SimpleNamespace(Event=clock.event, Lock=threading.Lock))
    return clock


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a source whose connections give these streams, one after the other, and none from then on."""

    def play(clock: Clock, *streams: Stream, options: SourceOptions | None = None) -> LiveSource:
        coming: Iterator[Stream] = itertools.chain(streams, (Stream(clock, 0, opened=False) for _ in itertools.count()))
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_: next(coming))
        source = open_source(URL, options)
        assert isinstance(source, LiveSource)
        return source

    return play


def test_time_is_the_arrival_and_the_secret_is_not_told(clock: Clock, play: Open) -> None:
    with play(clock, Stream(clock, 9), options=SourceOptions(limit=5)) as source:
        assert (source.live, source.is_video, source.length, source.fps, source.size) == (True, True, 5, FPS, (6, 4))
        frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert {frame.name for frame in frames} == {"rtsp://mast.example/ir"} and "secret" not in source.name
    assert source.skipped.frames == 0


def test_back_off_doubles_and_the_gap_is_in_the_record(clock: Clock, play: Open) -> None:
    closed = [Stream(clock, 0, opened=False) for _ in range(9)]
    with play(clock, Stream(clock, 3), *closed, Stream(clock, 4), options=SourceOptions(stride=1)) as source:
        frames = list(itertools.islice(source, 7))
    assert clock.waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30] and clock.waits[-1] == LAST_DELAY
    gap = sum(clock.waits) + 1 / FPS
    assert source.skipped.frames == round(gap * FPS) - 1
    (skipped,) = source.skipped.named
    assert skipped.reason == (
        f"rtsp://mast.example/ir: lost after 0.2 s, back after {gap:.1f} s, about {source.skipped.frames} frames"
    )
    # Frames and losses together are all numbers, in step with the time.
    assert [frame.index for frame in frames[:3]] == [0, 1, 2]
    assert frames[3].index == 3 + source.skipped.frames
    for frame in frames:
        assert frame.time is not None and frame.index == pytest.approx(frame.time * FPS, abs=1)
    assert all(stream.released for stream in closed)


def test_a_server_that_lets_in_and_sends_nothing_is_still_gone(clock: Clock, play: Open) -> None:
    mute = [Stream(clock, 0) for _ in range(3)]
    with play(clock, Stream(clock, 2), *mute, Stream(clock, 1)) as source:
        frames = list(itertools.islice(source, 3))
    assert clock.waits == [0.5, 1, 2, 4]
    assert len(source.skipped.named) == 1 and len(frames) == 3
    assert all(stream.released for stream in mute)


def test_the_next_gap_begins_with_a_short_wait(clock: Clock, play: Open) -> None:
    with play(clock, Stream(clock, 1), Stream(clock, 0), Stream(clock, 1), Stream(clock, 1)) as source:
        assert len(list(itertools.islice(source, 3))) == 3
    assert clock.waits == [0.5, 1, 0.5] and len(source.skipped.named) == 2


@pytest.mark.parametrize("patience", [0.0, 3.0, 40.0])
@pytest.mark.parametrize("opened", [True, False])
def test_give_up(clock: Clock, play: Open, patience: float, opened: bool) -> None:
    dead = (Stream(clock, 0, opened=opened, stall=0.2) for _ in range(99))
    with play(clock, Stream(clock, 3), *dead, options=SourceOptions(patience=patience)) as source:
        frames = iter(source)
        assert [next(frames).index for _ in range(3)] == [0, 1, 2]
        since = clock.now
        with pytest.raises(IrdetError, match=rf"ir: gone for \d+ s \(--give-up {patience:g}\)"):
            next(frames)
    assert patience <= clock.now - since <= patience + 1


def test_a_gap_longer_than_what_is_wanted_ends_the_run(clock: Clock, play: Open) -> None:
    with play(clock, Stream(clock, 3), Stream(clock, 9), options=SourceOptions(limit=6)) as source:
        assert [frame.index for frame in source] == [0, 1, 2]
    assert source.skipped.frames == 5


def test_stride(clock: Clock, play: Open) -> None:
    with play(clock, Stream(clock, 30), options=SourceOptions(start=2, stride=3, limit=4)) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == [2, 5, 8, 11]
    assert [frame.time for frame in frames] == pytest.approx([0.2, 0.5, 0.8, 1.1])


def test_what_connects_without_one_frame_is_no_stream(clock: Clock, play: Open) -> None:
    stream = Stream(clock, 0)
    with pytest.raises(IrdetError, match="connected, but no frame comes"):
        play(clock, stream)
    assert stream.released and clock.waits == []


def test_nothing_answers(clock: Clock, play: Open) -> None:
    with pytest.raises(IrdetError, match=r"cannot read rtsp://mast\.example/ir: nothing answers"):
        play(clock)


def test_too_large_frames_are_refused(clock: Clock, play: Open) -> None:
    with pytest.raises(FrameError, match="--max-pixels"):
        play(clock, Stream(clock, 3), options=SourceOptions(max_pixels=23))


def test_a_frame_that_is_too_large_is_skipped_in_the_middle(clock: Clock, play: Open) -> None:
    class Growing(Stream):
        def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
            ok, pixels = super().read()
            return ok, np.zeros((40, 60), np.uint8) if ok and self.left == 3 else pixels

    with play(clock, Growing(clock, 6), options=SourceOptions(limit=6, max_pixels=100)) as source:
        assert [frame.index for frame in source] == [0, 1, 3, 4, 5]
    assert source.skipped.frames == 1 and "--max-pixels" in source.skipped.named[0].reason


def test_a_rate_that_is_none_is_assumed(clock: Clock, play: Open) -> None:
    with play(clock, Stream(clock, 3, fps=90000.0)) as source:
        assert source.fps == 25 and "--fps" in source.notes[0]


def test_close_ends_the_wait_for_a_stream(monkeypatch: pytest.MonkeyPatch, play: Open) -> None:
    """With real time: the next attempt would come in a minute."""
    monkeypatch.setattr(live, "FIRST_DELAY", 60.0)
    clock = Clock()
    source = play(clock, Stream(clock, 2))
    frames: list[object] = []
    reader = threading.Thread(target=lambda: frames.extend(source))
    reader.start()
    time.sleep(0.1)
    assert reader.is_alive()
    source.close()
    reader.join(10)
    assert not reader.is_alive() and len(frames) == 2


def test_close_does_not_free_what_is_being_read(monkeypatch: pytest.MonkeyPatch, play: Open) -> None:
    reading, go_on = threading.Event(), threading.Event()

    class Slow(Stream):
        inside = False
        freed_inside = False

        def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
            if self.left == 1:
                self.inside = True
                reading.set()
                go_on.wait(10)
                self.inside = False
            return super().read()

        def release(self) -> None:
            self.freed_inside |= self.inside
            super().release()

    clock = Clock()
    stream = Slow(clock, 2)
    source = play(clock, stream)
    reader = threading.Thread(target=lambda: list(source))
    reader.start()
    assert reading.wait(10)
    start = time.monotonic()
    source.close()
    source.close()
    assert time.monotonic() - start < 1 and not stream.released
    go_on.set()
    reader.join(10)
    assert not reader.is_alive() and stream.released and not stream.freed_inside


def test_close_while_it_connects_frees_the_new_stream(monkeypatch: pytest.MonkeyPatch, play: Open) -> None:
    monkeypatch.setattr(live, "FIRST_DELAY", 0.01)
    clock = Clock()
    first, second = Stream(clock, 1), Stream(clock, 5)
    source = play(clock, first)
    connecting, go_on = threading.Event(), threading.Event()

    def connect(*_: object) -> Stream:
        connecting.set()
        go_on.wait(10)
        return second

    monkeypatch.setattr(cv2, "VideoCapture", connect)
    frames: list[object] = []
    reader = threading.Thread(target=lambda: frames.extend(source))
    reader.start()
    assert connecting.wait(10)
    source.close()
    go_on.set()
    reader.join(10)
    assert not reader.is_alive() and len(frames) == 1 and first.released and second.released


@pytest.mark.parametrize("scheme", ["file", "ftp", "concat", "gopher"])
def test_other_protocols_are_refused(scheme: str) -> None:
    with pytest.raises(IrdetError, match="no protocol of rtsp"):
        open_source(f"{scheme}://user:secret@host/x")


def test_redacted() -> None:
    assert redacted(URL) == "rtsp://mast.example/ir"
    dvr = "rtsp://10.0.0.5:554/user=admin&password=secret&channel=1&stream=0.sdp"
    assert redacted(dvr) == "rtsp://10.0.0.5:554/user=&password=&channel=1&stream=0.sdp"
    pipeline = "rtspsrc location=rtsp://cam/s?key=k user-id=admin user-pw='my pass' ! decodebin ! appsink"
    assert redacted(pipeline) == "rtspsrc location=rtsp://cam/s user-id= user-pw= ! decodebin ! appsink"
    assert redacted("user=a/clip.mkv") == "user=a/clip.mkv"
    assert redacted("http://host/a@b") == "http://host/a@b"
    assert redacted("rtsp://user:pa@ss@host/x") == "rtsp://host/x"
    assert redacted("rtsp://user:pa#s?s@host/x") == "rtsp://host/x"
    assert redacted("http://host/x?user=a&password=secret") == "http://host/x"
    assert redacted("rtsp://user:pa/ss@host/x") == "rtsp://host/x"
    assert redacted("rtsp://user:pa/s@s@host:554/x") == "rtsp://host:554/x"
    assert redacted("http://host:80/a@b") == "http://host:80/a@b"
    assert redacted("rtsp://[fe80::1]:554/a@b") == "rtsp://[fe80::1]:554/a@b"
    assert redacted("rtsp:/admin:s3cret@10.0.0.1/x") == "rtsp:/10.0.0.1/x"
    tight = "rtspsrc location=rtsp://cam/s user-id=admin user-pw=s3cret!decodebin!appsink"
    assert redacted(tight) == "rtspsrc location=rtsp://cam/s user-id= user-pw="
    pipeline = "souphttpsrc location=http://h/x proxy-id=me proxy-pw=s3cret ! appsink"
    assert redacted(pipeline) == "souphttpsrc location=http://h/x proxy-id= proxy-pw= ! appsink"
    pipeline = "srtsrc uri=srt://h:1 passphrase=s3cret ! appsink"
    assert redacted(pipeline) == "srtsrc uri=srt://h:1 passphrase= ! appsink"
    pipeline = 'udpsrc uri=udp://0.0.0.0:5000 ! caps="a:b@c" ! appsink'
    for other in ("clip#1.npy", "frames/f??.png", "a@b.mkv", "C:/a@b/clip.mkv", "night!.mkv", pipeline):
        assert redacted(other) == other


@pytest.mark.parametrize(
    ("source", "raw"),
    [
        ("rtsp://user:secret@host/x", RawFormat(10, 10)),
        ("rtsp:/user:secret@host/x", None),
        ("rtspsrc location=rtsp://host/x user-id=user user-pw=secret!appsink", None),
    ],
)
def test_messages_tell_no_secrets(source: str, raw: RawFormat | None) -> None:
    with pytest.raises(IrdetError) as told:
        open_source(source, SourceOptions(raw=raw))
    assert "secret" not in str(told.value) and "host" in str(told.value)


def test_what_is_no_address_is_misuse() -> None:
    with pytest.raises(UsageError, match=r"^rtsp://\[bad/x is no address$"):
        open_source("rtsp://user:secret@[bad/x")


def test_deep_frames_of_old_and_new_opencv() -> None:
    counts = np.arange(24, dtype=np.uint16).reshape(4, 6) * 700
    size: Any = SimpleNamespace(get=lambda what: {cv2.CAP_PROP_FRAME_WIDTH: 6, cv2.CAP_PROP_FRAME_HEIGHT: 4}[what])
    as_bytes = counts.astype("<u2").view(np.uint8)
    for pixels in (counts, counts[:, :, None], as_bytes, as_bytes.reshape(1, -1)):
        assert np.array_equal(deep_frame(pixels, size), counts)


def test_no_camera_and_no_gstreamer() -> None:
    with pytest.raises(IrdetError, match="cannot open camera 987"):
        open_source("987")
    with pytest.raises(IrdetError, match="cannot start the GStreamer pipeline"):
        open_source("nosuchelement ! appsink")


def test_real_server_that_drops_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Motion JPEG over HTTP: each connection gives ten frames and is cut; the second attempt is refused."""
    monkeypatch.setattr(live, "FIRST_DELAY", 0.05)
    connections: list[int] = []
    jpeg = cv2.imencode(".jpg", np.full((64, 96), 90, np.uint8))[1].tobytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            connections.append(len(connections))
            if connections[-1] == 1:
                self.send_error(503)
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=cut")
            self.end_headers()
            for _ in range(10):
                self.wfile.write(b"--cut\r\nContent-Type: image/jpeg\r\n")
                self.wfile.write(f"Content-Length: {len(jpeg)}\r\n\r\n".encode() + jpeg + b"\r\n")
                time.sleep(0.01)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with open_source(f"http://127.0.0.1:{server.server_port}/ir.mjpg", SourceOptions(fps=50)) as source:
                frames = list(itertools.islice(source, 25))
        finally:
            server.shutdown()
            thread.join()
    assert len(frames) == 25 and len(connections) >= 4
    assert len(source.skipped.named) >= 2 and "lost after" in source.skipped.named[0].reason
    assert all(later.index > sooner.index for sooner, later in itertools.pairwise(frames))
    assert {frame.pixels.shape[:2] for frame in frames} == {(64, 96)}
    assert FIRST_DELAY == 0.5
