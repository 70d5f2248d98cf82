from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.core.errors import FrameError, IrdetError, UsageError
from irdet.core.frame import Preprocessor
from irdet.core.nuc import Correction, find_bad, identity, mean_frame, read_correction, two_point

SHAPE = (60, 80)
NOISE = 5.0


class Camera:
    """A camera whose pixels differ in gain and offset; some are dead, some hot."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.gain = self.rng.normal(1, 0.05, SHAPE)
        self.offset = self.rng.normal(0, 60, SHAPE)
        self.bad = np.zeros(SHAPE, bool)
        self.bad.flat[self.rng.choice(self.bad.size, 12, replace=False)] = True

    def see(self, scene: NDArray[np.floating[Any]] | float) -> NDArray[np.uint16]:
        counts = self.gain * scene + self.offset + self.rng.normal(0, NOISE, SHAPE)
        counts[self.bad] = 9000
        return np.rint(np.clip(counts, 0, 16383)).astype(np.uint16)

    def film(self, scene: NDArray[np.floating[Any]] | float, frames: int = 20) -> list[NDArray[np.uint16]]:
        return [self.see(scene) for _ in range(frames)]

    def moving(self, frames: int = 30) -> Iterator[NDArray[np.uint16]]:
        """A textured sky that pans, with a point target in it."""
        sky = cv2.GaussianBlur(self.rng.normal(0, 1, (SHAPE[0], 200)), (0, 0), 6)
        sky = 4000 + 300 * sky / sky.std()
        for index in range(frames):
            view = sky[:, index : index + SHAPE[1]].copy()
            view[28:31, 50 - index : 53 - index] += 400 * np.outer([0.4, 1, 0.4], [0.4, 1, 0.4])
            yield self.see(view)


#: What cameras and files write where a pixel has no value.
NOTHING = (np.nan, np.inf, -3.4e38)


@pytest.fixture
def camera() -> Camera:
    return Camera()


def test_two_temperatures_make_every_other_one_even(camera: Camera) -> None:
    correction = two_point(mean_frame(camera.film(3000)), mean_frame(camera.film(7000)))
    np.testing.assert_array_equal(correction.bad, camera.bad)
    good = ~correction.bad
    for level in (2000, 5000, 9500):
        raw = mean_frame(camera.film(level))
        assert raw[good].std() > 50
        corrected = correction.apply(raw, "it")
        assert corrected[good].std() < 5 and corrected[good].mean() == pytest.approx(level, rel=0.02)


def test_the_shutter_takes_off_a_drift(camera: Camera) -> None:
    correction = two_point(mean_frame(camera.film(3000)), mean_frame(camera.film(7000)))
    camera.offset += camera.rng.normal(0, 40, SHAPE)
    good = ~correction.bad
    before = correction.apply(mean_frame(camera.film(5000)), "it")[good].std()
    again = correction.with_shutter(mean_frame(camera.film(4200)))
    after = again.apply(mean_frame(camera.film(5000)), "it")[good].std()
    assert before > 30 and after < 5
    np.testing.assert_array_equal(again.gain, correction.gain)


def test_the_shutter_alone_is_the_one_point_correction(camera: Camera) -> None:
    correction = identity(SHAPE).with_shutter(mean_frame(camera.film(5000)))
    assert correction.apply(mean_frame(camera.film(5000)), "it")[~camera.bad].std() < 5


def test_bad_pixels_are_found_in_a_moving_scene_and_the_target_is_not(camera: Camera) -> None:
    camera.gain, camera.offset = np.ones(SHAPE), camera.rng.normal(0, 4, SHAPE)
    found = find_bad(frame.astype(np.float32) for frame in camera.moving())
    np.testing.assert_array_equal(found, camera.bad)


def test_a_static_point_is_no_bad_pixel() -> None:
    """Optics spread it over its neighbours."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    scene = 4000 + 500 * np.exp(-0.5 * ((y - 30) ** 2 + (x - 40) ** 2) / 0.8**2)
    frames = [(scene + rng.normal(0, NOISE, SHAPE)).astype(np.float32) for _ in range(20)]
    assert not find_bad(frames).any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("nothing", NOTHING)
def test_pixels_without_a_value_are_bad_ones(camera: Camera, nothing: float) -> None:
    """Radiometric frames mark dead pixels by NaN: they are bad, and spoil no other pixel."""
    dead = (7, 9)

    def film(level: float) -> NDArray[np.float32]:
        frames = [frame.astype(np.float32) for frame in camera.film(level)]
        for frame in frames:
            frame[dead] = nothing
        return mean_frame(frames)

    cold, hot = film(3000), film(7000)
    wanted = camera.bad.copy()
    wanted[dead] = True
    correction = two_point(cold, hot)
    np.testing.assert_array_equal(correction.bad, wanted)
    raw = mean_frame(camera.film(5000))
    assert correction.apply(raw, "it")[~wanted].std() < 5
    shutter = identity(SHAPE).with_shutter(film(5000))
    assert shutter.bad[dead] and shutter.bad.sum() == 1 and shutter.apply(raw, "it")[~wanted].std() < 5
    camera.gain, camera.offset = np.ones(SHAPE), camera.rng.normal(0, 4, SHAPE)
    moving = [frame.astype(np.float32) for frame in camera.moving()]
    for frame in moving:
        frame[dead] = nothing
    np.testing.assert_array_equal(find_bad(moving), wanted)
    with pytest.raises(UsageError, match="not brighter"):
        two_point(np.full(SHAPE, np.nan, np.float32), hot)


def test_noise_has_no_bad_pixels() -> None:
    rng = np.random.default_rng(1)
    assert not find_bad(rng.normal(4000, NOISE, SHAPE).astype(np.float32) for _ in range(20)).any()


def test_bad_pixels_become_the_median_of_their_neighbours_and_are_flagged(camera: Camera) -> None:
    bad = np.zeros((7, 9), bool)
    bad[3, 4] = bad[0, 0] = True
    raw = np.arange(63, dtype=np.uint16).reshape(7, 9) * 10
    raw[3, 4] = raw[0, 0] = 16000
    frame = Preprocessor(correction=identity((7, 9)).with_bad(bad))(raw)
    around = raw[2:5, 3:6].ravel()
    assert frame.counts[3, 4] == np.median(np.delete(around, 4))
    assert frame.counts[0, 0] == np.median(raw.ravel()[[1, 9, 10]])
    assert frame.bad is not None and frame.pixels.max() == 1
    np.testing.assert_array_equal(frame.bad, bad)
    # The stuck pixels are not part of the range.
    good = ~bad
    np.testing.assert_allclose(frame.pixels[good], (raw[good] - 10) / 610, atol=1e-6)


def test_clusters_of_bad_pixels_are_filled() -> None:
    bad = np.zeros((40, 40), bool)
    bad[5:25, 5:25] = True
    raw = np.full((40, 40), 500, np.uint16)
    raw[bad] = 16000
    raw[0, 0] = 400
    frame = Preprocessor(correction=identity((40, 40)).with_bad(bad))(raw)
    assert frame.counts.max() == 500


@pytest.mark.parametrize("mode", ["range", "local"])
def test_correction_comes_before_the_mapping(camera: Camera, mode: str) -> None:
    correction = two_point(mean_frame(camera.film(3000)), mean_frame(camera.film(7000)))
    scene = np.full(SHAPE, 5000.0)
    scene[30:33, 40:43] += 100
    frame = Preprocessor(mode=mode, correction=correction)(camera.see(scene))
    target, ground = frame.counts[30:33, 40:43].mean(), np.median(frame.counts)
    assert target - ground == pytest.approx(100, abs=10)
    assert np.unravel_index(frame.pixels.argmax(), SHAPE)[0] in (30, 31, 32)


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(FrameError, match=r"clip \(frame 3\) is 5x4 px, and its correction \(--nuc\) 80x60"):
        Preprocessor(correction=identity(SHAPE))(np.zeros((4, 5), np.uint16), index=3, source="clip")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: two_point(np.full(SHAPE, 7000, np.float32), np.full(SHAPE, 3000, np.float32)),
        lambda: two_point(np.zeros(SHAPE, np.float32), np.zeros((3, 3), np.float32)),
        lambda: mean_frame([]),
        lambda: mean_frame([np.zeros((2, 2)), np.zeros((3, 2))]),
        lambda: find_bad([np.zeros(SHAPE, np.float32)] * 9),
        lambda: identity((2, 2)).with_bad(np.ones((2, 2), bool)),
        lambda: identity((2, 2)).with_shutter(np.zeros((3, 3), np.float32)),
        lambda: Correction(np.full((2, 2), np.nan, np.float32), np.zeros((2, 2), np.float32), np.zeros((2, 2), bool)),
    ],
)
def test_what_makes_no_correction(wrong: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=r"^(calibration|correction): "):
        wrong()


def test_file_comes_back_as_it_was(camera: Camera, tmp_path: Path) -> None:
    correction = two_point(mean_frame(camera.film(3000)), mean_frame(camera.film(7000)))
    correction.write(tmp_path / "a.npz")
    back = read_correction(tmp_path / "a.npz")
    for name in ("gain", "offset", "bad"):
        np.testing.assert_array_equal(getattr(back, name), getattr(correction, name))


def good_values() -> dict[str, Any]:
    zeros = np.zeros((3, 3), np.float32)
    return {"format": 1, "gain": zeros + 1, "offset": zeros, "bad": zeros.astype(bool)}


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": np.ones(2)},
        {"gain": np.ones((3, 3))},
        {"gain": np.ones((3, 4), np.float32)},
        {"gain": np.full((3, 3), np.inf, np.float32)},
        {"bad": np.zeros((3, 3), np.uint8)},
        {"bad": np.ones((3, 3), bool)},
        {"offset": np.array([{"a": 1}], dtype=object)},
        {"extra": np.ones(3)},
    ],
    ids=str,
)
def test_files_that_are_no_correction(tmp_path: Path, change: dict[str, Any]) -> None:
    np.savez(tmp_path / "a.npz", **(good_values() | change))
    with pytest.raises(IrdetError, match=r"cannot read .*a\.npz: ") as caught:
        read_correction(tmp_path / "a.npz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"text", bytes(5000)])
def test_bytes_that_are_no_correction(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    with pytest.raises(IrdetError, match=r"cannot read .*a\.npz"):
        read_correction(path)
    with pytest.raises(IrdetError, match="No such file"):
        read_correction(tmp_path / "b.npz")


def save(folder: Path, frames: list[NDArray[np.uint16]]) -> Path:
    folder.mkdir()
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    return folder


def test_command(camera: Camera, tmp_path: Path, irdet_command: Any) -> None:
    folders = {name: save(tmp_path / name, camera.film(level)) for name, level in (("cold", 3000), ("hot", 7000))}
    scene, shutter = save(tmp_path / "scene", list(camera.moving())), save(tmp_path / "shutter", camera.film(4000))
    file = tmp_path / "camera.npz"
    result = irdet_command("calibrate", file, "--cold", folders["cold"], "--hot", folders["hot"], "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["bad_pixels"] == 12
    assert irdet_command("calibrate", file, "--shutter", shutter).code == 2
    (shutter / "99.png").write_bytes(b"no image")
    result = irdet_command("calibrate", tmp_path / "b.npz", "--shutter", shutter, "--quiet")
    assert result.code == 0 and "99.png" in result.err and result.err.count("\n") == 1, "what is left out is told"
    result = irdet_command("calibrate", file, "--nuc", file, "--shutter", shutter, "--scene", scene, "--exist-ok")
    assert result.code == 0 and "80x60 px, 12 bad" in result.out, result.err

    again = ("calibrate", file, "--scene", scene, "--exist-ok")
    assert "reading scene" in irdet_command(*again).err and irdet_command(*again, "--quiet").err == ""

    arguments = ["infer", scene, "--model", "tophat", "--nuc", file, "--normalise", "local", "--no-video", "--json"]
    result = irdet_command(*arguments, "--output", tmp_path / "out")
    assert result.code == 0, result.err
    record = json.loads(result.out)
    assert record["normalise"] == "local" and record["nuc"] == str(file) and record["frames"] == 30


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--cold", "a"],
        ["--hot", "a"],
        ["--cold", "a", "--hot", "b", "--nuc", "c.npz"],
    ],
)
def test_command_that_cannot_be_meant(tmp_path: Path, irdet_command: Any, arguments: list[str]) -> None:
    result = irdet_command("calibrate", tmp_path / "a.npz", *arguments)
    assert result.code == 2 and result.err.startswith("irdet: ") and result.err.count("\n") == 1


def test_saturated_pixels_have_no_response() -> None:
    """A gain from a count that stopped rising would be wrong without a word."""
    cold, hot = np.full((20, 30), 3000, np.uint16), np.full((20, 30), 9000, np.uint16)
    hot[3, 4:9] = 16383
    correction = two_point(mean_frame([cold] * 3), mean_frame([hot] * 3))
    assert correction.bad.sum() == 5 and correction.bad[3, 4:9].all()
    assert identity(cold.shape).with_shutter(mean_frame([hot])).bad.sum() == 5
    hot[:10] = 16383
    with pytest.raises(UsageError, match="50 % of frame 0 are saturated"):
        mean_frame([hot])


def test_infinite_floats_are_no_saturation() -> None:
    """They have no value, as NaN has none, and may be as many as they like."""
    frame = np.full((20, 30), 0.5, np.float32)
    frame[:10] = np.inf
    assert np.isnan(mean_frame([frame])[:10]).all() and (mean_frame([frame])[10:] == 0.5).all()
