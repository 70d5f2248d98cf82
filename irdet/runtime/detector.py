"""Detector: a frame becomes a probability map, and the map becomes targets."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import FrameError, UsageError
from irdet.core.frame import Frame, Pixels, Preprocessor, pad_to, pad_to_multiple
from irdet.core.targets import Target, extract_targets
from irdet.core.threshold import Threshold, check_threshold, threshold_of
from irdet.engines.base import Engine
from irdet.runtime.tiling import tiles
from irdet.tracking import Track

#: What `polarity` may be: targets brighter, or darker, than what surrounds them.
POLARITIES = ("white-hot", "black-hot")

#: Tiles that go through an engine at once, where it takes that many.
TILE_BATCH = 4

#: How many ways round a frame may be looked at.
VIEWS = (1, 2, 4)

#: Axes along which a frame is turned over for each view after the first: by half a turn, left to right, top to
#: bottom. It keeps its shape, so that an engine of a fixed size takes it, too.
_TURNS = ((0, 1), (1,), (0,))


@dataclass(frozen=True, eq=False)
class Detection:
    """What was found in one frame.

    Attributes:
        frame: The frame.
        probability: float32 [H, W] in [0, 1]: that a pixel belongs to a target.
        targets: The targets, best score first.
        threshold: The probability from which on a pixel of this frame belongs to a target.
        connectivity: 4 or 8: which neighbours belong together.
        times: Seconds spent in `"preprocess"`, `"inference"` and `"targets"`.
        tracks: The tracks that live after this frame; None where targets are not followed (`irdet.runtime.follow`).
    """

    frame: Frame
    probability: NDArray[np.float32]
    targets: tuple[Target, ...]
    threshold: float
    connectivity: int = 8
    times: Mapping[str, float] = field(default_factory=dict)
    tracks: tuple[Track, ...] | None = None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels of `targets`, bool [H, W]; components that were dropped are not in it."""
        mask = np.zeros(self.frame.shape, np.bool_)
        for target in self.targets:
            left, top, width, height = target.bbox
            window = (slice(top, top + height), slice(left, left + width))
            above = (self.probability[window] >= self.threshold).view(np.uint8)
            _, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=self.connectivity)
            # Two components that do not touch cannot both reach all four sides of a box: they would cross.
            fills = (stats[1:, cv2.CC_STAT_WIDTH] == width) & (stats[1:, cv2.CC_STAT_HEIGHT] == height)
            mask[window] |= labels == 1 + int(np.argmax(fills))
        return mask


class Detector:
    """Finds targets in frames of any size with any engine.

    Frames are not resized unless asked: they are padded by reflection to the engine's stride, and the result is
    cropped back. An engine of a fixed size gets overlapping tiles that cover the frame.

    Args:
        engine: The model; stays the caller's to close.
        threshold: A pixel belongs to a target when its probability is at least this, or the rule that says so for each
            frame; the model's own where None.
        min_area: Smaller targets are dropped, px.
        max_area: Larger targets are dropped, px; None for no limit.
        connectivity: 4 or 8: which neighbours belong to one target.
        ignore: [H, W], true where targets are not wanted (burned-in overlays, known hot spots). A target whose
            centroid or larger part lies there is dropped. Must be as large as the frames.
        polarity: `"white-hot"`, or `"black-hot"` where targets are dark: the engine then sees the frame inverted.
            Contrast and SCR are always measured on the frame as it came.
        resize: `(width, height)` to which frames are resized (bilinear) for the engine; its probabilities are
            resized back (bilinear), so targets are in pixels of the frame. None leaves frames as they are.
        overlap: Pixels that neighbouring tiles share, at least.
        views: 1, 2 or 4 ways round in which the engine sees each frame, at as many times the work: as it is, turned by
            half a turn, and mirrored both ways. The mean of the probabilities counts (test-time augmentation).

    Raises:
        UsageError: An argument cannot be what was meant.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        threshold: Threshold | None = None,
        min_area: int = 1,
        max_area: int | None = None,
        connectivity: int = 8,
        ignore: NDArray[np.generic] | None = None,
        polarity: str = "white-hot",
        resize: tuple[int, int] | None = None,
        overlap: int = 32,
        views: int = 1,
    ) -> None:
        self.threshold = check_threshold(engine.info.threshold if threshold is None else threshold)
        if min_area < 1:
            raise UsageError(f"min-area {min_area}: a target has at least 1 pixel")
        if max_area is not None and max_area < min_area:
            raise UsageError(f"max-area {max_area} is below min-area {min_area}: nothing could be found")
        if connectivity not in (4, 8):
            raise UsageError(f"connectivity {connectivity}: must be 4 or 8")
        if ignore is not None and ignore.ndim != 2:
            raise UsageError(f"ignore mask of shape {list(ignore.shape)}: must be [height, width]")
        if polarity not in POLARITIES:
            raise UsageError(f"polarity {polarity!r}: must be {' or '.join(POLARITIES)}")
        if resize is not None and min(resize) < 1:
            raise UsageError(f"resize {resize[0]}x{resize[1]}: both sides must be at least 1 px")
        if overlap < 0:
            raise UsageError(f"overlap {overlap}: must not be negative")
        self.engine = engine
        self.min_area = min_area
        self.max_area = max_area
        self.connectivity = connectivity
        self.ignore = None if ignore is None else ignore.astype(np.bool_)
        self.polarity = polarity
        self.resize = resize
        self.overlap = overlap
        self.views = check_views(views)

    def detect(self, frame: Frame | NDArray[np.generic]) -> Detection:
        """Finds the targets in one frame.

        Args:
            frame: A `Frame`, or raw pixels as `Preprocessor` takes them. Deep raw pixels are mapped by their own
                minimum and maximum: for a sequence, keep one `Preprocessor` and pass its frames.

        Returns:
            The detection; targets and probability are in pixels of the frame.

        Raises:
            FrameError: The pixels are no image, or the ignore mask does not fit them.
            ModelError: The engine failed.
        """
        start = time.perf_counter()
        if not isinstance(frame, Frame):
            frame = Preprocessor()(frame)
        self.check(frame)
        begun = time.perf_counter()
        probability, inference = self._infer(frame)
        ended = time.perf_counter()
        threshold = threshold_of(self.threshold, probability)
        targets = extract_targets(
            probability,
            frame,
            threshold,
            min_area=self.min_area,
            max_area=self.max_area,
            connectivity=self.connectivity,
            ignore=self.ignore,
        )
        times = {
            "preprocess": (begun - start) + (ended - begun - inference),
            "inference": inference,
            "targets": time.perf_counter() - ended,
        }
        return Detection(frame, probability, targets, threshold, self.connectivity, times)

    def check(self, frame: Frame) -> None:
        """Raises FrameError where the ignore mask does not fit a frame."""
        if self.ignore is not None and self.ignore.shape != frame.shape:
            (mask_height, mask_width), (height, width) = self.ignore.shape, frame.shape
            raise FrameError(
                f"{frame.source or 'frame'}: ignore mask of {mask_width}x{mask_height} px does not fit frames of "
                f"{width}x{height} px"
            )

    def probability(self, frame: Frame) -> NDArray[np.float32]:
        """Returns the engine's probabilities, float32 [H, W] in [0, 1], as large as the frame."""
        return self._infer(frame)[0]

    def _infer(self, frame: Frame) -> tuple[NDArray[np.float32], float]:
        """Returns the probability map and the seconds spent in the engine."""
        shape = frame.shape
        pixels: Pixels
        if self.resize is not None and self.resize != shape[::-1]:
            pixels = resized(frame.pixels, self.resize)
        else:
            pixels = frame.of_type(self.engine.dtype)
        if self.polarity == "black-hot":
            pixels = pixels.dtype.type(255 if pixels.dtype == np.uint8 else 1) - pixels
        probability, seconds = self._look(pixels)
        for axes in _TURNS[: self.views - 1]:
            turned, spent = self._look(np.flip(pixels, axes))
            probability, seconds = probability + np.flip(turned, axes), seconds + spent
        if self.views > 1:
            probability /= self.views
        if probability.shape != shape:
            probability = resized(probability, shape[::-1])
        return probability, seconds

    def _look(self, pixels: Pixels) -> tuple[NDArray[np.float32], float]:
        """Pads or tiles pixels [H, W] as the engine wants them; returns their map and the seconds in the engine."""
        height, width = pixels.shape
        info = self.engine.info
        (low, narrow), (high, wide) = self.engine.sides or ((1, 1), (sys.maxsize, sys.maxsize))
        padded = pad_to(pad_to_multiple(pixels, info.stride), info.height or low, info.width or narrow)
        size = (info.height or min(padded.shape[0], high), info.width or min(padded.shape[1], wide))
        start = time.perf_counter()
        whole = self._run(padded[None])[0] if size == padded.shape else self._tiled(padded, size)
        return whole[:height, :width], time.perf_counter() - start

    def _tiled(self, pixels: Pixels, size: tuple[int, int]) -> NDArray[np.float32]:
        plan = tiles(pixels.shape, size, self.overlap, self.engine.info.stride)
        whole = np.empty(pixels.shape, np.float32)
        step = min(TILE_BATCH, self.engine.max_batch or TILE_BATCH)
        for first in range(0, len(plan), step):
            part = plan[first : first + step]
            for tile, values in zip(part, self._run(np.stack([pixels[tile.window] for tile in part])), strict=True):
                whole[tile.kept] = values[tile.inner]
        return whole

    def _run(self, batch: Pixels) -> NDArray[np.float32]:
        """Runs [N, H, W] and returns [N, H, W]."""
        return self.engine.run(np.ascontiguousarray(batch)[:, None])[:, 0]


def check_views(views: int) -> int:
    """Returns the number of views; raises UsageError where a frame cannot be looked at in so many ways round."""
    if views not in VIEWS:
        raise UsageError(f"views {views}: must be {', '.join(map(str, VIEWS[:-1]))} or {VIEWS[-1]}")
    return views


def resized(pixels: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resizes [H, W] to (width, height), bilinear: frames before the engine, probabilities behind it."""
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), np.float32)
