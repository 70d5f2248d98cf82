from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from irdet.core.errors import IrdetError, UsageError
from irdet.runtime.sources import FALLBACK_FPS, RAW_DTYPES, RawFormat, SourceOptions, open_source

FRAMES = 24


def stack(frames: int = FRAMES, height: int = 6, width: int = 10, dtype: str = "uint16") -> NDArray[np.generic]:
    """Frames whose first pixel tells their number."""
    pixels = np.random.default_rng(0).integers(0, 200, (frames, height, width)).astype(dtype)
    pixels[:, 0, 0] = np.arange(frames)
    return pixels


def save_tiff(path: Path, pixels: NDArray[np.generic]) -> Path:
    assert cv2.imwritemulti(str(path), list(pixels))
    return path


def save_npy(path: Path, pixels: NDArray[np.generic]) -> Path:
    np.save(path, pixels)
    return path


def write_kind(kind: str, folder: Path) -> tuple[Path, SourceOptions]:
    """Writes the stack in one of the ways that it can lie on disk."""
    if kind == "raw":
        path = folder / "stack.raw"
        path.write_bytes(stack().astype("<u2").tobytes())
        return path, SourceOptions(raw=RawFormat(10, 6))
    if kind == "images":
        for index, pixels in enumerate(stack()):
            cv2.imwrite(str(folder / f"{index}.png"), pixels)
        return folder, SourceOptions()
    save = {"tiff": save_tiff, "npy": save_npy}[kind]
    return save(folder / f"stack.{kind}", stack()), SourceOptions()


@pytest.mark.parametrize("kind", ["tiff", "npy", "raw", "images"])
def test_stack_comes_as_it_is_stored(tmp_path: Path, kind: str) -> None:
    path, options = write_kind(kind, tmp_path)
    with open_source(path, options) as source:
        assert (source.length, source.size, source.live) == (FRAMES, (10, 6), False)
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(FRAMES))
    for frame, wanted in zip(frames, stack(), strict=True):
        assert frame.pixels.dtype == np.uint16 and np.array_equal(frame.pixels, wanted)
    if kind == "images":
        assert source.fps is None and {frame.time for frame in frames} == {None}
    else:
        assert source.fps == FALLBACK_FPS and "--fps" in source.notes[0]
        assert [frame.time for frame in frames] == pytest.approx(np.arange(FRAMES) / FALLBACK_FPS)
    assert source.skipped.frames == 0


@pytest.mark.parametrize("kind", ["tiff", "npy", "raw", "images"])
@pytest.mark.parametrize(("start", "stride", "limit"), [(0, 1, 5), (3, 1, None), (2, 7, None), (20, 3, 9), (23, 1, 1)])
def test_start_stride_and_limit(tmp_path: Path, kind: str, start: int, stride: int, limit: int | None) -> None:
    path, base = write_kind(kind, tmp_path)
    wanted = list(range(FRAMES))[start::stride][:limit]
    with open_source(path, SourceOptions(start, stride, limit, fps=10, raw=base.raw)) as source:
        assert source.length == len(wanted) and source.notes == ()
        frames = list(source)
    assert [frame.index for frame in frames] == wanted == [int(frame.pixels[0, 0]) for frame in frames]
    if kind != "images":
        assert [frame.time for frame in frames] == pytest.approx([index / 10 for index in wanted])


@pytest.mark.parametrize("kind", ["tiff", "npy", "raw", "images"])
def test_start_beyond_the_end(tmp_path: Path, kind: str) -> None:
    path, options = write_kind(kind, tmp_path)
    with pytest.raises(IrdetError, match=rf"it has {FRAMES} frames, so none from --start 24 on"):
        open_source(path, SourceOptions(start=FRAMES, raw=options.raw))


@pytest.mark.parametrize("kind", ["tiff", "npy", "raw", "images"])
def test_frames_that_are_too_large_are_refused(tmp_path: Path, kind: str) -> None:
    path, options = write_kind(kind, tmp_path)
    with open_source(path, SourceOptions(max_pixels=60, raw=options.raw)):
        pass
    with pytest.raises(IrdetError, match=r"10x6 px are more than 59 pixels; .*--max-pixels") as caught:
        open_source(path, SourceOptions(max_pixels=59, raw=options.raw))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jp2", ".bmp", ".pgm", ".webp", ".jpg"])
def test_what_is_too_large_is_refused_before_it_is_decoded(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object, **__: object) -> None:
        raise AssertionError("it was decoded")

    image, pages = tmp_path / f"a{suffix}", tmp_path / "pages.tif"
    assert cv2.imwrite(str(image), np.zeros((64, 48), np.uint8))
    assert cv2.imwritemulti(str(pages), [np.zeros((64, 48), np.uint16)] * 2)
    monkeypatch.setattr(cv2, "imdecode", decode)
    monkeypatch.setattr(cv2, "imreadmulti", decode)
    for path in (image, pages):
        with pytest.raises(IrdetError, match=r"48x64 px are more than 3071 pixels; .*--max-pixels"):
            open_source(path, SourceOptions(max_pixels=3071))
        with pytest.raises(AssertionError):
            open_source(path, SourceOptions(max_pixels=3072))


def test_an_image_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    """OpenCV itself would take 2^30 pixels; this file has under a hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (32000).to_bytes(4, "big") * 2 + bytes([16, 0, 0, 0, 0])
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    with pytest.raises(IrdetError, match="32000x32000 px are more than 67108864 pixels"):
        open_source(path, SourceOptions())


@given(st.integers(0, 40), st.integers(1, 9), st.none() | st.integers(1, 20), st.integers(1, 40))
def test_chosen_and_takes_agree(start: int, stride: int, limit: int | None, length: int) -> None:
    options = SourceOptions(start, stride, limit)
    taken = [index for index in range(length) if options.takes(index)]
    if not taken:
        with pytest.raises(IrdetError):
            options.chosen(length, "it")
        return
    assert list(options.chosen(length, "it")) == taken == list(range(length))[start::stride][:limit]
    assert limit is None or all(
        options.over(index) for index in range(taken[-1] + stride, length) if len(taken) == limit
    )


@pytest.mark.parametrize(
    ("wrong", "option"),
    [
        ({"start": -1}, "--start"),
        ({"stride": 0}, "--stride"),
        ({"limit": 0}, "--limit"),
        ({"max_pixels": 0}, "--max-pixels"),
        ({"fps": 0.0}, "--fps"),
        ({"fps": float("nan")}, "--fps"),
        ({"fps": 1e6}, "--fps"),
        ({"patience": -1.0}, "--give-up"),
        ({"patience": float("nan")}, "--give-up"),
    ],
    ids=str,
)
def test_options_that_cannot_be_meant(wrong: dict[str, float], option: str) -> None:
    with pytest.raises(UsageError, match=option):
        SourceOptions(**wrong)  # type: ignore[arg-type]


# TIFF


def test_pages_of_sixteen_bits_beyond_one_block(tmp_path: Path) -> None:
    deep = stack(40) * np.uint16(300)
    with open_source(save_tiff(tmp_path / "deep.tif", deep)) as source:
        assert source.is_video
        for frame, wanted in zip(source, deep, strict=True):
            assert np.array_equal(frame.pixels, wanted)


def test_one_page_is_an_image(tmp_path: Path) -> None:
    with open_source(save_tiff(tmp_path / "one.tif", stack(1))) as source:
        assert not source.is_video and source.fps is None and len(list(source)) == 1


def test_a_damaged_page_is_skipped_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = [np.full((32, 32), 1000 + page, np.uint16) for page in range(5)]
    path = tmp_path / "a.tiff"
    assert cv2.imwritemulti(str(path), pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 8])  # deflate, which can be damaged
    data = bytearray(path.read_bytes())
    streams = [found.start() for found in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data)]
    if len(streams) != 5:
        pytest.skip("this OpenCV lays pages out in another way")
    data[streams[2] : streams[2] + 8] = b"\xff" * 8
    path.write_bytes(data)
    with open_source(path) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 3, 4]
    assert [int(frame.pixels[0, 0]) for frame in frames] == [1000, 1001, 1003, 1004]
    assert [skipped.reason for skipped in source.skipped.named] == [f"cannot read {path}: page 2 is damaged"]


def test_smaller_copies_of_a_page_are_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    whole = stack(1)[0]
    assert cv2.imwritemulti(str(path), [whole, cv2.resize(whole, None, fx=0.5, fy=0.5)])
    with open_source(path) as source:
        assert [frame.index for frame in source] == [0]
    (skipped,) = source.skipped.named
    assert "page 1 is" in skipped.reason and "an overview?" in skipped.reason
    with pytest.raises(IrdetError, match="an overview"):  # nor where the first page is not wanted: a run gone on with
        open_source(path, SourceOptions(start=1))


def test_no_more_pages_are_decoded_than_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_tiff(tmp_path / "a.tif", stack(40))
    plain, counts = cv2.imreadmulti, []

    def counted(name: str, first: int, count: int, flags: int) -> object:
        counts.append(count)
        return plain(name, first, count, flags=flags)

    monkeypatch.setattr(cv2, "imreadmulti", counted)
    for options, most in ((SourceOptions(limit=1), 1), (SourceOptions(start=3, limit=5), 5), (SourceOptions(), 40)):
        counts.clear()
        with open_source(path, options) as source:
            assert len(list(source)) == most == sum(counts)
    monkeypatch.setattr("irdet.runtime.sources.stacks.BYTES_AT_ONCE", 2 * stack(1).nbytes)
    counts.clear()
    with open_source(path) as source:
        assert len(list(source)) == 40 and max(counts) == 2


def test_a_folder_says_that_it_takes_first_pages_only(tmp_path: Path) -> None:
    save_tiff(tmp_path / "a.tif", stack(3))
    save_tiff(tmp_path / "b.tif", stack(1))
    with open_source(tmp_path) as source:
        assert [frame.name for frame in source] == ["a.tif", "b.tif"]
    (skipped,) = source.skipped.named
    assert skipped.frames == 2 and "a.tif has 3 pages" in skipped.reason


# NumPy


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "<u2", "int16", "float32", ">f8"])
def test_npy_of_any_type_and_byte_order(tmp_path: Path, dtype: str) -> None:
    pixels = stack(3).astype(dtype)
    with open_source(save_npy(tmp_path / "a.npy", pixels)) as source:
        frames = list(source)
    for frame, wanted in zip(frames, pixels, strict=True):
        assert frame.pixels.dtype.isnative and np.array_equal(frame.pixels, wanted)


def test_npy_of_one_frame_and_of_colour(tmp_path: Path) -> None:
    with open_source(save_npy(tmp_path / "one.npy", stack(1)[0])) as source:
        assert source.length == 1 and np.array_equal(next(iter(source)).pixels, stack(1)[0])
    colour = np.zeros((2, 6, 10, 3), np.uint8)
    with open_source(save_npy(tmp_path / "colour.npy", colour)) as source:
        assert source.size == (10, 6) and [frame.pixels.shape for frame in source] == [(6, 10, 3)] * 2


@pytest.mark.parametrize("wrong", [np.zeros(4), np.zeros((0, 4, 4)), np.zeros((2, 0, 4)), np.zeros((1, 1, 1, 1, 1))])
def test_npy_that_is_no_stack(tmp_path: Path, wrong: NDArray[np.generic]) -> None:
    with pytest.raises(IrdetError, match=r"a\.npy: (its shape is|not a NumPy array)"):
        open_source(save_npy(tmp_path / "a.npy", wrong))


def test_several_arrays_under_the_name_of_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros(3), b=np.ones(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(IrdetError, match="several arrays"):
        open_source(tmp_path / "a.npy")


def test_npy_of_python_objects_is_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    with pytest.raises(IrdetError, match="not a NumPy array of numbers"):
        open_source(path)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.05, 0.5, 0.99])
def test_npy_that_is_cut_short(tmp_path: Path, part: float) -> None:
    path = save_npy(tmp_path / "a.npy", stack())
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(IrdetError, match=r"cannot read .*a\.npy") as caught:
        open_source(path)
    assert "\n" not in str(caught.value)


def test_npy_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    """Memory that is mapped beyond the end of its file would kill the process."""
    path = save_npy(tmp_path / "a.npy", stack(4, 100, 100))
    with open_source(path) as source:
        frames = iter(source)
        next(frames)
        os.truncate(path, 30_000)
        assert list(frames) == []
    assert source.skipped.frames == 3 and "shorter than it was" in source.skipped.named[0].reason


# Raw frames


@pytest.mark.parametrize("dtype", RAW_DTYPES)
def test_raw_of_each_type(tmp_path: Path, dtype: str) -> None:
    pixels = stack(3).astype(RAW_DTYPES[dtype])
    path = tmp_path / "a.bin"
    path.write_bytes(pixels.tobytes())
    with open_source(path, SourceOptions(raw=RawFormat(10, 6, dtype))) as source:
        frames = list(source)
    for frame, wanted in zip(frames, pixels, strict=True):
        assert frame.pixels.dtype.isnative and np.array_equal(frame.pixels, wanted)


def test_raw_with_a_rest_says_so_and_one_that_is_too_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(stack(2).tobytes() + b"1234567")
    options = SourceOptions(raw=RawFormat(10, 6))
    with open_source(path, options) as source:
        assert len(list(source)) == 2
    assert "7 bytes after its 2 frames" in source.skipped.named[0].reason
    path.write_bytes(b"123")
    with pytest.raises(IrdetError, match=r"shorter than one frame of 10x6 uint16le \(120 bytes\)"):
        open_source(path, options)


def test_raw_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(stack(4, 100, 100).tobytes())
    with open_source(path, SourceOptions(raw=RawFormat(100, 100))) as source:
        frames = iter(source)
        next(frames)
        os.truncate(path, 30_000)
        assert list(frames) == []
    assert source.skipped.frames == 3 and "ends within frame 1" in source.skipped.named[0].reason


@pytest.mark.parametrize(("shape", "dtype"), [((0, 4), "uint8"), ((4, -1), "uint8"), ((4, 4), "uint16")])
def test_raw_format_that_cannot_be(shape: tuple[int, int], dtype: str) -> None:
    with pytest.raises(UsageError):
        RawFormat(*shape, dtype)


def test_raw_frames_need_their_layout(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(100))
    with pytest.raises(UsageError, match="--raw-shape"):
        open_source(path)
    with pytest.raises(UsageError, match="neither"):
        open_source(tmp_path, SourceOptions(raw=RawFormat(4, 4)))
