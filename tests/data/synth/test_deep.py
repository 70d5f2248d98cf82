"""Deep scenes: what their table in docs/deep.md promises of each."""

from __future__ import annotations

import numpy as np
import pytest

from irdet.data.synth.deep import AREA, LEAST_SCR, PERCENTILES, SHAPE, SPAN, TOP, WAYS, make_deep_scene


@pytest.mark.parametrize("seed", range(6))
def test_a_scene_is_deep_wide_and_has_visible_targets(seed: int) -> None:
    scene = make_deep_scene(seed)
    assert scene.way == WAYS[seed % 3]
    assert scene.raw.shape == scene.mask.shape == SHAPE and scene.raw.dtype == np.uint16
    assert scene.raw.max() <= TOP
    low, high = np.percentile(scene.raw, PERCENTILES)
    assert scene.span == pytest.approx((high - low) / TOP)
    assert SPAN[0] - 0.02 < scene.span < SPAN[1] + 0.02
    assert scene.targets and all(target.scr >= LEAST_SCR for target in scene.targets)
    assert scene.mask.sum() >= AREA[0]


def test_a_number_is_a_scene() -> None:
    one, again, other = make_deep_scene(4), make_deep_scene(4), make_deep_scene(10)
    np.testing.assert_array_equal(one.raw, again.raw)
    assert not np.array_equal(one.raw, other.raw)
