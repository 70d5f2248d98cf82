from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("scipy")
from irdet.tracking.assignment import assign, near


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 1000))
def test_near_finds_every_pair(tracks: int, targets: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 20, (tracks, 2)).astype(float), rng.integers(0, 20, (targets, 2)).astype(float)
    reach = rng.integers(0, 6, tracks).astype(float)
    row, column = near(a, b, reach)
    wanted = {
        (i, j) for i, j in itertools.product(range(tracks), range(targets)) if (np.abs(a[i] - b[j]) <= reach[i]).all()
    }
    assert set(zip(row.tolist(), column.tolist(), strict=True)) == wanted and len(row) == len(wanted)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_assign_is_the_cheapest_of_all(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    miss, costs = 1.0, rng.random((rows, columns))
    there = rng.random((rows, columns)) < 0.6
    row, column = np.nonzero(there)
    chosen_rows, chosen_columns = assign(row, column, costs[there], miss)
    assert len(set(chosen_rows.tolist())) == len(chosen_rows) and len(set(chosen_columns.tolist())) == len(chosen_rows)
    assert there[chosen_rows, chosen_columns].all()
    got = costs[chosen_rows, chosen_columns].sum() + miss * (rows - len(chosen_rows))

    def best(row: int, free: frozenset[int]) -> float:
        if row == rows:
            return 0.0
        options = [best(row + 1, free) + miss]
        options += [costs[row, j] + best(row + 1, free - {j}) for j in free if there[row, j]]
        return float(min(options))

    assert got == pytest.approx(best(0, frozenset(range(columns))))


def test_two_dear_pairs_do_not_take_the_place_of_a_cheap_one() -> None:
    # The first row's own column is the first; the second row could take it if the first went elsewhere.
    row, column = assign(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0.1, 0.9, 0.8]), 1.0)
    assert (row.tolist(), column.tolist()) == ([0], [0])
