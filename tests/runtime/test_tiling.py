from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irdet.core.errors import UsageError
from irdet.runtime.tiling import Tile, tiles


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int], int, int]:
    """Shape of the frame, size of a tile, overlap, stride: whatever can be tiled."""
    stride = draw(st.sampled_from([1, 4, 8]))
    size = draw(st.tuples(st.integers(2, 8), st.integers(2, 8)))
    extra = draw(st.tuples(st.integers(0, 20), st.integers(0, 20)))
    overlap = draw(st.integers(0, (min(size) - 1) * stride))
    shape = ((size[0] + extra[0]) * stride, (size[1] + extra[1]) * stride)
    return shape, (size[0] * stride, size[1] * stride), overlap, stride


@given(layouts())
def test_every_pixel_is_kept_once_by_a_tile_of_the_right_size(
    layout: tuple[tuple[int, int], tuple[int, int], int, int],
) -> None:
    shape, size, overlap, stride = layout
    kept = np.zeros(shape, int)
    for tile in tiles(shape, size, overlap, stride):
        kept[tile.kept] += 1
        assert np.empty(shape)[tile.window].shape == size
        assert tile.window[0].start % stride == 0 and tile.window[1].start % stride == 0
        # What is kept lies in the window, at the same place counted from its corner.
        inner, window = tile.inner, tile.window
        for axis in (0, 1):
            assert 0 <= inner[axis].start < inner[axis].stop <= size[axis]
            assert window[axis].start + inner[axis].start == tile.kept[axis].start
    assert (kept == 1).all()


@given(layouts())
def test_every_pixel_comes_from_the_tile_where_it_lies_farthest_from_the_edge(
    layout: tuple[tuple[int, int], tuple[int, int], int, int],
) -> None:
    shape, size, overlap, stride = layout
    plan = tiles(shape, size, overlap, stride)
    for axis in (0, 1):
        pixels = np.arange(shape[axis])
        starts = np.array(sorted({tile.window[axis].start for tile in plan}))
        inside = np.minimum(pixels - starts[:, None], starts[:, None] + size[axis] - 1 - pixels)
        for tile in plan:
            own = pixels[tile.kept[axis]]
            start = tile.window[axis].start
            got = np.minimum(own - start, start + size[axis] - 1 - own)
            assert (got == inside[:, own].max(axis=0)).all()


@given(layouts())
def test_neighbours_share_the_overlap_and_no_tile_is_wasted(
    layout: tuple[tuple[int, int], tuple[int, int], int, int],
) -> None:
    shape, size, overlap, stride = layout
    plan = tiles(shape, size, overlap, stride)
    for axis in (0, 1):
        starts = sorted({tile.window[axis].start for tile in plan})
        assert starts[0] == 0 and starts[-1] + size[axis] == shape[axis]
        assert all(b - a <= size[axis] - overlap for a, b in pairwise(starts))
        # One tile less could not do it: with the longest step that is allowed it would not reach the end.
        longest = (size[axis] - overlap) // stride * stride
        assert len(starts) == 1 or (len(starts) - 2) * longest < shape[axis] - size[axis]


def test_frame_of_one_tile() -> None:
    whole = (slice(0, 32), slice(0, 48))
    assert tiles((32, 48), (32, 48), 40) == (Tile(whole, whole),)


def test_overlap_that_leaves_no_step_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 24"):
        tiles((64, 64), (32, 32), 32, 8)
