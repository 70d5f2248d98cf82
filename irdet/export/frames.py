"""The frames that an export is checked on: made ones that hold targets, and real ones where a data set is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irdet.core.frame import Preprocessor, pad_to
from irdet.engines.probe import probe_frame

#: Sizes that a graph of free size is checked at, in units of its stride: (height, width). Odd factors, portrait and
#: landscape, so that nothing which only holds at one size or at powers of two can pass.
FREE_SIZES = ((16, 20), (15, 9), (7, 23))

#: No side is shorter (px), so that the engine which is built of the graph takes them: the default profile begins here.
SHORTEST = 64

#: Made frames per size.
PER_SIZE = 3

#: Real frames taken from a data set.
REAL = 8

#: Real frames go into golden frames up to this size, so that the file stays small (pixels).
_REAL_SIDE = 256


def check_frames(size: tuple[int, int] | None, stride: int, data: Path | None = None) -> tuple[NDArray[np.uint8], ...]:
    """Returns frames to check an export on, grouped by size; real ones first.

    Args:
        size: Height and width of the model's input, None where they are free.
        stride: Multiple that free sizes must have.
        data: A data set of the SIRST family, whose frames are used beside the made ones.

    Returns:
        Arrays uint8 [N, H, W].

    Raises:
        DataError: The data set cannot be read.
    """
    sizes = [size] if size else free_sizes(stride)
    made = [np.stack([probe_frame(h, w, seed) for seed in range(PER_SIZE)]) for h, w in sizes]
    if data is None:
        return tuple(made)
    side = -(-_REAL_SIDE // stride) * stride
    return (_real(data, size or (side, side)), *made)


def free_sizes(stride: int) -> list[tuple[int, int]]:
    """Returns the sizes that a graph of free size is checked at: (height, width), multiples of its stride, px."""
    times = -(-SHORTEST // (stride * min(map(min, FREE_SIZES))))
    unit = stride * (times + 1 - times % 2)  # an odd multiple, so that odd factors stay odd
    return [(unit * height, unit * width) for height, width in FREE_SIZES]


def _real(data: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    from irdet.data.sirst import load_dataset

    samples = load_dataset(data).samples
    chosen = samples[:: max(1, len(samples) // REAL)][:REAL]
    return np.stack([_cut(*sample.read(), size) for sample in chosen])


def _cut(raw: NDArray[np.generic], mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Cuts a window of the size around a target, or fills a smaller frame up by reflection."""
    pixels = pad_to(Preprocessor()(raw).pixels, *size)
    ys, xs = np.nonzero(mask)
    centre = (int(ys[0]), int(xs[0])) if len(ys) else (pixels.shape[0] // 2, pixels.shape[1] // 2)
    top, left = (
        min(max(0, middle - side // 2), whole - side)
        for middle, side, whole in zip(centre, size, pixels.shape, strict=True)
    )
    window: Sequence[slice] = (slice(top, top + size[0]), slice(left, left + size[1]))
    return np.rint(pixels[tuple(window)] * 255).astype(np.uint8)
