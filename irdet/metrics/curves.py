"""Curves over the threshold: Pd-Fa, precision-recall, IoU and nIoU, in one pass over the images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.core.jsonable import jsonable
from irdet.metrics.pixel import Empty, check_shapes, empty_value
from irdet.metrics.target import DISTANCE, Components, TargetMatch, match_components

#: 0.01 to 0.99, and finer towards both ends, where calibrated networks put the operating points of low Fa and high Pd.
GRID: tuple[float, ...] = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005,
    *(round(0.01 * step, 2) for step in range(1, 100)),
    0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Curves:
    """Counts over a data set at each of T rising thresholds, and the curves they give.

    Attributes:
        thresholds: float32 [T], rising.
        tp: int64 [T], pixels.
        fp: int64 [T], pixels.
        fn: int64 [T], pixels.
        niou: float64 [T].
        matched: int64 [T], targets found.
        false_targets: int64 [T], predicted components that stand for no target.
        false_pixels: int64 [T], pixels of those.
        images: Number of images.
        targets: Number of true targets.
        pixels: Number of pixels.
    """

    thresholds: NDArray[np.float32]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    niou: NDArray[np.float64]
    matched: NDArray[np.int64]
    false_targets: NDArray[np.int64]
    false_pixels: NDArray[np.int64]
    images: int
    targets: int
    pixels: int

    @property
    def iou(self) -> NDArray[np.float64]:
        """float64 [T]; NaN for 0/0."""
        return _divide(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> NDArray[np.float64]:
        """float64 [T]; NaN where nothing is predicted."""
        return _divide(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> NDArray[np.float64]:
        """float64 [T]; NaN where there is no target."""
        return _divide(self.tp, self.tp + self.fn)

    @property
    def pd(self) -> NDArray[np.float64]:
        """float64 [T]; NaN where there is no target."""
        return _divide(self.matched, np.full_like(self.matched, self.targets))

    @property
    def fa(self) -> NDArray[np.float64]:
        """float64 [T], in 1e-6."""
        return 1e6 * _divide(self.false_pixels, np.full_like(self.false_pixels, self.pixels))

    @property
    def fa_bound(self) -> NDArray[np.float64]:
        """float64 [T], in 1e-6: Fa; below the threshold of the best IoU, the largest Fa from here up to that one.

        At low thresholds Fa falls again, where false components grow together with targets until the whole frame is
        one component that lies on a target; an operating point chosen by Fa alone could lie there.
        """
        best = int(np.argmax(np.nan_to_num(self.iou, nan=-1.0)))
        fa = self.fa
        return np.concatenate([np.maximum.accumulate(fa[: best + 1][::-1])[::-1], fa[best + 1 :]])

    @property
    def average_precision(self) -> float:
        """Area under precision over recall, as the sum of precision times step in recall; NaN without targets."""
        recall, precision = self.recall[::-1], self.precision[::-1]
        known = ~np.isnan(recall) & ~np.isnan(precision)
        if not known.any():
            return 0.0 if self.targets else math.nan
        return float((np.diff(recall[known], prepend=0.0) * precision[known]).sum())

    def pd_fa_area(self, max_fa: float) -> float:
        """Returns the mean over Fa in [0, max_fa] of the best Pd that stays within Fa (by `fa_bound`).

        Args:
            max_fa: End of the range, in 1e-6.

        Returns:
            0 to 1; NaN without targets.
        """
        if not self.targets:
            return math.nan
        order = np.argsort(self.fa_bound, kind="stable")
        order = order[self.fa_bound[order] <= max_fa]
        fa = np.concatenate([self.fa_bound[order], [max_fa]])
        best = np.maximum.accumulate(self.pd[order])
        return float((np.diff(fa) * best).sum() / max_fa)

    def to_dict(self) -> dict[str, Any]:
        """Returns the curves as JSON values: one list per curve, None for NaN."""
        names = ("thresholds", "iou", "niou", "precision", "recall", "pd", "fa", "false_targets")
        return {name: jsonable(getattr(self, name)) for name in names}


class CurvesAccumulator:
    """Accumulates `Curves`, image by image.

    Args:
        thresholds: Rising thresholds between 0 and 1.
        empty: What an image without target and without prediction counts for in nIoU.
        distance: A target is found when a predicted centroid lies closer than this, px.
        connectivity: 4 or 8.

    Raises:
        UsageError: The thresholds do not rise.
    """

    def __init__(
        self,
        thresholds: Sequence[float] = GRID,
        empty: Empty = "zero",
        distance: float = DISTANCE,
        connectivity: int = 8,
    ) -> None:
        # Compared as float32, the type of the maps: 0.7 must mean the same here as in `probability >= 0.7`.
        self.thresholds = np.asarray(thresholds, np.float32)
        if self.thresholds.ndim != 1 or not len(self.thresholds) or bool((np.diff(self.thresholds) <= 0).any()):
            raise UsageError("thresholds of a curve must rise")
        self._empty = empty_value(empty)
        self._distance = distance
        self._connectivity = connectivity
        steps = len(self.thresholds)
        # Rows: tp, fp, fn, matched, false targets, false pixels.
        self._sums = np.zeros((6, steps), np.int64)
        self._iou_sum = np.zeros(steps)
        self._iou_count = np.zeros(steps, np.int64)
        self._images = self._targets = self._pixels = 0

    def add(self, probability: NDArray[np.floating], mask: NDArray[np.bool_]) -> None:
        """Counts one image at every threshold.

        Args:
            probability: float [H, W] in [0, 1].
            mask: bool [H, W], the truth.

        Raises:
            UsageError: The shapes differ.
        """
        check_shapes(probability, mask)
        probability = np.asarray(probability, np.float32)
        mask = np.asarray(mask, bool)
        above = self._counts_above(probability[mask])
        predicted = self._counts_above(probability)
        true_pixels = int(np.count_nonzero(mask))
        fp, fn = predicted - above, true_pixels - above

        truth = Components.of(mask, self._connectivity)
        targets = np.zeros((3, len(predicted)), np.int64)
        match: TargetMatch | None = None
        for step, count in enumerate(predicted):
            if not count:
                break
            # A threshold that lets the same pixels through gives the same components.
            if match is None or count != predicted[step - 1]:
                components = Components.of(probability >= self.thresholds[step], self._connectivity)
                match = match_components(components, truth, self._distance)
            targets[:, step] = len(match.pairs), len(match.false), match.false_pixels

        self._sums += np.vstack([above, fp, fn, targets])
        ious = np.where(predicted + true_pixels > 0, _divide(above, above + fp + fn), self._empty)
        self._iou_sum += np.nan_to_num(ious)
        self._iou_count += ~np.isnan(ious)
        self._images += 1
        self._targets += len(truth)
        self._pixels += mask.size

    def result(self) -> Curves:
        """Returns the curves over all images so far."""
        tp, fp, fn, matched, false_targets, false_pixels = self._sums.copy()
        return Curves(
            thresholds=self.thresholds,
            tp=tp,
            fp=fp,
            fn=fn,
            niou=_divide(self._iou_sum, self._iou_count),
            matched=matched,
            false_targets=false_targets,
            false_pixels=false_pixels,
            images=self._images,
            targets=self._targets,
            pixels=self._pixels,
        )

    def _counts_above(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Returns for each threshold how many values are at least as large, from one histogram."""
        values = values[values >= self.thresholds[0]]
        passed = np.searchsorted(self.thresholds, values, side="right")
        histogram = np.bincount(passed, minlength=len(self.thresholds) + 1)
        return histogram[::-1].cumsum()[::-1][1:]


def _divide(part: NDArray[np.generic], whole: NDArray[np.generic]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        quotient: NDArray[np.float64] = np.true_divide(part, whole)
    return quotient
