"""Which target belongs to which track: candidates within the gate, and the cheapest pairs of all together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irdet.core.extras import require

Indices = NDArray[np.intp]
Floats = NDArray[np.float64]


def near(tracks: Floats, targets: Floats, reach: Floats) -> tuple[Indices, Indices]:
    """Finds the pairs of a track and a target that lie close to each other.

    Targets are sorted along x, so a track looks only at those in its own strip: the time grows with the pairs in the
    strips rather than with all pairs.

    Args:
        tracks: float64 [N, 2], x and y, px.
        targets: float64 [M, 2].
        reach: float64 [N], largest difference along each axis, px.

    Returns:
        Indices of tracks and of targets, one of each per pair, ordered by track.
    """
    order = np.argsort(targets[:, 0], kind="stable")
    sorted_x = targets[order, 0]
    first = np.searchsorted(sorted_x, tracks[:, 0] - reach, "left")
    count = np.searchsorted(sorted_x, tracks[:, 0] + reach, "right") - first
    track = np.repeat(np.arange(len(tracks)), count)
    # The place of each pair within its track's strip, from 0.
    place = np.arange(len(track)) - np.repeat(np.cumsum(count) - count, count)
    target = order[first[track] + place]
    close = np.abs(targets[target, 1] - tracks[track, 1]) <= reach[track]
    return track[close], target[close]


def assign(rows: Indices, columns: Indices, costs: Floats, miss: float) -> tuple[Indices, Indices]:
    """Chooses pairs so that each row and each column has at most one, at the lowest cost of all together.

    Pairs whose row and column have no other are taken at once; what is left is solved as a whole (Jonker-Volgenant,
    SciPy), in time that grows with the cube of the rows and columns that are left.

    Args:
        rows: int [P], one of each candidate pair.
        columns: int [P], the other.
        costs: float64 [P], each at most `miss`.
        miss: Cost of a row that gets no column: two dear pairs do not take the place of one cheap one.

    Returns:
        Rows and columns of the chosen pairs.

    Raises:
        MissingDependency: SciPy is not installed.
    """
    if not len(rows):
        return rows, columns
    alone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    if alone.all():
        return rows, columns
    solve = require("scipy.optimize", "track", "tracking").linear_sum_assignment
    shared = ~alone
    left_rows, row = np.unique(rows[shared], return_inverse=True)
    left_columns, column = np.unique(columns[shared], return_inverse=True)
    matrix = np.full((len(left_rows), len(left_columns)), miss)
    candidate = np.zeros(matrix.shape, np.bool_)
    matrix[row, column] = costs[shared]
    candidate[row, column] = True
    chosen = solve(matrix)
    chosen_row, chosen_column = (index[candidate[chosen]] for index in chosen)
    return (
        np.concatenate([rows[alone], left_rows[chosen_row]]),
        np.concatenate([columns[alone], left_columns[chosen_column]]),
    )
