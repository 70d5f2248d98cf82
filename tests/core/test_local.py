from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.core.frame import QUANTISATION_NOISE, Preprocessor
from irdet.core.local import LocalMapping

NOISE = 8.0


def wide_scene() -> NDArray[np.uint16]:
    """A cold half and a hot half, 9000 counts apart, each with the same faint target."""
    counts = np.full((128, 200), 3000.0)
    counts[:, 100:] = 12000
    counts += np.random.default_rng(0).normal(0, NOISE, counts.shape)
    for x in (45, 155):
        counts[60:63, x : x + 3] += 8 * NOISE
    return np.rint(counts).astype(np.uint16)


@given(
    hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.floats(-1e6, 1e6, width=32)
    )
)
def test_stays_in_range_for_every_frame(counts: NDArray[np.float32]) -> None:
    pixels = LocalMapping()(counts, 0.29)
    assert pixels.dtype == np.float32 and pixels.shape == counts.shape
    assert np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1


@pytest.mark.parametrize("value", [0.0, 5000.0, -1e9])
def test_an_even_frame_is_even(value: float) -> None:
    pixels = LocalMapping()(np.full((40, 50), value, np.float32), 0.29)
    np.testing.assert_allclose(pixels, LocalMapping().level, atol=1e-5)


@given(st.floats(0.5, 20), st.floats(-5000, 5000))
def test_gain_and_level_of_the_camera_do_not_matter(gain: float, level: float) -> None:
    counts = wide_scene().astype(np.float32)
    once, again = LocalMapping()(counts, QUANTISATION_NOISE), LocalMapping()(counts * gain + level, QUANTISATION_NOISE)
    np.testing.assert_allclose(once, again, atol=2e-3)


def test_faint_targets_stand_out_alike_where_the_range_hides_them() -> None:
    raw = wide_scene()
    plain, local = Preprocessor()(raw).pixels, Preprocessor(mode="local")(raw).pixels
    for x in (45, 155):
        target = (slice(60, 63), slice(x, x + 3))
        ground = (slice(20, 50), slice(x - 20, x + 20))
        assert plain[target].mean() - plain[ground].mean() < 0.01
        assert local[target].mean() - local[ground].mean() > 0.1
        assert local[ground].std() < 0.03
    differ = local[60:63, 45:48].mean() - local[60:63, 155:158].mean()
    assert abs(differ) < 0.05


def test_brighter_stays_brighter() -> None:
    """No target is clipped: where surroundings are even, a larger excess is a lighter grey."""
    greys = []
    for excess in (50, 200, 1000, 4000):
        counts = np.random.default_rng(0).normal(5000, NOISE, (64, 64)).astype(np.float32)
        counts[32, 32] += excess
        greys.append(float(LocalMapping()(counts, 0.29)[32, 32]))
    assert greys == sorted(greys) and greys[0] > LocalMapping().level


def test_counts_stay_those_of_the_source() -> None:
    raw = wide_scene()
    frame = Preprocessor(mode="local")(raw)
    np.testing.assert_array_equal(frame.counts, raw)
    shallow = (raw >> 6).astype(np.uint8)
    np.testing.assert_array_equal(Preprocessor(mode="local")(shallow).counts, shallow)


def test_modes_are_named_and_need_no_range() -> None:
    with pytest.raises(UsageError, match="did you mean local"):
        Preprocessor(mode="locale")
    with pytest.raises(UsageError, match="--range and --normalise local"):
        Preprocessor((0, 1), mode="local")
