from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irdet.core.errors import UsageError
from irdet.core.frame import Preprocessor
from irdet.core.targets import extract_targets
from irdet.data.synth.targets import EASE, SHAPES, Placed, Shape, insert_targets, shape_of_area


@cache
def shaped(kind: str, area: float) -> Shape:
    return shape_of_area(kind, area)


def background(dtype: type = np.uint16, sigma: float = 40.0, level: float = 5000.0) -> np.ndarray:
    counts = np.random.default_rng(0).normal(level, sigma, (96, 120))
    return np.rint(counts.clip(0, np.iinfo(dtype).max)).astype(dtype)


@given(
    kind=st.sampled_from(sorted(SHAPES)),
    x=st.floats(10, 110),
    y=st.floats(10, 86),
    scr=st.floats(3, 40),
    angle=st.floats(0, 6.3),
)
def test_a_target_has_the_ratio_asked_for_as_the_core_measures_it(
    kind: str, x: float, y: float, scr: float, angle: float
) -> None:
    shape = replace(shaped(kind, 20), angle=angle)
    raw, mask, (truth,) = insert_targets(background(), [Placed(3, shape, x, y, scr, 1.5, -0.5)])
    (found,) = extract_targets(mask.astype(np.float32), Preprocessor()(raw))
    assert found.scr == pytest.approx(truth.scr, rel=1e-4)
    assert found.bbox == truth.bbox and found.area == truth.area == mask.sum()
    assert truth.scr == pytest.approx(scr, rel=0.1)
    assert (truth.id, truth.kind, truth.vx, truth.vy) == (3, kind, 1.5, -0.5)
    assert found.contrast > 0


@pytest.mark.parametrize("kind", ["point", "ellipse", "drone"])
@given(x=st.floats(20, 90), y=st.floats(20, 70))
def test_mask_and_light_are_centred_on_the_place(kind: str, x: float, y: float) -> None:
    flat = np.full((96, 120), 1000.0, np.float32)
    raw, mask, _ = insert_targets(flat, [Placed(0, shaped(kind, 30), x, y, 5000.0)], dtype=np.uint16)
    ys, xs = np.nonzero(mask)
    assert (xs.mean(), ys.mean()) == pytest.approx((x, y), abs=0.6)
    light = raw.astype(np.float64) - 1000
    rows, columns = np.arange(96), np.arange(120)
    assert (light.sum(axis=1) @ rows / light.sum()) == pytest.approx(y, abs=0.05)
    # The ellipse is warmer at its nose.
    assert (light.sum(axis=0) @ columns / light.sum()) == pytest.approx(x, abs=0.05 if kind != "ellipse" else 0.5)


@pytest.mark.parametrize("kind", sorted(SHAPES))
@pytest.mark.parametrize("area", [8, 25, 60, 150])
def test_shapes_have_the_area_asked_for(kind: str, area: int) -> None:
    shape = shape_of_area(kind, area, 0.4)
    flat = np.full((80, 80), 1000.0, np.float32)
    places = [(40 + 0.13 * n, 40 + 0.29 * n) for n in range(7)]
    areas = [insert_targets(flat, [Placed(0, shape, *at, 50.0)], dtype=np.uint16)[1].sum() for at in places]
    assert np.mean(areas) == pytest.approx(area, rel=0.15)


def test_points_may_be_smaller_than_the_optics() -> None:
    shape = shape_of_area("point", 1)
    _, mask, _ = insert_targets(background(), [Placed(0, shape, 50.0, 50.0, 20.0)])
    assert mask.sum() == 1 and mask[50, 50]


def test_pixels_away_from_targets_stay_as_they_were() -> None:
    before = background(np.uint8, 5, 100)
    raw, mask, truths = insert_targets(before, [Placed(0, shape_of_area("plane", 40), 30.3, 40.7, 10.0)])
    assert raw.dtype == np.uint8 and len(truths) == 1
    changed = raw != before
    assert changed.any() and changed[30:52, 20:42].sum() == changed.sum()
    assert (raw[mask] > before[mask]).all()


def test_nothing_to_insert_leaves_the_frame() -> None:
    raw, mask, truths = insert_targets(background(), [])
    np.testing.assert_array_equal(raw, background())
    assert not mask.any() and truths == ()


def test_targets_outside_are_left_out_and_those_on_the_edge_are_cut() -> None:
    shape = shape_of_area("ellipse", 60)
    placed = [Placed(0, shape, -30.0, 20.0, 10.0), Placed(1, shape, 119.0, 50.0, 10.0)]
    _, mask, truths = insert_targets(background(), placed)
    assert [truth.id for truth in truths] == [1]
    left, upper, width, height = truths[0].bbox
    assert left + width == 120 and mask[upper : upper + height, left:].sum() == mask.sum() < 60


def test_saturation_limits_and_hides() -> None:
    shape = shape_of_area("point", 12)
    raw, mask, (truth,) = insert_targets(background(np.uint8, 10, 180), [Placed(0, shape, 60.0, 50.0, 30.0)])
    assert raw.max() == 255 and truth.scr < 10 and mask.any()
    white = np.full((96, 120), 255, np.uint8)
    raw, mask, truths = insert_targets(white, [Placed(0, shape, 60.0, 50.0, 30.0)])
    assert truths == () and not mask.any() and (raw == 255).all()


def test_range_of_deep_counts_is_the_one_given() -> None:
    raw, _, _ = insert_targets(background(), [Placed(0, Shape("point", 1.2), 60.0, 50.0, 4000.0)], top=16383)
    assert raw.max() == 16383


def test_blind_pixels_stay() -> None:
    blind = np.zeros((96, 120), bool)
    blind[50, 60] = True
    raw, mask, _ = insert_targets(background(), [Placed(0, Shape("point", 1.5), 60.0, 50.0, 20.0)], blind=blind)
    assert raw[50, 60] == background()[50, 60]
    assert not mask[50, 60] and mask[50, 61]


def test_neighbours_do_not_count_as_background() -> None:
    shape = shape_of_area("point", 15)
    placed = [Placed(0, shape, 55.0, 50.0, 8.0), Placed(1, shape, 65.0, 50.0, 40.0)]
    _, mask, truths = insert_targets(background(), placed)
    assert truths[0].scr == pytest.approx(8.0, rel=0.1)
    assert truths[1].scr == pytest.approx(40.0, rel=0.1)
    assert mask.sum() == sum(truth.area for truth in truths)


def test_amplitude_moves_from_that_of_the_frame_before() -> None:
    shape = shape_of_area("point", 15)
    _, _, (free,) = insert_targets(background(), [Placed(0, shape, 60.0, 50.0, 10.0)])
    _, _, (eased,) = insert_targets(background(), [Placed(0, shape, 60.0, 50.0, 10.0, previous=100.0)])
    assert eased.amplitude == pytest.approx(100 + EASE * (free.amplitude - 100), rel=1e-4)


def test_bright_ground_under_a_target_does_not_swallow_it() -> None:
    patch = background().astype(np.float32)
    patch[47:54, 57:64] += 2000.0
    raw, mask, (truth,) = insert_targets(
        patch, [Placed(0, shape_of_area("point", 10), 60.0, 50.0, 5.0)], dtype=np.uint16
    )
    added = raw.astype(np.float32)[mask] - np.rint(patch)[mask]
    assert added.mean() > 2 * 40 and truth.scr > 5


@pytest.mark.parametrize("raw", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.int32), np.zeros((4, 4))])
def test_other_frames_are_refused(raw: np.ndarray) -> None:
    with pytest.raises(UsageError, match="counts"):
        insert_targets(raw, [])


def test_unknown_shape() -> None:
    with pytest.raises(UsageError, match=r"'saucer'.*point"):
        Shape("saucer", 2.0)
