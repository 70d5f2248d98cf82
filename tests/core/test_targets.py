from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.core.frame import Frame, Preprocessor
from irdet.core.nuc import identity
from irdet.core.targets import GUARD, RING, Target, extract_targets


def grey(height: int = 64, width: int = 80, value: int = 100) -> NDArray[np.uint8]:
    return np.full((height, width), value, np.uint8)


def blank(shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


def only(targets: tuple[Target, ...]) -> Target:
    assert len(targets) == 1
    return targets[0]


@st.composite
def maps(draw: st.DrawFn) -> tuple[NDArray[np.float32], Frame]:
    """A probability map with components of all shapes, touching borders and each other's corners, and a frame."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    probability = rng.random((height, width), np.float32)
    probability[rng.random((height, width)) > draw(st.floats(0.05, 0.9))] = 0
    raw = rng.integers(0, 256, (height, width)).astype(draw(st.sampled_from([np.uint8, np.uint16, np.float32])))
    return probability, Preprocessor()(raw, index=3, time=0.5)


def flood(mask: NDArray[np.bool_], connectivity: int) -> list[set[tuple[int, int]]]:
    """The components of a mask, found the slow and simple way."""
    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y or x) and (connectivity == 8 or not (y and x))]
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        todo = [left.pop()]
        component = set(todo)
        while todo:
            y, x = todo.pop()
            for neighbour in ((y + dy, x + dx) for dy, dx in steps):
                if neighbour in left:
                    left.remove(neighbour)
                    component.add(neighbour)
                    todo.append(neighbour)
        found.append(component)
    return found


@given(maps(), st.floats(0.05, 1.0), st.sampled_from([4, 8]))
def test_targets_are_the_components_of_the_thresholded_map(
    case: tuple[NDArray[np.float32], Frame], threshold: float, connectivity: int
) -> None:
    probability, frame = case
    components = flood(probability >= threshold, connectivity)
    expected = []
    for component in components:
        ys, xs = np.array(sorted(component)).T
        p = probability[ys, xs].astype(np.float64)
        box = (int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1)
        x, y = (p * xs).sum() / p.sum(), (p * ys).sum() / p.sum()
        expected.append((box, len(component), x, y, float(p.max()), float(p.mean())))
    targets = extract_targets(probability, frame, threshold, connectivity=connectivity)
    got = [(t.bbox, t.area, t.x, t.y, t.score, t.mean_score) for t in targets]
    assert len(got) == len(expected)
    for a, b in zip(sorted(got), sorted(expected), strict=True):
        assert a[:2] == b[:2]
        assert a[2:] == pytest.approx(b[2:], rel=1e-9, abs=1e-9)


@given(maps(), st.floats(0.05, 1.0))
def test_targets_lie_in_the_frame_and_hold_numbers(case: tuple[NDArray[np.float32], Frame], threshold: float) -> None:
    probability, frame = case
    height, width = frame.shape
    targets = extract_targets(probability, frame, threshold)
    assert sum(target.area for target in targets) == np.count_nonzero(probability >= threshold)
    assert [target.score for target in targets] == sorted((target.score for target in targets), reverse=True)
    for target in targets:
        left, top, box_width, box_height = target.bbox
        assert left >= 0 and top >= 0 and left + box_width <= width and top + box_height <= height
        assert left - 1e-9 <= target.x <= left + box_width - 1 + 1e-9
        assert top - 1e-9 <= target.y <= top + box_height - 1 + 1e-9
        assert 1 <= target.area <= box_width * box_height
        assert threshold <= target.score <= 1 and threshold <= target.mean_score + 1e-9 <= target.score + 2e-9
        border = left == 0 or top == 0 or left + box_width == width or top + box_height == height
        assert target.touches_border is border
        assert (target.frame, target.time) == (3, 0.5)
        # Strict JSON, with the tuple as a list.
        record = json.loads(json.dumps(target.to_dict(), allow_nan=False))
        assert Target(**{**record, "bbox": tuple(record["bbox"])}) == target


@given(maps(), st.integers(1, 6))
def test_area_limits_split_the_targets(case: tuple[NDArray[np.float32], Frame], limit: int) -> None:
    probability, frame = case
    every = extract_targets(probability, frame)
    small = extract_targets(probability, frame, max_area=limit)
    large = extract_targets(probability, frame, min_area=limit + 1)
    assert {*small, *large} == {*every} and len(small) + len(large) == len(every)
    assert all(target.area <= limit for target in small) and all(target.area > limit for target in large)


@given(maps())
def test_flipping_flips_the_targets(case: tuple[NDArray[np.float32], Frame]) -> None:
    probability, frame = case
    flipped = dataclasses.replace(
        frame,
        data=frame.data[:, ::-1],
        raw=None if frame.raw is None else frame.raw[:, ::-1],
    )
    last = frame.shape[1] - 1
    straight = sorted((t.y, t.x, t.area, t.scr) for t in extract_targets(probability, frame))
    mirrored = sorted((t.y, last - t.x, t.area, t.scr) for t in extract_targets(probability[:, ::-1], flipped))
    assert np.array(mirrored) == pytest.approx(np.array(straight), rel=1e-6, abs=1e-6)


def test_empty_map_has_no_targets() -> None:
    frame = Preprocessor()(grey())
    assert extract_targets(blank(frame.shape), frame) == ()


def test_centroid_is_weighted_by_probability_at_pixel_centres() -> None:
    frame = Preprocessor()(grey())
    probability = blank(frame.shape)
    probability[10, 20:22] = 0.6, 0.9
    target = only(extract_targets(probability, frame))
    assert (target.x, target.y) == pytest.approx((20 + 0.9 / 1.5, 10))
    assert target.score == pytest.approx(0.9) and target.mean_score == pytest.approx(0.75)


def test_threshold_belongs_to_the_target() -> None:
    frame = Preprocessor()(grey())
    probability = blank(frame.shape)
    probability[5, 5] = 0.5
    assert len(extract_targets(probability, frame, 0.5)) == 1
    assert len(extract_targets(probability, frame, float(np.nextafter(np.float32(0.5), np.float32(1))))) == 0


def test_probability_equals_the_threshold_that_it_is_nearest_to() -> None:
    # As the metrics have it, too: as float32, 0.9 lies below the threshold of 0.9, and meets it.
    frame = Preprocessor()(grey())
    probability = blank(frame.shape)
    probability[5, 5] = 0.9
    assert probability[5, 5].item() < 0.9
    assert len(extract_targets(probability, frame, 0.9)) == 1


def test_connectivity_joins_or_parts_diagonals() -> None:
    frame = Preprocessor()(grey())
    probability = blank(frame.shape)
    probability[[8, 9, 10], [8, 9, 10]] = 1
    assert len(extract_targets(probability, frame, connectivity=8)) == 1
    assert len(extract_targets(probability, frame, connectivity=4)) == 3


def ring_of(shape: tuple[int, int], box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """The ring by its definition: 20 px beyond a guard of 2 px around the bounding box, cut at the frame."""
    left, top, width, height = box
    ys, xs = np.mgrid[: shape[0], : shape[1]]
    dx = np.maximum(np.maximum(left - xs, xs - (left + width - 1)), 0)
    dy = np.maximum(np.maximum(top - ys, ys - (top + height - 1)), 0)
    distance = np.maximum(dx, dy)
    return (distance > GUARD) & (distance <= GUARD + RING)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("corner", [(40, 50), (0, 0), (76, 96), (3, 90)])
def test_scr_by_hand(dtype: type, corner: tuple[int, int]) -> None:
    assert (GUARD, RING) == (2, 20)
    base = 50 if dtype is np.uint8 else 60000
    rng = np.random.default_rng(1)
    raw: NDArray[np.generic] = (base + rng.integers(0, 9, (80, 100))).astype(dtype)
    y, x = corner
    raw[y : y + 4, x : x + 3] = base + 60
    raw[y + 1, x + 1] = base + 100
    # What lies in the guard, outside the ring, or in another target must not count.
    raw[max(0, y - 2) : y, x : x + 3] = base + 70
    probability = blank(raw.shape)
    probability[y : y + 4, x : x + 3] = 0.9
    other = (y + 10, x) if y < 60 else (y - 10, x)
    raw[other] = base + 150
    probability[other] = 0.7
    frame = Preprocessor()(raw, index=0)
    ring = ring_of(raw.shape, (x, y, 3, 4)) & (probability < 0.5)

    target = max(extract_targets(probability, frame), key=lambda target: target.area)
    counts = raw.astype(np.float64)
    body = counts[y : y + 4, x : x + 3]
    assert target.background == pytest.approx(counts[ring].mean(), rel=1e-7)
    assert target.background_std == pytest.approx(counts[ring].std(), rel=1e-4)
    assert target.contrast == pytest.approx(body.mean() - counts[ring].mean(), rel=1e-5)
    assert target.scr == pytest.approx((body.mean() - counts[ring].mean()) / counts[ring].std(), rel=1e-4)
    assert target.peak == pytest.approx(base + 100)


def test_scr_of_a_flat_background_is_bounded_by_quantisation() -> None:
    raw = grey()
    raw[30:33, 40:43] = 129
    probability = blank(raw.shape)
    probability[30:33, 40:43] = 1
    target = only(extract_targets(probability, Preprocessor()(raw)))
    assert target.scr == pytest.approx(29 / 0.29)


def test_cold_target_has_negative_contrast_and_its_coldest_pixel_as_peak() -> None:
    raw = grey()
    raw[30:33, 40:43] = 60
    raw[31, 41] = 20
    probability = blank(raw.shape)
    probability[30:33, 40:43] = 1
    target = only(extract_targets(probability, Preprocessor()(raw)))
    assert target.contrast < 0 < target.scr and target.peak == pytest.approx(20)


def test_target_that_fills_the_frame_has_no_contrast() -> None:
    frame = Preprocessor()(grey(6, 7))
    target = only(extract_targets(np.ones((6, 7), np.float32), frame))
    assert (target.area, target.contrast, target.scr, target.background_std) == (42, 0.0, 0.0, 0.0)
    assert target.touches_border


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_saturation(dtype: type, top: int) -> None:
    raw: NDArray[np.generic] = grey().astype(dtype)
    probability = blank(raw.shape)
    probability[5:7, 5:7] = probability[20:22, 20:22] = 1
    raw[5:7, 5:7], raw[20:22, 20:22] = top, top - 1
    saturated = {round(t.x): t.saturated for t in extract_targets(probability, Preprocessor()(raw))}
    assert saturated == {6: True, 20: False} or saturated == {5: True, 20: False}


def test_floats_do_not_saturate() -> None:
    raw = grey().astype(np.float32)
    raw[5:7, 5:7] = 255
    probability = blank(raw.shape)
    probability[5:7, 5:7] = 1
    assert not only(extract_targets(probability, Preprocessor()(raw))).saturated


def test_bad_pixels_are_flagged_and_do_not_spoil_the_numbers() -> None:
    raw = grey().astype(np.float32)
    raw[5:7, 5:7] = 200
    raw[6, 6] = np.nan
    raw[10, 10] = np.inf  # in the ring
    probability = blank(raw.shape)
    probability[5:7, 5:7] = probability[40:42, 40:42] = 1
    flagged, clean = sorted(extract_targets(probability, Preprocessor()(raw)), key=lambda target: target.x)
    assert flagged.bad_pixel and not clean.bad_pixel
    assert all(math.isfinite(value) for value in (flagged.contrast, flagged.scr, flagged.background_std))
    assert flagged.contrast == pytest.approx(100, abs=30)


def test_ignore_drops_by_centroid_or_by_larger_part() -> None:
    frame = Preprocessor()(grey())
    probability = blank(frame.shape)
    probability[10, 10:16] = 1  # centroid at 12.5
    probability[30, 10:16] = 0.6
    probability[30, 15] = 1  # centroid further right
    ignore = np.zeros(frame.shape, np.bool_)

    def left() -> set[int]:
        return {target.bbox[1] for target in extract_targets(probability, frame, ignore=ignore)}

    assert left() == {10, 30}
    ignore[:, :13] = True  # half of each, and the centroid pixel of the first
    assert left() == {30}
    ignore[:, 13] = True
    assert left() == set()


@given(maps())
def test_ignoring_all_leaves_none_and_ignoring_nothing_leaves_all(case: tuple[NDArray[np.float32], Frame]) -> None:
    probability, frame = case
    nothing = np.zeros(frame.shape, np.bool_)
    assert extract_targets(probability, frame, ignore=~nothing) == ()
    assert extract_targets(probability, frame, ignore=nothing) == extract_targets(probability, frame)


def test_not_a_number_is_no_target() -> None:
    frame = Preprocessor()(grey())
    probability = np.full(frame.shape, np.nan, np.float32)
    probability[4, 4] = 0.8
    assert only(extract_targets(probability, frame)).area == 1


@pytest.mark.parametrize("threshold", [0.0, -0.5, math.nan])
def test_threshold_must_be_a_probability(threshold: float) -> None:
    frame = Preprocessor()(grey())
    ignore = np.zeros(frame.shape, np.bool_)
    with pytest.raises(UsageError, match="threshold"):
        extract_targets(blank(frame.shape), frame, threshold, ignore=ignore)


def test_what_does_not_fit_is_told() -> None:
    frame = Preprocessor()(grey())
    with pytest.raises(UsageError, match="does not fit"):
        extract_targets(blank((3, 4)), frame)
    with pytest.raises(UsageError, match="does not fit"):
        extract_targets(blank(frame.shape), frame, ignore=np.zeros((3, 4), np.bool_))
    with pytest.raises(UsageError, match="connectivity"):
        extract_targets(blank(frame.shape), frame, connectivity=6)


@pytest.mark.parametrize(
    ("peak", "saturated"), [(1023, True), (4095, True), (16383, True), (65535, True), (9000, False)]
)
def test_cameras_of_less_than_16_bits_saturate(peak: int, saturated: bool) -> None:
    raw = np.full((32, 32), 500, np.uint16)
    raw[10:13, 10:13] = peak
    probability = (raw > 500).astype(np.float32)
    assert only(extract_targets(probability, Preprocessor()(raw))).saturated == saturated
    corrected = Preprocessor(correction=identity(raw.shape))(raw)
    assert only(extract_targets(probability, corrected)).saturated == saturated
