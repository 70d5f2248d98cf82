from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.core.errors import FrameError
from irdet.core.images import is_image, natural_key, quiet_opencv, read_image


def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (48, 64)).astype(np.uint8)


def save(path: Path, pixels: NDArray[np.generic]) -> Path:
    path.write_bytes(cv2.imencode(path.suffix, np.asarray(pixels))[1].tobytes())
    return path


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path, suffix: str) -> None:
    deep = picture().astype(np.uint16) * 251
    assert np.array_equal(read_image(save(tmp_path / f"deep{suffix}", deep)), deep)


def test_threads_that_read_leave_opencv_as_loud_as_it_was(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", picture())
    with quiet_opencv():
        pass
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
    before = set_level(3)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(read_image, [path] * 400))
    finally:
        after = set_level(before)
    assert after == 3


def test_float_tiff_keeps_its_nan(tmp_path: Path) -> None:
    values = picture().astype(np.float32)
    values[3, 4] = np.nan
    assert np.array_equal(read_image(save(tmp_path / "float.tiff", values)), values, equal_nan=True)


def test_colour_image_keeps_its_channels(tmp_path: Path) -> None:
    assert read_image(save(tmp_path / "colour.png", cv2.cvtColor(picture(), cv2.COLOR_GRAY2BGR))).shape == (48, 64, 3)


def test_numbers_in_names_sort_by_value() -> None:
    names = ["b/Misc_10.png", "b/Misc_2.png", "a/Misc_30.png", "b/Misc_2b.png", "b/misc_1.png"]
    ordered = ["a/Misc_30.png", "b/misc_1.png", "b/Misc_2.png", "b/Misc_2b.png", "b/Misc_10.png"]
    assert sorted(names, key=natural_key) == ordered


def test_hidden_files_and_folders_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name, counts in (("a.PNG", True), (".a.png", False), ("a.txt", False)):
        (tmp_path / name).touch()
        assert is_image(tmp_path / name) is counts
    assert not is_image(tmp_path / "folder.png")


def test_what_a_camera_appends_to_a_jpeg_is_passed_over(tmp_path: Path) -> None:
    """Raw counts, a film of the moment: any bytes, among them those of markers. A cut in the picture is still told."""
    good = cv2.imencode(".jpg", picture())[1].tobytes()
    path = tmp_path / "a.jpg"
    path.write_bytes(good)
    wanted = read_image(path)
    for tail in (b"\xff\xda", b"\xff\xd9\xff\xda\x00", np.random.default_rng(1).bytes(100_000)):
        path.write_bytes(good + tail)
        assert np.array_equal(read_image(path), wanted)
    for cut in (10, 200, len(good) - 2):
        path.write_bytes(good[:cut])
        with pytest.raises(FrameError, match="damaged"):
            read_image(path)
