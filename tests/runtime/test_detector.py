from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from irdet.core.errors import FrameError, UsageError
from irdet.core.frame import Pixels, Preprocessor
from irdet.core.threshold import AdaptiveThreshold
from irdet.runtime.detector import POLARITIES, Detector

MakeEngine = Callable[..., Any]


def scene(height: int = 96, width: int = 120, seed: int = 0, targets: int = 6, dark: bool = False) -> NDArray[np.uint8]:
    """A smooth background with small bright (or dark) targets."""
    rng = np.random.default_rng(seed)
    background = cv2.GaussianBlur(rng.random((height, width)).astype(np.float32), (0, 0), 9)
    image = 90 + 40 * background + rng.normal(0, 1, (height, width))
    for _ in range(targets):
        y, x = rng.integers(0, height), rng.integers(0, width)
        image[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] += -70 if dark else 110
    return np.clip(image, 0, 255).astype(np.uint8)


def blobs(detection: Any) -> list[tuple[Any, ...]]:
    return [(target.bbox, target.area) for target in detection.targets]


sizes = st.tuples(st.integers(1, 100), st.integers(1, 100))


@given(sizes, st.integers(0, 2**16), st.sampled_from([1, 8, 16]), st.sampled_from([4, 8]))
def test_targets_and_mask_agree_for_any_size(
    make_engine: MakeEngine, size: tuple[int, int], seed: int, stride: int, connectivity: int
) -> None:
    image = scene(*size, seed)
    detection = Detector(make_engine(stride=stride), connectivity=connectivity).detect(image)
    assert detection.probability.shape == size and detection.probability.dtype == np.float32
    assert detection.frame.shape == size
    for target in detection.targets:
        left, top, width, height = target.bbox
        assert 0 <= left <= target.x <= left + width - 1 < size[1]
        assert 0 <= top <= target.y <= top + height - 1 < size[0]
    mask = detection.probability >= detection.threshold
    assert sum(target.area for target in detection.targets) == np.count_nonzero(mask)
    assert np.array_equal(detection.mask, mask)


@given(st.integers(0, 2**16), st.integers(2, 12), st.sampled_from([4, 8]))
def test_mask_holds_the_targets_and_nothing_else(
    make_engine: MakeEngine, seed: int, limit: int, connectivity: int
) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (40, 50)).astype(np.uint8)
    detection = Detector(make_engine(), min_area=limit, connectivity=connectivity).detect(noise)
    count, labels = cv2.connectedComponents(detection.mask.view(np.uint8), connectivity=connectivity)
    assert sorted(np.bincount(labels.ravel(), minlength=count)[1:]) == sorted(t.area for t in detection.targets)
    assert not (detection.mask & (detection.probability < detection.threshold)).any()


@given(sizes, st.integers(0, 2**16))
def test_padding_changes_nothing(make_engine: MakeEngine, size: tuple[int, int], seed: int) -> None:
    image = scene(size[0] + 16, size[1] + 16, seed)
    plain = Detector(make_engine(stride=1)).detect(image)
    padded = Detector(make_engine(stride=16)).detect(image)
    inside = (slice(0, -6), slice(0, -6))  # beyond, the engine sees the padding
    assert np.array_equal(plain.probability[inside], padded.probability[inside])


def test_padding_is_a_reflection(make_engine: MakeEngine) -> None:
    """Which is what the engine itself does at a border, so the same comes out where it sees no farther."""
    image = scene(26, 42, targets=3)
    plain = Detector(make_engine(stride=1)).detect(image)
    padded = Detector(make_engine(stride=16)).detect(image)
    assert np.array_equal(plain.probability, padded.probability)


@pytest.mark.parametrize("max_batch", [1, 3, None])
@pytest.mark.parametrize("size", [(96, 120), (64, 64), (65, 64), (131, 203)])
def test_tiles_give_what_the_whole_frame_gives(
    make_engine: MakeEngine, size: tuple[int, int], max_batch: int | None
) -> None:
    image = scene(*size, targets=20)
    whole = Detector(make_engine(stride=8)).detect(image)
    engine = make_engine(stride=8, size=(64, 48), max_batch=max_batch)
    tiled = Detector(engine, overlap=32).detect(image)
    assert sum(shape[0] for shape in engine.shapes) > 1
    assert {shape[2:] for shape in engine.shapes} == {(64, 48)}
    assert np.array_equal(tiled.probability, whole.probability)
    assert tiled.targets == whole.targets and tiled.targets


@pytest.mark.parametrize("size", [(40, 200), (131, 203), (8, 9), (96, 104)])
def test_an_engine_of_bounded_sizes_takes_all_frames(make_engine: MakeEngine, size: tuple[int, int]) -> None:
    """As one of TensorRT whose profile ends somewhere: smaller frames are padded, larger ones tiled."""
    image = scene(*size, targets=20 if min(size) > 30 else 1)
    whole = Detector(make_engine(stride=8)).detect(image)
    engine = make_engine(stride=8, sides=((48, 56), (96, 104)))
    found = Detector(engine, overlap=32).detect(image)
    assert np.array_equal(found.probability, whole.probability) and found.targets == whole.targets
    assert (sum(shape[0] for shape in engine.shapes) > 1) == (size[0] > 96 or size[1] > 104)


@pytest.mark.parametrize("size", [None, (64, 48)])
@pytest.mark.parametrize("polarity", POLARITIES)
def test_an_engine_of_eight_bits_gets_the_counts(
    make_engine: MakeEngine, polarity: str, size: tuple[int, int] | None
) -> None:
    image = scene(131, 203, targets=20)
    of_floats, of_counts = make_engine(size=size), make_engine(size=size, dtype=np.uint8)
    wanted = Detector(of_floats, polarity=polarity).detect(image)
    found = Detector(of_counts, polarity=polarity).detect(image)
    assert (of_floats.kinds, of_counts.kinds) == ({"float32"}, {"uint8"})
    np.testing.assert_allclose(found.probability, wanted.probability, atol=1e-5)  # 1 - x/255 is rounded
    assert [target.bbox for target in found.targets] == [target.bbox for target in wanted.targets]
    assert bool(wanted.targets) is (polarity == "white-hot")


def test_what_are_no_counts_goes_to_it_as_floats(make_engine: MakeEngine) -> None:
    image = scene(70, 100, targets=5)
    for frame, resize in (
        (Preprocessor((0, 200))(image), None),
        (Preprocessor()(image.astype(np.uint16)), None),
        (Preprocessor()(image), (50, 35)),
    ):
        of_counts = make_engine(dtype=np.uint8)
        found = Detector(of_counts, resize=resize).probability(frame)
        assert of_counts.kinds == {"float32"}
        assert np.array_equal(found, Detector(make_engine(), resize=resize).probability(frame))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (63, 47), (64, 48)])
def test_frame_smaller_than_the_tile(make_engine: MakeEngine, size: tuple[int, int]) -> None:
    engine = make_engine(stride=8, size=(64, 48))
    detection = Detector(engine).detect(scene(*size))
    assert engine.shapes == [(1, 1, 64, 48)] and detection.probability.shape == size


def test_tile_of_one_fixed_side(make_engine: MakeEngine) -> None:
    engine = make_engine(stride=8)
    engine.info = engine.info.replace(width=48)
    image = scene(70, 100)
    tiled = Detector(engine).detect(image)
    assert {shape[2:] for shape in engine.shapes} == {(72, 48)}
    assert np.array_equal(tiled.probability, Detector(make_engine(stride=8)).detect(image).probability)


def test_overlap_that_does_not_fit_the_tile(make_engine: MakeEngine) -> None:
    with pytest.raises(UsageError, match="overlap"):
        Detector(make_engine(size=(32, 32)), overlap=32).detect(scene(64, 64))


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2**16))
def test_translation_by_the_stride(make_engine: MakeEngine, right: int, down: int, seed: int) -> None:
    stride, reach = 8, 6
    wide = scene(120, 140, seed, targets=15)
    dy, dx = down * stride, right * stride
    detector = Detector(make_engine(stride=stride))
    here = detector.probability(Preprocessor()(wide[:80, :96]))
    there = detector.probability(Preprocessor()(wide[dy : dy + 80, dx : dx + 96]))
    same = (slice(reach, 80 - dy - reach), slice(reach, 96 - dx - reach))
    moved = (slice(dy + reach, 80 - reach), slice(dx + reach, 96 - reach))
    assert np.array_equal(there[same], here[moved])


def test_black_hot_finds_dark_targets_and_measures_them_as_they_are(make_engine: MakeEngine) -> None:
    dark = scene(dark=True, targets=4)
    assert not Detector(make_engine()).detect(dark).targets
    found = Detector(make_engine(), polarity="black-hot").detect(dark)
    assert found.targets and all(target.contrast < 0 < target.scr for target in found.targets)
    # The frame that travels is the one that came.
    assert np.array_equal(found.frame.pixels, Preprocessor()(dark).pixels)
    assert blobs(found) == blobs(Detector(make_engine()).detect(255 - dark))


def test_ignore_mask(make_engine: MakeEngine) -> None:
    image = scene(targets=8)
    every = Detector(make_engine()).detect(image)
    ignore = np.zeros(image.shape, np.uint8)
    ignore[:, :60] = 255
    kept = Detector(make_engine(), ignore=ignore).detect(image)
    assert kept.targets == tuple(target for target in every.targets if target.x > 60)
    assert 0 < len(kept.targets) < len(every.targets)
    with pytest.raises(FrameError, match=r"120x95 px does not fit frames of 120x96 px"):
        Detector(make_engine(), ignore=ignore[:-1]).detect(image)


def test_resize_gives_targets_in_pixels_of_the_frame(make_engine: MakeEngine) -> None:
    image = np.full((60, 80), 60, np.uint8)
    image[20:24, 30:34] = 250
    engine = make_engine(stride=8)
    detection = Detector(engine, resize=(160, 120)).detect(image)
    assert engine.shapes == [(1, 1, 120, 160)]
    assert detection.probability.shape == (60, 80)
    (target,) = detection.targets
    assert (target.x, target.y) == pytest.approx((31.5, 21.5), abs=0.3)
    assert target.background == pytest.approx(60) and target.peak == pytest.approx(250)


class Leaning:
    """An engine whose answer depends on which way round the frame is: it is surer to the left and at the top."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def run(self, batch: Pixels) -> NDArray[np.float32]:
        height, width = batch.shape[2:]
        lean = np.linspace(1, 0.2, width)[None] * np.linspace(1, 0.1, height)[:, None]
        return (self.engine.run(batch) * lean).astype(np.float32)


@pytest.mark.parametrize("size", [None, (64, 48)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_views_are_turned_back_and_their_mean_counts(
    make_engine: MakeEngine, size: tuple[int, int] | None, dtype: type[np.uint8]
) -> None:
    """An engine that does not care gives the same; of one that does, each way round weighs alike."""
    image = scene(91, 140, targets=12)  # each view is padded to the stride by itself, as a frame that comes so
    plain = Detector(make_engine(size=size, dtype=dtype)).detect(image)
    for views in (1, 2, 4):
        engine = make_engine(size=size, dtype=dtype)
        found = Detector(engine, views=views).detect(image)
        inside = (slice(6, -6), slice(6, -6))  # beyond, the engine sees the padding
        np.testing.assert_allclose(found.probability[inside], plain.probability[inside], atol=1e-6)
        assert blobs(found) == blobs(plain) != []
        assert found.probability.dtype == np.float32 and engine.kinds == {np.dtype(dtype).name}
        assert len(engine.shapes) % views == 0

    def leaning(pixels: NDArray[np.uint8], views: int) -> NDArray[np.float32]:
        return Detector(Leaning(make_engine(size=size)), views=views).probability(Preprocessor()(pixels))

    one, two, four = (leaning(image, views) for views in (1, 2, 4))
    np.testing.assert_allclose(two, (one + leaning(image[::-1, ::-1], 1)[::-1, ::-1]) / 2, atol=1e-6)
    mirrored = (leaning(image[:, ::-1], 1)[:, ::-1] + leaning(image[::-1], 1)[::-1]) / 2
    np.testing.assert_allclose(four, (two + mirrored) / 2, atol=1e-6)
    assert np.abs(one - two).max() > 0.1 and np.abs(two - four).max() > 0.01
    # What is seen every way round does not depend on which way round it comes.
    np.testing.assert_allclose(leaning(image[:, ::-1], 4)[:, ::-1], four, atol=1e-6)


def test_threshold_is_the_models_own_unless_given(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.info = engine.info.replace(threshold=0.9)
    faint = np.random.default_rng(0).integers(60, 140, (60, 80)).astype(np.uint8)
    high, low = Detector(engine).detect(faint), Detector(engine, threshold=0.2).detect(faint)
    assert (high.threshold, low.threshold) == (0.9, 0.2)
    assert 0 < np.count_nonzero(high.mask) < np.count_nonzero(low.mask)


def test_times_and_frame_numbers(make_engine: MakeEngine) -> None:
    frame = Preprocessor()(scene(), index=7, time=0.25, source="clip")
    detection = Detector(make_engine()).detect(frame)
    assert detection.frame is frame
    assert set(detection.times) == {"preprocess", "inference", "targets"}
    assert all(seconds >= 0 for seconds in detection.times.values())
    assert {(target.frame, target.time) for target in detection.targets} == {(7, 0.25)}


def test_deep_frames_are_measured_in_counts(make_engine: MakeEngine) -> None:
    deep = 7000 + scene(targets=3).astype(np.uint16)
    detection = Detector(make_engine(gain=40.0)).detect(deep)
    assert detection.targets and all(7000 < target.background < target.peak for target in detection.targets)


def test_nan_pixels_are_replaced_and_flagged(make_engine: MakeEngine) -> None:
    image = scene(targets=3).astype(np.float32)
    clean = Detector(make_engine()).detect(image)
    assert clean.targets
    x, y = round(clean.targets[0].x), round(clean.targets[0].y)
    image[y, x] = np.nan
    found = Detector(make_engine()).detect(image)
    assert np.isfinite(found.probability).all()
    assert any(target.bad_pixel and target.bbox[0] <= x < sum(target.bbox[::2]) for target in found.targets)
    with pytest.raises(FrameError, match="no finite pixel"):
        Detector(make_engine()).detect(np.full((20, 20), np.nan, np.float32))


def test_colour_is_handled_as_grey(make_engine: MakeEngine) -> None:
    image = scene()
    colour = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    colour[5, 5] = 0, 0, 255
    detection = Detector(make_engine()).detect(colour)
    assert blobs(detection) == blobs(Detector(make_engine()).detect(cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)))


def test_the_frame_and_the_map_are_not_changed(make_engine: MakeEngine) -> None:
    image = scene()
    before = image.copy()
    detector = Detector(make_engine(), polarity="black-hot")
    first = detector.detect(image)
    kept = first.probability.copy()
    detector.detect(255 - image)
    assert np.array_equal(image, before) and np.array_equal(first.probability, kept)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": math.nan}, "threshold"),
        ({"min_area": 0}, "min-area"),
        ({"min_area": 5, "max_area": 4}, "max-area"),
        ({"connectivity": 6}, "connectivity"),
        ({"polarity": "blue"}, "polarity"),
        ({"resize": (0, 10)}, "resize"),
        ({"overlap": -1}, "overlap"),
        ({"views": 3}, "views 3: must be 1, 2 or 4"),
        ({"views": 0}, "views"),
        ({"ignore": np.zeros((3, 4, 5), np.bool_)}, "ignore"),
    ],
)
def test_arguments_that_cannot_be_meant(make_engine: MakeEngine, wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Detector(make_engine(), **wrong)


def test_threshold_that_follows_the_frame(make_engine: MakeEngine) -> None:
    """Each frame gets its own number, and the mask is what lies at or above it."""
    detector = Detector(make_engine(), threshold=AdaptiveThreshold("std", 3))
    numbers = set()
    for seed in range(3):
        detection = detector.detect(scene(seed=seed))
        map_ = detection.probability
        assert detection.threshold == pytest.approx(float(map_.mean()) + 3 * float(map_.std()), rel=1e-4)
        assert detection.targets and np.array_equal(detection.mask, map_ >= detection.threshold)
        numbers.add(detection.threshold)
    assert len(numbers) == 3
