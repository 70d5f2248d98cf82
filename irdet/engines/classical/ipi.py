"""Infrared patch-image model.

Source: Gao, Meng, Yang, Wang, Zhou & Hauptmann, "Infrared Patch-Image Model for Small Target Detection in a Single
Image", IEEE TIP 22 (2013): patches as columns of D, eq. (7); min |B|_* + lambda |T|_1 subject to D = B + T, eq. (13),
relaxed and solved by accelerated proximal gradients, Algorithm 1; the median of overlapping patches, section III-D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.engines.classical.method import Method

#: Iterations at most, and the decay of the penalty in each.
MAX_ITERATIONS, DECAY = 500, 0.9

#: The run ends when the background's rank has stayed the same so many times.
STEADY = 10

#: A background of more than this share of the full rank is no longer of low rank: the run ends.
MAX_RANK = 0.3

LAMBDAS = ("paper", "code")


@dataclass(frozen=True)
class IPI(Method):
    """The background is what repeats from patch to patch (low rank), the target what is left (sparse).

    Attributes:
        patch: Side of a patch, px; smaller where the frame is.
        step: Pixels from one patch to the next. A last row and column of patches end at the frame's border.
        weight: lambda. `"paper"`: 1 / sqrt(the longer side of D); `"code"`: 1 / sqrt(the longer side of the frame), as
            in the authors' code, which leaves less in the target image.
    """

    patch: int = 50
    step: int = 10
    weight: str = "paper"

    THRESHOLD: ClassVar[float] = 0.1
    MAIN: ClassVar[str] = "patch"

    def __post_init__(self) -> None:
        if self.patch < 2 or self.step < 1:
            raise UsageError(f"patches of {self.patch} px each {self.step} px: at least 2 and 1 are needed")
        if self.weight not in LAMBDAS:
            raise UsageError(f"weight {self.weight!r}: must be {' or '.join(LAMBDAS)}")

    def respond(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the positive part of the target image, in units of the full scale."""
        side = min(self.patch, *pixels.shape)
        step = min(self.step, side)
        rows, columns = (_starts(length, side, step) for length in pixels.shape)
        # The method does not know where zero is: as in the authors' code the darkest pixel is.
        dark = pixels - pixels.min()
        matrix = np.stack([dark[y : y + side, x : x + side].ravel() for y in rows for x in columns], axis=1)
        longest = max(matrix.shape) if self.weight == "paper" else max(pixels.shape)
        _, target = decompose(matrix, 1 / float(np.sqrt(longest)))
        return np.clip(_reassemble(target, rows, columns, side, step, pixels.shape), 0, 1)


def decompose(matrix: NDArray[np.float32], weight: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Splits a matrix into one of low rank and a sparse one by accelerated proximal gradients.

    Args:
        matrix: float32 [M, N].
        weight: lambda, of the sparse part's l1 norm beside the other's nuclear norm.

    Returns:
        Both parts, float32 [M, N]; their sum is about the matrix.
    """
    if matrix.shape[0] < matrix.shape[1]:
        low, sparse = decompose(np.ascontiguousarray(matrix.T), weight)
        return low.T, sparse.T
    values = _singular(matrix)
    low, sparse = np.zeros_like(matrix), np.zeros_like(matrix)
    if values[0] <= 0:
        return low, sparse
    old_low, old_sparse = low, sparse
    # Algorithm 1: the penalty falls from the second singular value to a fraction of the fourth.
    penalty = float(values[min(1, len(values) - 1)])
    least = 0.005 * float(values[min(3, len(values) - 1)])
    momentum, old_momentum = 1.0, 1.0
    rank, steady = -1, 0
    for _ in range(MAX_ITERATIONS):
        pull = np.float32((old_momentum - 1) / momentum)
        y_low, y_sparse = low + pull * (low - old_low), sparse + pull * (sparse - old_sparse)
        residue = (y_low + y_sparse - matrix) * np.float32(0.5)
        old_low, old_sparse = low, sparse
        low, new_rank = _shrink_rank(y_low - residue, penalty / 2)
        sparse = _shrink(y_sparse - residue, weight * penalty / 2)
        steady = steady + 1 if new_rank == rank else 0
        rank = new_rank
        if (steady > STEADY and penalty <= least) or rank > MAX_RANK * min(matrix.shape):
            break
        penalty = max(DECAY * penalty, least)
        momentum, old_momentum = (1 + float(np.sqrt(1 + 4 * momentum**2))) / 2, momentum
    return low, sparse


def _singular(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """The singular values, largest first, from the smaller Gram matrix."""
    return np.sqrt(np.maximum(np.linalg.eigvalsh(_gram(matrix))[::-1], 0))


def _gram(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    # The values to be cut off lie at 1e-4 of the largest, squared at 1e-8: below what single precision tells apart.
    # There the rank never stays the same, and the run goes on to its last iteration.
    wide = matrix.astype(np.float64)
    return wide.T @ wide


def _shrink_rank(matrix: NDArray[np.float32], by: float) -> tuple[NDArray[np.float32], int]:
    """Soft-thresholds the singular values: M V max(1 - by / s, 0) V', with V from the Gram matrix M'M = V s^2 V'."""
    squares, vectors = np.linalg.eigh(_gram(matrix))
    values = np.sqrt(np.maximum(squares, 0))
    kept = values > by
    basis = vectors[:, kept].astype(np.float32)
    factors = (1 - by / values[kept]).astype(np.float32)
    return (matrix @ (basis * factors)) @ basis.T, int(kept.sum())


def _shrink(matrix: NDArray[np.float32], by: float) -> NDArray[np.float32]:
    """Soft-thresholds the entries."""
    return np.sign(matrix) * np.maximum(np.abs(matrix) - np.float32(by), 0)


def _starts(length: int, side: int, step: int) -> list[int]:
    """First pixels of the patches along one side of the frame; the last patch ends where the frame does."""
    starts = list(range(0, length - side + 1, step))
    return starts if starts[-1] == length - side else [*starts, length - side]


def _reassemble(
    target: NDArray[np.float32],
    rows: list[int],
    columns: list[int],
    side: int,
    step: int,
    shape: tuple[int, ...],
) -> NDArray[np.float32]:
    """The median over all patches that cover a pixel."""
    patches = iter(target.T)
    deep = -(-side // step) + 1  # patches so many steps apart do not overlap; one layer more for the last of a side
    layers = np.full((deep * deep, *shape), np.nan, np.float32)
    for row, y in enumerate(rows):
        for column, x in enumerate(columns):
            down = deep - 1 if y % step else row % (deep - 1)
            right = deep - 1 if x % step else column % (deep - 1)
            layers[down * deep + right, y : y + side, x : x + side] = next(patches).reshape(side, side)
    layers.sort(axis=0)  # NaN, where a layer has no patch, goes last
    count = np.isfinite(layers).sum(axis=0)
    lower, upper = (np.take_along_axis(layers, index[None], axis=0)[0] for index in ((count - 1) // 2, count // 2))
    return (lower + upper) / 2
