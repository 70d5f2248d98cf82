"""Metrics over a data set, image by image: add, merge, read the result."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irdet.core.jsonable import jsonable
from irdet.core.threshold import Threshold, threshold_of, threshold_record
from irdet.metrics.pixel import Empty, PixelCounts, check_shapes, empty_value, niou, ratio
from irdet.metrics.target import DISTANCE, Components, match_components, poisson_bounds

#: Resamples of the bootstrap.
RESAMPLES = 1000


@dataclass(frozen=True)
class ImageResult:
    """One image's counts.

    Attributes:
        name: The image's name.
        tp: Pixels set in prediction and truth.
        fp: Pixels set in the prediction alone.
        fn: Pixels set in the truth alone.
        pixels: All pixels.
        matched: Targets found.
        missed: Targets not found.
        false: Predicted components that stand for no target.
        false_pixels: Pixels of those.
        iou: TP / (TP + FP + FN), or what the policy says where that is 0/0.
    """

    name: str
    tp: int
    fp: int
    fn: int
    pixels: int
    matched: int
    missed: int
    false: int
    false_pixels: int
    iou: float

    @property
    def counts(self) -> PixelCounts:
        """The pixel counts."""
        return PixelCounts(self.tp, self.fp, self.fn, self.pixels - self.tp - self.fp - self.fn)


@dataclass(frozen=True)
class MetricsResult:
    """Every metric over a data set, with what it was measured at. Ratios of 0/0 are NaN.

    Attributes:
        iou: ΣTP / Σ(TP + FP + FN).
        niou: Mean over images of TP / (TP + FP + FN).
        pd: Targets found / targets.
        fa: Pixels of false components / all pixels, in 1e-6.
        precision: Of pixels.
        recall: Of pixels.
        f1: Of pixels.
        images: Number of images.
        targets: Number of true targets (components).
        matched: Targets found.
        false_targets: Predicted components that stand for no target.
        false_per_frame: Mean per image.
        false_per_frame_lower: It is above this at 95 % (exact Poisson).
        false_per_frame_upper: It is below this at 95 % (exact Poisson).
        threshold: A pixel is predicted where its probability is at least this, or the rule that gives it per image.
        distance: A target is found when a centroid lies closer than this, px.
        connectivity: 4 or 8.
        empty: What an image with nothing in it and nothing predicted counts for in nIoU.
        per_image: The images' own counts.
    """

    iou: float
    niou: float
    pd: float
    fa: float
    precision: float
    recall: float
    f1: float
    images: int
    targets: int
    matched: int
    false_targets: int
    false_per_frame: float
    false_per_frame_lower: float
    false_per_frame_upper: float
    threshold: Threshold
    distance: float
    connectivity: int
    empty: Empty
    per_image: tuple[ImageResult, ...] = field(default=(), repr=False)

    def false_per_hour(self, fps: float) -> tuple[float, float, float]:
        """Returns false targets per hour at a frame rate, with lower and upper bound at 95 %."""
        frames = 3600.0 * fps
        return (
            self.false_per_frame * frames,
            self.false_per_frame_lower * frames,
            self.false_per_frame_upper * frames,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as JSON values (None for NaN), without the images' own."""
        values = {name: value for name, value in vars(self).items() if name != "per_image"}
        values["threshold"] = threshold_record(self.threshold)
        return {name: jsonable(value) for name, value in values.items()}


class Metrics:
    """Accumulates the metrics of DESIGN section 4 at one threshold.

    Args:
        threshold: A pixel is predicted where its probability is at least this.
        empty: What an image without target and without prediction counts for in nIoU: `"zero"` (as in the
            literature's code), `"one"` or `"skip"`.
        distance: A target is found when a predicted centroid lies closer than this, px.
        connectivity: 4 or 8.

    Raises:
        UsageError: Not a policy.
    """

    def __init__(
        self, threshold: Threshold = 0.5, empty: Empty = "zero", distance: float = DISTANCE, connectivity: int = 8
    ) -> None:
        empty_value(empty)
        self.threshold = threshold
        self.empty: Empty = empty
        self.distance = distance
        self.connectivity = connectivity
        self._images: list[ImageResult] = []

    def add(self, probability: NDArray[np.floating], mask: NDArray[np.bool_], name: str = "") -> ImageResult:
        """Counts one image.

        Args:
            probability: float [H, W] in [0, 1].
            mask: bool [H, W], the truth.
            name: Name for the record.

        Returns:
            The image's own counts.

        Raises:
            UsageError: The shapes differ.
        """
        check_shapes(probability, mask)
        truth = np.asarray(mask, bool)
        response = np.asarray(probability, np.float32)
        predicted = response >= np.float32(threshold_of(self.threshold, response))
        counts = PixelCounts.of(predicted, truth)
        match = match_components(
            Components.of(predicted, self.connectivity), Components.of(truth, self.connectivity), self.distance
        )
        result = ImageResult(
            name=name,
            tp=counts.tp,
            fp=counts.fp,
            fn=counts.fn,
            pixels=counts.pixels,
            matched=len(match.pairs),
            missed=len(match.missed),
            false=len(match.false),
            false_pixels=match.false_pixels,
            iou=counts.iou(self.empty),
        )
        self._images.append(result)
        return result

    def merge(self, other: Metrics) -> None:
        """Takes over the images of another accumulator with the same settings."""
        ours = (self.threshold, self.empty, self.distance, self.connectivity)
        if ours != (other.threshold, other.empty, other.distance, other.connectivity):
            raise ValueError("metrics with different settings cannot be merged")
        self._images += other._images

    def result(self) -> MetricsResult:
        """Returns the metrics over all images so far."""
        images = tuple(self._images)
        counts = sum((image.counts for image in images), PixelCounts())
        matched = sum(image.matched for image in images)
        targets = matched + sum(image.missed for image in images)
        false = sum(image.false for image in images)
        lower, upper = poisson_bounds(false)
        frames = len(images)
        return MetricsResult(
            iou=counts.iou(self.empty),
            niou=niou((image.counts for image in images), self.empty),
            pd=ratio(matched, targets),
            fa=1e6 * ratio(sum(image.false_pixels for image in images), counts.pixels),
            precision=counts.precision,
            recall=counts.recall,
            f1=counts.f1,
            images=frames,
            targets=targets,
            matched=matched,
            false_targets=false,
            false_per_frame=ratio(false, frames),
            false_per_frame_lower=ratio(lower, frames),
            false_per_frame_upper=ratio(upper, frames),
            threshold=self.threshold,
            distance=self.distance,
            connectivity=self.connectivity,
            empty=self.empty,
            per_image=images,
        )


def bootstrap(
    result: MetricsResult, resamples: int = RESAMPLES, seed: int = 0, confidence: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Returns percentile bootstrap intervals of IoU and nIoU over images (Efron, 1979).

    Images of one scene are not independent; where a data set has several of a scene the intervals are too narrow.

    Args:
        result: The metrics, with their images.
        resamples: Data sets drawn with replacement.
        seed: Seed of the draws.
        confidence: Share of the resamples inside the interval.

    Returns:
        Low and high end for `"iou"` and `"niou"`; NaN where there are no images that count.
    """
    tp = np.array([image.tp for image in result.per_image], float)
    union = np.array([image.tp + image.fp + image.fn for image in result.per_image], float)
    ious = np.array([image.iou for image in result.per_image])
    if not union.any():
        return {"iou": (math.nan, math.nan), "niou": (math.nan, math.nan)}
    generator = np.random.default_rng(seed)
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    drawn = np.empty((resamples, 2))
    for row in drawn:
        pick = generator.integers(0, len(union), len(union))
        values = ious[pick]
        values = values[~np.isnan(values)]
        row[:] = ratio(tp[pick].sum(), union[pick].sum()), ratio(values.sum(), len(values))
    (iou_low, niou_low), (iou_high, niou_high) = np.nanpercentile(drawn, tails, axis=0)
    return {"iou": (float(iou_low), float(iou_high)), "niou": (float(niou_low), float(niou_high))}
