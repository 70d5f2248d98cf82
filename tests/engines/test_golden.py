"""Golden frames: they round-trip, and a replay sees every difference that matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from irdet.core.errors import ModelError
from irdet.core.info import ModelInfo
from irdet.engines.base import BaseEngine
from irdet.engines.golden import (
    OUTLIERS,
    TOLERANCE,
    Comparison,
    Golden,
    GoldenSet,
    compare,
    golden_path,
    outliers_of,
    read_golden,
    replay,
    write_golden,
)
from irdet.engines.probe import probe_frame


def brightness(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A detector: what stands above 140 counts."""
    return (1 / (1 + np.exp(-(frames.astype(np.float64) - 140) / 4))).astype(np.float32)


class BrightnessEngine(BaseEngine):
    runtime = "numpy"
    max_batch: int | None = None

    def __init__(self, offset: float = 0.0, precision: str = "fp32") -> None:
        self.info = ModelInfo("brightness", weights_sha256="abc", precision=precision)
        self.offset = np.float32(offset)

    def _compute(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.clip(brightness(np.rint(batch * 255).astype(np.uint8)) + self.offset, 0, 1).astype(np.float32)

    def _release(self) -> None:
        pass


@pytest.fixture(scope="module")
def golden() -> Golden:
    sets = []
    for height, width in ((40, 56), (64, 64)):
        frames = np.stack([probe_frame(height, width, seed) for seed in (1, 2)])
        sets.append(GoldenSet(frames, brightness(frames)))
    return Golden("abc", 0.5, tuple(sets))


def test_path() -> None:
    assert golden_path("runs/best.onnx") == Path("runs/best.golden.npz")


def test_round_trip(golden: Golden, tmp_path: Path) -> None:
    write_golden(tmp_path / "m.golden.npz", golden)
    assert [file.name for file in tmp_path.iterdir()] == ["m.golden.npz"]
    back = read_golden(tmp_path / "m.golden.npz")
    assert (back.weights_sha256, back.threshold, len(back.sets)) == ("abc", 0.5, 2)
    for one, other in zip(golden.sets, back.sets, strict=True):
        assert np.array_equal(one.frames, other.frames)
        assert other.probability.dtype == np.float32
        assert np.abs(one.probability - other.probability).max() < 1e-5


def test_pass(golden: Golden) -> None:
    result = replay(BrightnessEngine(), golden)
    assert result.passed and result.max_difference == 0 and result.mismatch == ""
    assert result.frames == 4 and result.targets >= 4


@pytest.mark.parametrize("precision", list(TOLERANCE))
def test_tolerance_goes_by_precision(golden: Golden, precision: str) -> None:
    tolerance = TOLERANCE[precision]
    within = replay(BrightnessEngine(tolerance * 0.9, precision), golden)
    assert within.max_difference == pytest.approx(tolerance * 0.9, rel=1e-3)
    assert within.max_difference <= within.tolerance == tolerance
    beyond = replay(BrightnessEngine(tolerance * 1.1, precision), golden)
    assert not beyond.passed


def test_other_weights_or_threshold(golden: Golden) -> None:
    with pytest.raises(ModelError, match="other weights"):
        replay(BrightnessEngine(), replace(golden, weights_sha256="def"))
    with pytest.raises(ModelError, match=r"threshold 0\.3, but the model has 0\.5"):
        replay(BrightnessEngine(), replace(golden, threshold=0.3))


def test_those_of_another_precision_are_refused(golden: Golden, tmp_path: Path) -> None:
    def told(engine: BrightnessEngine, **changes: str) -> str:
        try:
            write_golden(tmp_path / "m.golden.npz", replace(golden, **changes))  # type: ignore[arg-type]
            assert replay(engine, read_golden(tmp_path / "m.golden.npz")).passed
        except ModelError as error:
            return str(error)
        return ""

    fp32, fp16, int8 = (BrightnessEngine(0.0, precision) for precision in ("fp32", "fp16", "int8"))
    int8.info = int8.info.replace(target="tensorrt", calibration="c1")
    assert told(int8) == told(fp16) == "", "older files do not say"
    assert told(fp32, precision="fp32") == told(int8, precision="int8", target="tensorrt", calibration="c1") == ""
    assert told(fp16, precision="fp32") == "", "TensorRT 8.6 builds FP16 from the fp32 file"
    assert "are those of fp32, but the model is int8 for tensorrt; copy its own" in told(int8, precision="fp32")
    assert "are those of fp16, but the model is fp32" in told(fp32, precision="fp16")
    assert "are those of int8 for cpu, but" in told(int8, precision="int8", target="cpu", calibration="c1")
    assert "another calibration" in told(int8, precision="int8", target="tensorrt", calibration="c2")


def one_target(change: Callable[[NDArray[np.float32]], object]) -> str:
    """The mismatch after a change to a map with one target of 3x3 px at (20, 12)."""
    reference = np.zeros((1, 32, 48), np.float32)
    reference[0, 11:14, 19:22] = 0.9
    given = reference.copy()
    change(given[0])
    frames = np.full(reference.shape, 100, np.uint8)
    return compare(frames, reference, given, threshold=0.5, tolerance=1e-4).mismatch


def test_targets_that_differ_are_told() -> None:
    assert one_target(lambda p: None) == ""
    assert "1 targets expected, 0 found" in one_target(lambda p: p.fill(0))
    assert "1 targets expected, 2 found" in one_target(lambda p: p.__setitem__((2, 2), 0.6))
    assert "box (19, 11, 3, 3) expected, (19, 11, 4, 3) found" in one_target(lambda p: p.__setitem__((12, 22), 0.5))
    assert "9 px expected, 8 found" in one_target(lambda p: p.__setitem__((12, 20), 0.49))
    assert "target at (20.0, 12.0): found at (20." in one_target(lambda p: p.__setitem__((12, 21), 0.95))
    assert one_target(lambda p: p.__setitem__((12, 21), 0.9001)) == ""


def test_8_bits_may_be_off_at_some_pixels_and_not_at_many() -> None:
    reference = np.zeros((1, 64, 64), np.float32)
    reference[0, 10:30, 10:30] = 0.9  # 400 px, of which 8 may be off
    frames = np.full(reference.shape, 100, np.uint8)

    def compared(count: int, outliers: float) -> Comparison:
        given = reference.copy()
        given[0, 10, 10 : 10 + count] = 0.45
        return compare(frames, reference, given, threshold=0.5, tolerance=0.3, outliers=outliers)

    assert compared(8, OUTLIERS).passed and compared(8, OUTLIERS).outliers == compared(8, OUTLIERS).allowed == 8
    assert not compared(9, OUTLIERS).passed
    assert not compared(1, 0.0).passed
    missed = compare(frames, reference, np.zeros_like(reference), threshold=0.5, tolerance=0.3, outliers=OUTLIERS)
    assert not missed.passed and "1 targets expected, 0 found" in missed.mismatch
    assert [outliers_of(name) for name in ("fp32", "fp16", "int8", "int8+fp16")] == [0, 0, OUTLIERS, OUTLIERS]


def test_equally_sure_targets_may_change_places() -> None:
    reference = np.zeros((1, 32, 48), np.float32)
    reference[0, 5, 5], reference[0, 20, 30] = 0.90000, 0.90001
    given = reference.copy()
    given[0, 5, 5], given[0, 20, 30] = 0.90001, 0.90000
    frames = np.full(reference.shape, 100, np.uint8)
    result = compare(frames, reference, given, threshold=0.5, tolerance=1e-4)
    assert result.passed and result.targets == 2


def test_files_that_are_no_golden_frames(golden: Golden, tmp_path: Path) -> None:
    path = tmp_path / "m.golden.npz"
    with pytest.raises(ModelError, match="irdet export writes them"):
        read_golden(path)

    def damaged() -> None:
        with pytest.raises(ModelError) as caught:
            read_golden(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    for data in (b"", b"text", b"PK\x03\x04broken"):
        path.write_bytes(data)
        damaged()
    np.savez(path, frames_0=np.zeros((1, 4, 4), np.uint8))
    damaged()
    np.savez(path, format=np.array("irdet-golden-1"), weights_sha256=np.array(""), threshold=np.array(0.5))
    damaged()
    np.savez(path, format=np.array([{}], object))
    damaged()
    np.savez(path, format=np.array("irdet-golden-9"))
    with pytest.raises(ModelError, match="irdet-golden-9"):
        read_golden(path)
    write_golden(path, golden)
    path.write_bytes(path.read_bytes()[:-200])
    damaged()
