"""Calibration: the right frames, the right ranges, and a cache that tells weights apart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from irdet.core.errors import DataError, IrdetError, UsageError
from irdet.core.files import cache_folder
from irdet.core.frame import Preprocessor, pad_to_multiple
from irdet.data.scenes import known_folds
from irdet.engines.probe import probe_frame
from irdet.export.calibration import LEAST, Range, calibrate, deal, observe, prepared


def affine(scale: float = 2.0, shift: float = -1.0) -> Any:
    """relu(scale * x + shift)."""
    shape = [None, 1, None, None]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "scale"], ["scaled"], "mul"),
            helper.make_node("Add", ["scaled", "shift"], ["shifted"], "add"),
            helper.make_node("Relu", ["shifted"], ["y"], "relu"),
        ],
        "affine",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.float32(v), n) for n, v in (("scale", scale), ("shift", shift))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def frames() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(0.1, 0.9, (1, 1, h, 9)).astype(np.float32) for h in (5, 8, 11)]


def save_frames(folder: Path, count: int, *, masks: bool = False, empty: tuple[int, ...] = ()) -> Path:
    for index in range(count):
        frame, mask = probe_frame(24, 32, seed=index), np.zeros((24, 32), np.uint8)
        if index not in empty:
            mask[5:8, 5:8] = 255
        for name, pixels in (("images", frame), ("masks", mask)) if masks else ((".", frame),):
            (folder / name).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / name / f"frame_{index}.png"), pixels)
    return folder


def test_ranges_are_those_of_all_frames(frames: list[np.ndarray]) -> None:
    seen = observe(affine(), frames)
    low, high = min(f.min() for f in frames), max(f.max() for f in frames)
    assert list(seen) == ["x", "scaled", "shifted", "y"]
    for name, ends in {"x": (low, high), "scaled": (2 * low, 2 * high), "shifted": (2 * low - 1, 2 * high - 1)}.items():
        assert (seen[name].low, seen[name].high) == pytest.approx(ends, rel=1e-6)
    assert seen["y"] == Range(0.0, seen["shifted"].high)


def test_ranges_of_a_real_network(graph: Any, made: Path) -> None:
    parts = deal(made, 8)
    few, all_ = (
        observe(graph, prepared(samples, 8, Preprocessor())) for samples in (parts.calibration[:2], parts.calibration)
    )
    assert few.keys() == all_.keys() and len(all_) > 90
    assert all(all_[name].low <= few[name].low <= few[name].high <= all_[name].high for name in few)
    assert 0 <= all_["frames"].low < all_["frames"].high <= 1 and all_["probability"].low >= 0
    assert not any("Constant" in name for name in all_)


def test_values_that_are_not_finite_are_refused(frames: list[np.ndarray]) -> None:
    with pytest.raises(IrdetError, match="not finite, first in scaled"):
        observe(affine(scale=float("inf")), frames)


def test_the_cache_gives_the_same_and_knows_what_it_is_of(frames: list[np.ndarray], tmp_path: Path) -> None:
    first = calibrate(affine(), frames, tmp_path)
    again = calibrate(affine(), frames, tmp_path)
    assert (first.cached, again.cached) == (False, True)
    assert (again.ranges, again.digest, again.frames) == (first.ranges, first.digest, 3)
    labelled = affine()
    helper.set_model_props(labelled, {"irdet": "another record"})
    assert calibrate(labelled, frames, tmp_path).cached  # the record is not what is computed
    assert len(list(tmp_path.iterdir())) == 1


def test_a_retrained_model_never_meets_old_ranges(frames: list[np.ndarray], tmp_path: Path) -> None:
    old = calibrate(affine(shift=-1.0), frames, tmp_path)
    new = calibrate(affine(shift=np.nextafter(np.float32(-1), np.float32(0)).item()), frames, tmp_path)  # one bit
    far = calibrate(affine(shift=-0.5), frames, tmp_path)
    assert not new.cached and not far.cached and len({old.digest, new.digest, far.digest}) == 3
    assert far.ranges["y"].high == pytest.approx(old.ranges["y"].high + 0.5)


def test_nor_do_other_frames(frames: list[np.ndarray], tmp_path: Path) -> None:
    calibrate(affine(), frames, tmp_path)
    assert not calibrate(affine(), frames[:2], tmp_path).cached
    assert not calibrate(affine(), [*frames[:2], 1 - frames[2]], tmp_path).cached


@pytest.mark.parametrize("spoil", [lambda f: f.write_text("{"), lambda f: f.write_text('{"format": "other"}')])
def test_a_damaged_cache_is_none(frames: list[np.ndarray], tmp_path: Path, spoil: Any) -> None:
    first = calibrate(affine(), frames, tmp_path)
    (file,) = tmp_path.iterdir()
    spoil(file)
    again = calibrate(affine(), frames, tmp_path)
    assert not again.cached and again.ranges == first.ranges
    assert json.loads(file.read_text())["ranges"]["x"]


@pytest.mark.parametrize("change", ["{}", "missing", "exchanged", "NaN", "nested"])
def test_a_cache_of_nonsense_is_made_anew(frames: list[np.ndarray], tmp_path: Path, change: str) -> None:
    first = calibrate(affine(), frames, tmp_path)
    (file,) = tmp_path.rglob("*.json")
    content = json.loads(file.read_text())
    ranges = content["ranges"]
    name = next(iter(ranges))
    changed = {
        "{}": {},
        "missing": {key: value for key, value in ranges.items() if key != name},
        "exchanged": {**ranges, name: ranges[name][::-1]},
        "NaN": {**ranges, name: [float("nan"), 1.0]},
    }
    file.write_text("[" * 100_000 if change == "nested" else json.dumps({**content, "ranges": changed[change]}))
    again = calibrate(affine(), frames, tmp_path)
    assert not again.cached and again.ranges == first.ranges


def test_a_cache_that_cannot_be_written_costs_nothing(frames: list[np.ndarray], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not calibrate(affine(), frames, tmp_path / "file").cached


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("calibration") == tmp_path / "irdet" / "calibration"


def test_no_image_serves_two_purposes(tmp_path: Path) -> None:
    parts = deal(save_frames(tmp_path, 60, masks=True, empty=(3, 20, 21)), 20)
    names = [[s.name for s in part] for part in (parts.calibration, parts.sensitivity, parts.gate)]
    assert [len(part) for part in names] == [20, 14, 15]
    assert len({name for part in names for name in part}) == 49
    assert names[2] == [f"frame_{i}" for i in range(45, 60)]  # a block of neighbours in name
    assert not {"frame_3", "frame_20"} & {*names[0], *names[1]}  # targets are in what is calibrated on
    assert parts.warnings == ()


def test_known_scenes_are_kept_apart(tmp_path: Path) -> None:
    save_frames(tmp_path, 100, masks=True)
    names = [name for name in (f"Misc_{i}" for i in range(1, 200)) if known_folds([name]) is not None]
    for file in tmp_path.glob("*/frame_*.png"):
        file.rename(file.with_name(f"{names[int(file.stem[6:])]}.png"))
    parts = deal(tmp_path, 20)
    for part, held_out in ((parts.gate, True), (parts.calibration, False), (parts.sensitivity, False)):
        folds = known_folds([sample.name for sample in part])
        assert folds is not None and all((folds == 0) == held_out)


def test_frames_without_masks_are_judged_on_others(tmp_path: Path) -> None:
    plain = save_frames(tmp_path / "plain", 40)
    labelled = save_frames(tmp_path / "labelled", 36, masks=True)  # the first 36 of the plain ones again
    with pytest.raises(DataError, match="4 frames are left to calibrate on, out of 40"):
        deal(plain, 30, labelled)
    shutil.rmtree(labelled)
    parts = deal(plain, 30, save_frames(labelled, 20, masks=True, empty=(0, 1)))
    assert [s.image.parent.name for s in parts.calibration] == ["plain"] * 20  # what is judged on is not among them
    assert {int(s.name[6:]) for s in parts.calibration} == set(range(20, 40))
    assert (len(parts.sensitivity), len(parts.gate)) == (6, 14)
    assert not {s.image for s in parts.sensitivity} & {s.image for s in parts.gate}


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "no images in"), (1, "holds 1 image; at least 8"), (LEAST - 1, f"holds {LEAST - 1} images")],
)
def test_too_few_images(tmp_path: Path, count: int, told: str) -> None:
    (tmp_path / "calib").mkdir()
    with pytest.raises(DataError, match=told) as caught:
        deal(save_frames(tmp_path / "calib", count), 10, save_frames(tmp_path / "d", 20, masks=True))
    assert "\n" not in str(caught.value)


def test_parts_of_a_data_set_are_named(tmp_path: Path) -> None:
    save_frames(tmp_path / "data" / "train", 20, masks=True)
    with pytest.raises(UsageError, match=r"has the parts train: give the folder of one, .*data/train"):
        deal(tmp_path, 8)


def test_what_else_cannot_be_calibrated_on(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data set at"):
        deal(tmp_path / "gone", 10)
    with pytest.raises(DataError, match="no masks to measure accuracy on: give labelled frames with --data DIR"):
        deal(save_frames(tmp_path / "plain", 30), 10)
    with pytest.raises(DataError, match="6 frames are left to calibrate on, out of 12"):
        deal(save_frames(tmp_path / "few", 12, masks=True), 10)
    with pytest.raises(DataError, match="5 frames are left to measure the accuracy on, out of 20"):
        deal(save_frames(tmp_path / "twenty", 20, masks=True), 10)
    with pytest.raises(DataError, match="that would be judged on holds a target"):
        deal(save_frames(tmp_path / "blank", 60, masks=True, empty=tuple(range(45, 60))), 10)
    shutil.copy(__file__, tmp_path / "plain" / "zz.png")
    with pytest.raises(DataError, match=r"1 of 31 samples .* zz: cannot read"):
        deal(tmp_path / "plain", 10, tmp_path / "few")


def test_colour_pictures_are_warned_of(tmp_path: Path) -> None:
    folder = save_frames(tmp_path, 40, masks=True)
    grey = [cv2.cvtColor(probe_frame(24, 32, seed=i), cv2.COLOR_GRAY2BGR) for i in range(2)]
    cv2.imwrite(str(folder / "images" / "frame_0.png"), grey[0])  # grey in three channels is grey
    coloured = cv2.applyColorMap(grey[1], cv2.COLORMAP_JET)
    cv2.imwrite(str(folder / "images" / "frame_1.png"), coloured)
    (warning,) = deal(folder, 20).warnings
    assert warning.startswith("1 of 20 calibration images are in colour") and "frame_1.png" in warning


def test_fewer_than_asked_for_is_told(tmp_path: Path) -> None:
    (warning,) = deal(save_frames(tmp_path, 40, masks=True), 100).warnings
    assert warning == "looking at 20 frames, not at 100, for there are no more"


def test_one_preprocessing(tmp_path: Path) -> None:
    folder = save_frames(tmp_path, 40, masks=True)
    deep = (probe_frame(24, 35, seed=1).astype(np.uint16) * 40) + 1000
    for file in (folder / "images").iterdir():
        cv2.imwrite(str(file), deep)
    for file in (folder / "masks").iterdir():
        cv2.imwrite(str(file), (deep > deep.mean()).astype(np.uint8) * 255)
    sample = deal(folder, 8).calibration[0]
    (frame,) = prepared([sample], 8, Preprocessor())
    assert frame.shape == (1, 1, 24, 40) and frame.dtype == np.float32
    assert np.array_equal(frame[0, 0], pad_to_multiple(Preprocessor()(deep).pixels, 8))
    assert frame.min() == 0 and frame.max() == 1
    (dark,) = prepared([sample], 8, Preprocessor((0, 20000)), "black-hot")
    wanted = 1 - pad_to_multiple(Preprocessor((0, 20000))(deep).pixels, 8)
    np.testing.assert_allclose(dark[0, 0], wanted, atol=1e-6)
    assert len({one.tobytes() for one in prepared([sample, sample], 8, Preprocessor())}) == 1, "each by itself"
