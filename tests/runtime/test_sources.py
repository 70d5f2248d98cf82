from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.core.errors import FrameError, IrdetError, UsageError
from irdet.core.images import read_image
from irdet.runtime.sources import FALLBACK_FPS, SkipLog, Skipped, SourceOptions, open_source, video
from irdet.runtime.sources.video import VideoSource

FRAMES = 30


def picture(seed: int = 0, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)


def save(path: Path, pixels: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, np.asarray(pixels))[1].tobytes())
    return path


def save_video(path: Path, frames: int = FRAMES, fps: float = 25.0, code: str = "MJPG") -> Path:
    """A film of a square that moves one pixel a frame."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), fps, (96, 64))
    assert writer.isOpened()
    ground = cv2.GaussianBlur(picture(1, 64, 96), (0, 0), 2)
    for index in range(frames):
        frame = ground.copy()
        frame[20:26, 10 + index : 16 + index] = 255
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def cut(path: Path, part: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    return path


# Images


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".pgm"])
def test_image_comes_as_it_is_stored(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"wärme bild{suffix}", picture())
    with open_source(path) as source:
        assert (source.length, source.size, source.is_video, source.fps) == (1, (64, 48), False, None)
        (frame,) = source
    assert np.array_equal(frame.pixels, picture())
    assert (frame.index, frame.time, frame.name) == (0, None, path.name)
    assert source.skipped.frames == 0


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff", ".webp", ".pgm"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.9])
def test_damaged_image_is_refused_in_one_line(
    tmp_path: Path, suffix: str, part: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = cut(save(tmp_path / f"a{suffix}", cv2.GaussianBlur(picture(), (0, 0), 2)), part)
    with pytest.raises(FrameError, match=f"cannot read .*a{suffix}") as caught:
        read_image(path)
    assert "\n" not in str(caught.value) and (part or "0 bytes" in str(caught.value))
    with pytest.raises(IrdetError, match="cannot read"):
        open_source(path)
    if suffix in (".png", ".jpg", ".webp") or cv2.__version__ >= "5":  # OpenCV 4 complains without asking
        assert capfd.readouterr() == ("", "")


def test_folder_in_natural_order(tmp_path: Path) -> None:
    names = ["10.png", "2.png", "a1.png", "a02.png", "1.png", "B3.bmp", "a10.png"]
    for seed, name in enumerate(names):
        save(tmp_path / name, picture(seed))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._1.png").write_bytes(b"left by another system")
    save(tmp_path / "inner" / "0.png", picture())
    with open_source(tmp_path) as source:
        assert source.length == len(names)
        frames = list(source)
    order = ["1.png", "2.png", "10.png", "a1.png", "a02.png", "a10.png", "B3.bmp"]
    assert [frame.name for frame in frames] == order
    assert [frame.index for frame in frames] == list(range(len(names)))
    assert np.array_equal(frames[2].pixels, picture(0))


def test_corrupt_images_are_skipped_and_named(tmp_path: Path) -> None:
    for index in range(6):
        save(tmp_path / f"{index}.png", picture(index))
    (tmp_path / "0.png").write_bytes(b"")
    cut(tmp_path / "3.png", 0.5)
    (tmp_path / "5.png").write_text("this is text")
    with open_source(tmp_path) as source:
        assert [frame.index for frame in source] == [1, 2, 4]
    assert source.skipped.frames == 3
    assert [skipped.name for skipped in source.skipped.named] == ["0.png", "3.png", "5.png"]
    assert all(skipped.name in skipped.reason for skipped in source.skipped.named)


def test_folder_where_nothing_is_readable(tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(b"")
    with pytest.raises(IrdetError, match=r"none of the 3 images of .* is readable: cannot read .*0\.png"):
        open_source(tmp_path)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(IrdetError, match=r"there are no images in this folder$"):
        open_source(tmp_path)
    save(tmp_path / "images" / "1.png", picture())
    with pytest.raises(IrdetError, match=r"did you mean .*images\?"):
        open_source(tmp_path)


def test_glob(tmp_path: Path) -> None:
    for name in ("run1/x10.png", "run1/x9.png", "run2/x1.png", "run1/y1.png"):
        save(tmp_path / name, picture())
    (tmp_path / "run1" / "x1.txt").write_text("no image")
    with open_source(f"{tmp_path}/run1/x*") as source:
        assert source.name == "run1"
        assert [frame.name for frame in source] == ["x9.png", "x10.png"]
    with open_source(f"{tmp_path}/**/x*.png") as source:
        assert [frame.name for frame in source] == ["run1/x9.png", "run1/x10.png", "run2/x1.png"]
    with pytest.raises(IrdetError, match="nothing matches"):
        open_source(f"{tmp_path}/z*.png")


def test_a_name_with_glob_signs_is_a_name_first(tmp_path: Path) -> None:
    save(tmp_path / "x[1].png", picture())
    with open_source(tmp_path / "x[1].png") as source:
        assert [frame.name for frame in source] == ["x[1].png"]


def test_missing_file_and_the_name_that_was_meant(tmp_path: Path) -> None:
    save(tmp_path / "clouds_001.png", picture())
    with pytest.raises(IrdetError, match=r"no such file or folder; did you mean .*clouds_001\.png") as caught:
        open_source(tmp_path / "clouds_01.png")
    assert caught.value.exit_code == 1
    with pytest.raises(IrdetError, match=r"no such file or folder$"):
        open_source(tmp_path / "nowhere" / "else.png")


def test_skip_log_stays_small() -> None:
    log = SkipLog()
    for index in range(1000):
        log.add(Skipped(f"{index}", "gone", frames=2))
    assert log.frames == 2000 and len(log.named) == SkipLog.LIMIT


# Videos


def test_video(tmp_path: Path) -> None:
    with open_source(save_video(tmp_path / "square.mkv", fps=20.0)) as source:
        assert (source.name, source.is_video, source.length, source.size) == ("square", True, FRAMES, (96, 64))
        assert source.fps == pytest.approx(20) and source.notes == ()
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert [frame.time for frame in frames] == pytest.approx([index / 20 for index in range(FRAMES)])
    assert {frame.name for frame in frames} == {"square.mkv"}
    # Its frames are kept apart, and are those that were written.
    for frame in frames:
        grey = cv2.cvtColor(np.asarray(frame.pixels), cv2.COLOR_BGR2GRAY)
        assert grey[22, 12 + frame.index] > 200 > grey[22, 40 + frame.index]
    assert source.skipped.frames == 0


def test_video_of_sixteen_bits_stays_deep(tmp_path: Path) -> None:
    path = tmp_path / "deep.mkv"
    deep = [20000 + 40 * picture(seed).astype(np.uint16) for seed in range(3)]
    options = [cv2.VIDEOWRITER_PROP_DEPTH, cv2.CV_16U, cv2.VIDEOWRITER_PROP_IS_COLOR, 0]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"FFV1"), 25.0, (64, 48), options)
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video of 16 bits")
    for frame in deep:
        writer.write(frame)
    writer.release()
    with open_source(path) as source:
        for got, wanted in zip(source, deep, strict=True):
            assert got.pixels.dtype == np.uint16 and np.array_equal(got.pixels, wanted)


@pytest.mark.parametrize("code", ["MJPG", "mp4v"])
def test_truncated_video_works_up_to_the_cut_and_says_so(
    tmp_path: Path, code: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = cut(save_video(tmp_path / "cut.mkv", code=code), 0.6)
    with open_source(path) as source:
        assert source.length == FRAMES
        read = len(list(source))
    assert 5 < read < FRAMES
    (skipped,) = source.skipped.named
    assert skipped.frames == source.skipped.frames == FRAMES - read
    assert skipped.reason.startswith(f"cut.mkv: {FRAMES - read} of the {FRAMES} frames that it declares")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("kind", "bits"), [("420p10 XYSCSS=420P10", 10), ("444p12 XYSCSS=444P12", 12), ("420jpeg", 8)])
def test_deep_colours_that_are_cut_to_8_bits_are_told(tmp_path: Path, kind: str, bits: int) -> None:
    path = tmp_path / "clip.y4m"
    plane = np.full((16, 16), 1 << (bits - 1), "<u2" if bits > 8 else np.uint8)
    chroma = plane if kind.startswith("444") else plane[::2, ::2]
    frame = b"FRAME\n" + plane.tobytes() + 2 * chroma.tobytes()
    path.write_bytes(f"YUV4MPEG2 W16 H16 F25:1 Ip A1:1 C{kind}\n".encode() + 3 * frame)
    with open_source(path) as source:
        assert len(list(source)) == 3
        assert any("gray16le" in note for note in source.notes) == (bits > 8)


class Leaving:
    """A recording of 40 frames at 25/s whose decoder reports three damaged ones of those that it leaves out."""

    def __init__(self, lost: range, beat: float = 1.0) -> None:
        self._places: Iterator[int | None] = iter([*range(lost.start), None, None, None, *range(lost.stop, 40)])
        self._place = 0
        self._beat = beat

    def get(self, what: int) -> float:
        sizes = {cv2.CAP_PROP_FRAME_WIDTH: 8.0, cv2.CAP_PROP_FRAME_HEIGHT: 6.0}
        rates = {cv2.CAP_PROP_FPS: 25.0, cv2.CAP_PROP_FRAME_COUNT: 40.0}
        return {**sizes, **rates, cv2.CAP_PROP_POS_MSEC: 40.0 * self._place * self._beat}.get(what, 0.0)

    def grab(self) -> bool:
        place = next(self._places, None)
        self._place = self._place if place is None else place
        return place is not None

    def retrieve(self) -> tuple[bool, NDArray[np.uint8]]:
        return True, np.full((6, 8), self._place, np.uint8)

    def release(self) -> None:
        pass

    def source(self, stride: int = 1) -> VideoSource:
        return VideoSource(cast("cv2.VideoCapture", self), "clip", "clip.mp4", SourceOptions(stride=stride))


@pytest.mark.parametrize("stride", [1, 4])
def test_a_decoder_that_reports_fewer_frames_than_it_leaves_out(stride: int) -> None:
    """As H.264 does, where the damaged ones were referred to: the stamps tell where it goes on."""
    with Leaving(range(10, 23)).source(stride=stride) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == [n for n in range(0, 40, stride) if n not in range(10, 23)]
    assert [frame.pixels[0, 0] for frame in frames] == [frame.index for frame in frames]
    assert [frame.time for frame in frames] == pytest.approx([frame.index / 25 for frame in frames])
    assert source.skipped.frames == 13
    assert source.skipped.named[0].reason == "clip.mp4: frames 10 to 22 cannot be decoded"


@pytest.mark.parametrize("beat", [0.7, 0.0, -1.0, math.nan, 1e306])
def test_where_stamps_keep_no_beat_the_decoder_is_believed(beat: float) -> None:
    with Leaving(range(10, 23), beat).source() as source:
        assert [frame.index for frame in source][9:11] == [9, 13]


def test_a_hole_in_a_real_clip_moves_no_number(shared: Path, tmp_path: Path) -> None:
    clip = shared / "video/IR_BIRD_064.mp4"
    data = bytearray(clip.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 5000] = bytes(5000)
    (tmp_path / "hole.mp4").write_bytes(data)
    with open_source(clip) as source:
        whole = {frame.index: np.asarray(frame.pixels) for frame in source}
    with open_source(tmp_path / "hole.mp4") as source:
        rest = {frame.index: np.asarray(frame.pixels) for frame in source}
    assert source.skipped.frames == len(whole) - len(rest) > 20 and max(rest) == max(whole)
    last = sorted(rest)[-50:]  # behind the next key frame
    assert all(np.array_equal(rest[index], whole[index]) for index in last)


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
@pytest.mark.parametrize("which", [[0], [5, 6, 7, 12], [FRAMES - 2, FRAMES - 1]])
def test_damaged_frames_are_skipped_and_the_others_keep_their_numbers(
    tmp_path: Path, suffix: str, which: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    path = save_video(tmp_path / f"holes{suffix}")
    data = bytearray(path.read_bytes())
    starts = [place for place in range(len(data)) if data[place : place + 3] == b"\xff\xd8\xff"]
    assert len(starts) == FRAMES
    for index in which:
        end = data.index(b"\xff\xd9", starts[index])
        data[starts[index] : end] = bytes(end - starts[index])
    path.write_bytes(data)
    with open_source(path) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == [index for index in range(FRAMES) if index not in which]
    assert [frame.time for frame in frames] == pytest.approx([frame.index / 25 for frame in frames])
    for frame in frames:
        assert cv2.cvtColor(np.asarray(frame.pixels), cv2.COLOR_BGR2GRAY)[22, 12 + frame.index] > 200
    assert source.skipped.frames == len(which)
    if len(which) == 4:
        reasons = [skipped.reason for skipped in source.skipped.named]
        assert reasons == [
            f"holes{suffix}: frames 5 to 7 cannot be decoded",
            f"holes{suffix}: frame 12 cannot be decoded",
        ]
    assert capfd.readouterr() == ("", "")


def test_video_that_was_never_closed(tmp_path: Path) -> None:
    """What a killed recorder leaves: no length, but frames."""
    path = save_video(tmp_path / "live.mkv")
    data = bytearray(path.read_bytes())
    duration = data.find(b"\x44\x89\x88")  # Matroska's Duration, a float of 8 bytes
    assert duration > 0
    data[duration : duration + 11] = b"\xec\x89" + bytes(9)  # Void
    path.write_bytes(data)
    with open_source(path) as source:
        assert source.length is None and "declares no length" in source.notes[0]
        assert len(list(source)) == FRAMES
    assert source.skipped.frames == 0


def test_mp4_without_its_index(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = cut(save_video(tmp_path / "cut.mp4", code="mp4v"), 0.7)
    with pytest.raises(IrdetError, match=r"cut\.mp4: an MP4 without its index"):
        open_source(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["text.mp4", "text.txt", "text.avi", "text"])
def test_text_is_no_video(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """FFmpeg would draw the letters of a .txt as frames."""
    path = tmp_path / name
    path.write_text("Wärme ist, was bleibt.\n" * 100, encoding="utf-8")
    with pytest.raises(IrdetError, match="a text file, neither an image nor a video"):
        open_source(path)
    assert capfd.readouterr() == ("", "")


def test_bytes_that_are_no_video(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "noise.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(IrdetError, match="neither an image nor a video that OpenCV can decode"):
        open_source(path)
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(IrdetError, match="0 bytes"):
        open_source(tmp_path / "empty.mp4")
    assert capfd.readouterr() == ("", "")


def test_video_without_one_frame(tmp_path: Path) -> None:
    path = save_video(tmp_path / "short.mkv")
    data = path.read_bytes()
    first = data.find(b"\x1f\x43\xb6\x75")  # Matroska's first cluster
    path.write_bytes(data[: first + 12])
    with pytest.raises(IrdetError, match=r"short\.mkv: the video has no frame"):
        open_source(path)


def test_frame_rate_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Timeless:
        """A video whose container tells its time base for a frame rate, as some do."""

        def __init__(self, *arguments: object) -> None:
            self._capture = capture(*arguments)

        def get(self, what: int) -> float:
            return 90000.0 if what == cv2.CAP_PROP_FPS else self._capture.get(what)

        def __getattr__(self, name: str) -> object:
            return getattr(self._capture, name)

    capture: Callable[..., cv2.VideoCapture] = cv2.VideoCapture
    path = save_video(tmp_path / "a.mkv", frames=3)
    monkeypatch.setattr(cv2, "VideoCapture", Timeless)
    with open_source(path) as source:
        assert source.fps == FALLBACK_FPS and "no frame rate" in source.notes[0]
        assert [frame.time for frame in source] == pytest.approx([0, 1 / FALLBACK_FPS, 2 / FALLBACK_FPS])


def test_a_chunk_of_avi_that_claims_to_be_huge(tmp_path: Path) -> None:
    """Found by benchmarks/fuzz.py: where FFmpeg gives a file up, OpenCV's own reader of AVI raises on such a chunk."""
    path = save_video(tmp_path / "huge.avi")
    data = bytearray(path.read_bytes())
    place = data.index(b"00dc", data.index(b"movi")) + 4
    data[place : place + 4] = (0x7FFFFFFF).to_bytes(4, "little")
    path.write_bytes(data)
    try:
        with open_source(path) as source:
            assert len(list(source)) < FRAMES
    except IrdetError as error:
        assert "huge.avi" in str(error)


def test_frames_on_which_opencv_raises_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Raising:
        def __init__(self, *arguments: object) -> None:
            self._capture = capture(*arguments)
            self._grabbed = 0

        def grab(self) -> bool:
            self._grabbed += 1
            if self._grabbed == 3:
                self._capture.grab()
                raise cv2.error("chunk.m_size <= 67108864")
            return bool(self._capture.grab())

        def __getattr__(self, name: str) -> object:
            return getattr(self._capture, name)

    capture: Callable[..., cv2.VideoCapture] = cv2.VideoCapture
    path = save_video(tmp_path / "a.mkv", frames=6)
    monkeypatch.setattr(cv2, "VideoCapture", Raising)
    with open_source(path) as source:
        assert [frame.index for frame in source] == [0, 1, 3, 4, 5]
    assert source.skipped.frames == 1


def test_one_video_by_glob_and_many(tmp_path: Path) -> None:
    save_video(tmp_path / "a.mkv", frames=3)
    with open_source(f"{tmp_path}/*.mkv") as source:
        assert len(list(source)) == 3
    save_video(tmp_path / "b.mkv", frames=3)
    with pytest.raises(IrdetError, match="one at a time"):
        open_source(f"{tmp_path}/*.mkv")


def test_log_level_is_given_back(tmp_path: Path) -> None:
    get = cv2.getLogLevel if hasattr(cv2, "getLogLevel") else cv2.utils.logging.getLogLevel
    before = get()
    with pytest.raises(IrdetError):
        open_source(cut(save(tmp_path / "a.png", picture()), 0.5))
    assert get() == before


def test_real_clip(shared: Path) -> None:
    with open_source(shared / "video" / "IR_DRONE_020.mp4") as source:
        assert len(list(source)) == source.length == 302
    assert source.skipped.frames == 0 and source.fps == 30


class Stamps:
    """A capture that tells these times, in seconds."""

    def __init__(self, *stamps: float) -> None:
        self.left = list(stamps)

    def get(self, what: int) -> float:
        assert what == cv2.CAP_PROP_POS_MSEC
        return 1e3 * self.left.pop(0)


@pytest.mark.parametrize(
    ("stamps", "wanted"),
    [
        ((5.0, 5.12, 5.24, 5.36), (0, 0.12, 0.24, 0.36)),
        ((0.0, 0.12, 0.24, 0.24, 0.48, 0.6), (0, 0.12, 0.24, 0.28, 0.48, 0.6)),
        ((0.0, 0.12, 0.24, 0.24, 0.25, 0.6), (0, 0.12, 0.24, 0.28, 0.32, 0.6)),
        ((0.0, 1.0, 0.0, math.nan, 1.2), (0, 1.0, 1.04, 1.08, 1.2)),
        ((0.0, 0.0, 0.0), (0, 0.04, 0.08)),
        ((math.nan, 1.0, 2.0), (0, 0.04, 0.08)),
    ],
)
def test_a_time_stamp_that_is_none_does_not_turn_the_clock_back(
    stamps: tuple[float, ...], wanted: tuple[float, ...]
) -> None:
    clock = video._Clock(Stamps(*stamps), 0.04, trusted=True)  # type: ignore[arg-type]
    assert [clock(index) for index in range(len(stamps))] == pytest.approx(wanted)
    clock = video._Clock(Stamps(*stamps), 0.04, trusted=False)  # type: ignore[arg-type]
    assert [clock(index) for index in range(len(stamps))] == pytest.approx([0.04 * n for n in range(len(stamps))])


def test_a_device_that_is_no_camera(tmp_path: Path) -> None:
    """Cameras are often named by a link: what it leads to says whether it is one."""
    (tmp_path / "link").symlink_to("/dev/null")
    with pytest.raises(IrdetError, match="link: a device, but no camera"):
        open_source(tmp_path / "link")


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_an_empty_source_is_not_the_folder_one_is_in(empty: str) -> None:
    with pytest.raises(UsageError, match="the source is empty"):
        open_source(empty)
