"""Pixel metrics: IoU, nIoU, precision, recall, F1 of the foreground."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import UsageError

#: What an image without target and without prediction counts for in nIoU: 0 as in the literature's code,
#: 1 as a right answer, or nothing.
Empty = Literal["zero", "one", "skip"]
EMPTY_POLICIES: tuple[Empty, ...] = get_args(Empty)


@dataclass(frozen=True)
class PixelCounts:
    """Pixels of a prediction against the truth.

    Attributes:
        tp: Set in both.
        fp: Set in the prediction alone.
        fn: Set in the truth alone.
        tn: Set in neither.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    @classmethod
    def of(cls, predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> PixelCounts:
        """Counts one image.

        Args:
            predicted: bool [H, W].
            truth: bool [H, W].

        Raises:
            UsageError: The shapes differ.
        """
        check_shapes(predicted, truth)
        tp = int(np.count_nonzero(predicted & truth))
        fp = int(np.count_nonzero(predicted)) - tp
        fn = int(np.count_nonzero(truth)) - tp
        return cls(tp, fp, fn, truth.size - tp - fp - fn)

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def pixels(self) -> int:
        """All pixels."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def precision(self) -> float:
        """TP / (TP + FP); NaN where nothing was predicted."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); NaN where there is no target pixel."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); NaN where truth and prediction are empty."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def iou(self, empty: Empty = "zero") -> float:
        """TP / (TP + FP + FN), or what `empty` says where that is 0/0 (NaN for `"skip"`)."""
        union = self.tp + self.fp + self.fn
        return self.tp / union if union else empty_value(empty)


def niou(counts: Iterable[PixelCounts], empty: Empty = "zero") -> float:
    """Returns the mean over images of TP / (TP + FP + FN) (nIoU of Dai et al., WACV 2021).

    Args:
        counts: One per image.
        empty: What an image without target and without prediction counts for; `"skip"` leaves it out.

    Returns:
        0 to 1; NaN where no image counts.
    """
    values = [value for count in counts if not math.isnan(value := count.iou(empty))]
    return ratio(math.fsum(values), len(values))


def empty_value(empty: Empty) -> float:
    """Returns the IoU of nothing predicted where nothing is: 0, 1, or NaN for `"skip"`.

    Raises:
        UsageError: Not a policy.
    """
    if empty not in EMPTY_POLICIES:
        raise UsageError(f"empty policy {empty!r}: must be one of {', '.join(EMPTY_POLICIES)}")
    return {"zero": 0.0, "one": 1.0, "skip": math.nan}[empty]


def ratio(part: float, whole: float) -> float:
    """Returns part / whole, NaN for 0/0."""
    return part / whole if whole else math.nan


def check_shapes(predicted: NDArray[np.generic], truth: NDArray[np.generic]) -> None:
    """Raises UsageError unless both are [H, W] of one size."""
    if predicted.ndim != 2 or predicted.shape != truth.shape:
        raise UsageError(f"prediction of {list(predicted.shape)} does not fit the mask of {list(truth.shape)}")
