"""What must hold of the detector for every frame: hypothesis draws shapes, types, values and thresholds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from irdet.core.frame import Frame, Preprocessor, pad_to
from irdet.core.targets import Target
from irdet.engines import open_engine
from irdet.runtime.detector import Detection, Detector

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)
KINDS = st.sampled_from([np.uint8, np.uint16, np.int16, np.float32])


@st.composite
def raw_frames(draw: st.DrawFn) -> NDArray[Any]:
    """Any shape, type and values; mostly flat with spots, since pure noise is all alike."""
    shape = draw(SHAPES)
    kind: Any = draw(KINDS)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    top = 1.0 if kind == np.float32 else float(np.iinfo(kind).max)
    values = rng.normal(draw(st.floats(0, 1)), draw(st.sampled_from([0.0, 0.01, 0.3])), shape)
    for _ in range(draw(st.integers(0, 4))):
        y, x = rng.integers(shape[0]), rng.integers(shape[1])
        values[y : y + 3, x : x + 2] += draw(st.floats(-1, 1))
    return (np.clip(values, 0, 1) * top).astype(kind)


def spots(seed: int, shape: tuple[int, int] = (64, 80)) -> NDArray[np.uint8]:
    """A quiet sky with a few bright spots, none near the edge."""
    rng = np.random.default_rng(seed)
    values = rng.normal(60, 2, shape)
    for _ in range(4):
        y, x = rng.integers(20, shape[0] - 22), rng.integers(20, shape[1] - 22)
        values[y : y + 2, x : x + 2] += 120
    return values.astype(np.uint8)


def check(detection: Detection) -> None:
    height, width = detection.frame.shape
    assert detection.probability.shape == (height, width)
    mask = detection.mask
    assert sum(target.area for target in detection.targets) == np.count_nonzero(mask)
    for target in detection.targets:
        left, top, wide, high = target.bbox
        assert left >= 0 and left + wide <= width and top >= 0 and top + high <= height
        assert left - 1e-6 <= target.x <= left + wide - 1 + 1e-6
        assert top - 1e-6 <= target.y <= top + high - 1 + 1e-6
        assert 1 <= target.area <= wide * high
        # As float32, as the map is compared: 0.99999 as a float lies above what it is in a map.
        assert np.float32(detection.threshold) <= np.float32(target.score) <= 1
        assert target.mean_score <= target.score + 1e-6
        assert target.scr >= 0 and np.isfinite([target.scr, target.contrast, target.background]).all()
        edge = left == 0 or top == 0 or left + wide == width or top + high == height
        assert target.touches_border == edge


@settings(max_examples=60)
@given(
    raw=raw_frames(),
    threshold=st.floats(0.01, 1.0),
    connectivity=st.sampled_from([4, 8]),
    min_area=st.integers(1, 5),
    mode=st.sampled_from(["range", "local"]),
    polarity=st.sampled_from(["white-hot", "black-hot"]),
    views=st.sampled_from([1, 2, 4]),
)
def test_targets_lie_in_the_frame_and_make_up_the_mask(
    make_engine: Callable[..., Any],
    raw: NDArray[np.generic],
    threshold: float,
    connectivity: int,
    min_area: int,
    mode: str,
    polarity: str,
    views: int,
) -> None:
    detector = Detector(
        make_engine(),
        threshold=threshold,
        connectivity=connectivity,
        min_area=min_area,
        polarity=polarity,
        views=views,
    )
    detection = detector.detect(Preprocessor(mode=mode)(raw))
    check(detection)
    assert all(target.area >= min_area for target in detection.targets)


@settings(max_examples=15)
@given(raw=raw_frames(), threshold=st.floats(0.05, 1.0), size=st.sampled_from([(16, 16), (24, 40), (64, 64)]))
def test_the_same_holds_of_tiles(
    make_engine: Callable[..., Any], raw: NDArray[np.generic], threshold: float, size: tuple[int, int]
) -> None:
    check(Detector(make_engine(size=size), threshold=threshold, overlap=8).detect(Preprocessor()(raw)))


@pytest.fixture(scope="module")
def edge() -> Any:
    with open_engine("mlcl-edge", device="cpu", threads=1) as engine:
        yield engine


@settings(max_examples=15)
@given(raw=raw_frames())
def test_it_holds_of_the_shipped_network(edge: Any, raw: NDArray[np.generic]) -> None:
    check(Detector(edge, threshold=0.05).detect(Preprocessor()(raw)))


def places(targets: tuple[Target, ...]) -> list[tuple[float, float, int]]:
    return sorted((round(target.x, 2), round(target.y, 2), target.area) for target in targets)


@given(seed=st.integers(0, 1000), bottom=st.integers(0, 17), right=st.integers(0, 17))
def test_padding_that_the_detector_would_add_changes_nothing(
    make_engine: Callable[..., Any], seed: int, bottom: int, right: int
) -> None:
    """A frame cropped to any size gives, away from the cut, what the whole frame gives."""
    pixels = Preprocessor()(spots(seed)).pixels
    height, width = pixels.shape[0] - bottom, pixels.shape[1] - right
    detector = Detector(make_engine())
    own = detector.detect(Frame(pixels[:height, :width].copy()))
    padded = pad_to(pixels[:height, :width].copy(), *pixels.shape)
    whole = detector.detect(Frame(padded))
    inner = (slice(height - make_engine.REACH), slice(width - make_engine.REACH))  # type: ignore[attr-defined]
    np.testing.assert_allclose(own.probability[inner], whole.probability[inner], atol=1e-5)


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), steps=st.tuples(st.integers(0, 2), st.integers(0, 2)))
def test_translation_by_the_stride_moves_the_targets(edge: Any, seed: int, steps: tuple[int, int]) -> None:
    """Of the shipped network, on an even frame whose edge is further away than it sees (194 px)."""
    stride = edge.info.stride
    down, right = (step * stride for step in steps)
    pixels = np.full((480, 480), 0.25, np.float32)
    rng = np.random.default_rng(seed)
    y, x = rng.integers(224, 240, 2)
    pixels[y : y + 3, x : x + 3] = 0.9
    moved = np.roll(pixels, (down, right), (0, 1))
    detector = Detector(edge)
    first, second = detector.detect(Frame(pixels)).targets, detector.detect(Frame(moved)).targets
    assert len(first) == 1 == len(second)
    assert second[0].x - first[0].x == pytest.approx(right, abs=1e-3)
    assert second[0].y - first[0].y == pytest.approx(down, abs=1e-3)
    assert second[0].area == first[0].area


@pytest.mark.parametrize("method", ["tophat", "mpcm", "lcm"])
@pytest.mark.parametrize("flip", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_flips_of_the_frame_flip_what_classical_methods_find(method: str, flip: tuple[int, ...], seed: int) -> None:
    pixels = Preprocessor()(spots(seed)).pixels
    with open_engine(method) as engine:
        detector = Detector(engine)
        straight = detector.probability(Frame(pixels))
        flipped = detector.probability(Frame(np.ascontiguousarray(np.flip(pixels, flip))))
    assert straight.max() > 0.01
    inner = (slice(12, -12), slice(12, -12))
    np.testing.assert_allclose(np.flip(flipped, flip)[inner], straight[inner], atol=0.02 * float(straight.max()))
