"""Cuts a frame into overlapping tiles of one size, and says which pixels to take from which."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from irdet.core.errors import UsageError


@dataclass(frozen=True)
class Tile:
    """A window of the frame that goes through the engine, and the part of its result that is kept.

    Attributes:
        window: Rows and columns of the frame; every tile's is of the same size.
        kept: Rows and columns of the frame that take their values from this tile. Those of all tiles
            cover the frame once.
    """

    window: tuple[slice, slice]
    kept: tuple[slice, slice]

    @property
    def inner(self) -> tuple[slice, slice]:
        """`kept`, counted from the corner of the window."""
        (rows, columns), (top, left) = self.kept, (self.window[0].start, self.window[1].start)
        return (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )


def tiles(shape: tuple[int, int], size: tuple[int, int], overlap: int, stride: int = 1) -> tuple[Tile, ...]:
    """Covers a frame with as few tiles as the overlap allows, spread evenly.

    Neighbours share at least `overlap` pixels. The seam between them runs through the middle of what they share,
    so that every pixel comes from the tile in which it lies farthest from the edge.

    Args:
        shape: Height and width of the frame, each at least the tile's and a multiple of `stride` beyond it.
        size: Height and width of a tile.
        overlap: Least number of pixels that neighbours share.
        stride: Tiles start at multiples of this, so that a network with down-sampling sees the frame in step.

    Returns:
        The tiles, row by row.

    Raises:
        UsageError: The overlap leaves a tile nothing of its own.
    """
    rows = _cuts(shape[0], size[0], overlap, stride)
    columns = _cuts(shape[1], size[1], overlap, stride)
    return tuple(Tile((y, x), (own_y, own_x)) for y, own_y in rows for x, own_x in columns)


def _cuts(length: int, size: int, overlap: int, stride: int) -> list[tuple[slice, slice]]:
    """Returns the windows along one axis, each with the part of the axis that it owns."""
    steps = (length - size) // stride
    longest = (size - overlap) // stride
    if steps and longest < 1:
        raise UsageError(f"overlap of {overlap} px: tiles of {size} px must share at most {size - stride}")
    last = -(-steps // longest) if steps else 0
    starts = [index * steps // last * stride for index in range(last + 1)] if last else [0]
    seams = [0, *((a + size + b) // 2 for a, b in pairwise(starts)), length]
    return [
        (slice(start, start + size), slice(low, high))
        for start, (low, high) in zip(starts, pairwise(seams), strict=True)
    ]
