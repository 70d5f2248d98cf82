"""Target metrics: which components of the prediction stand for which targets, and bounds on rare false ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.metrics.pixel import check_shapes

#: A target counts as found when a predicted centroid lies closer than this, px.
DISTANCE = 3.0

#: Squared distances are rounded to so many digits, so that a distance of exactly 3 px is never taken for less.
_DIGITS = 9


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components of a mask, in order of centroid (y, then x) and area, however they were labelled.

    Attributes:
        centroids: float64 [N, 2], unweighted mean x, y of the pixels, px.
        areas: int64 [N], pixels.
    """

    centroids: NDArray[np.float64]
    areas: NDArray[np.int64]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], connectivity: int = 8) -> Components:
        """Labels a mask, bool [H, W], with connectivity 4 or 8."""
        if connectivity not in (4, 8):
            raise UsageError(f"connectivity {connectivity}: must be 4 or 8")
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            return cls(np.zeros((0, 2)), np.zeros(0, np.int64))
        # Only the box around what is set is labelled: targets are few and small.
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        pixels = np.ascontiguousarray(box, bool).view(np.uint8)
        _, _, stats, centroids = cv2.connectedComponentsWithStats(pixels, connectivity=connectivity)
        centroids = centroids[1:] + np.array([columns[0], rows[0]], float)
        areas = stats[1:, cv2.CC_STAT_AREA].astype(np.int64)
        order = np.lexsort((areas, centroids[:, 0], centroids[:, 1]))
        return cls(centroids[order], areas[order])

    def __len__(self) -> int:
        return len(self.areas)


@dataclass(frozen=True, eq=False)
class TargetMatch:
    """One image's predicted components against its true ones.

    Attributes:
        predicted: Components of the prediction.
        truth: Components of the truth.
        pairs: Index into `predicted` and index into `truth` of each pair, nearest first.
    """

    predicted: Components
    truth: Components
    pairs: tuple[tuple[int, int], ...]

    @cached_property
    def missed(self) -> tuple[int, ...]:
        """Indices into `truth` of the targets that were not found."""
        return tuple(sorted(set(range(len(self.truth))) - {true for _, true in self.pairs}))

    @cached_property
    def false(self) -> tuple[int, ...]:
        """Indices into `predicted` of the components that stand for no target."""
        return tuple(sorted(set(range(len(self.predicted))) - {guess for guess, _ in self.pairs}))

    @property
    def false_pixels(self) -> int:
        """Pixels of the false components: the numerator of Fa."""
        return int(self.predicted.areas[list(self.false)].sum())


def match_targets(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], distance: float = DISTANCE, connectivity: int = 8
) -> TargetMatch:
    """Pairs predicted components with true ones: one to one, centroids closer than `distance`, nearest pairs first.

    Of pairs at equal distance the one with the upper target wins, then the one with the left
    target, then the upper and the left prediction.

    Args:
        predicted: bool [H, W].
        truth: bool [H, W].
        distance: Centroids must lie closer than this (strictly), px.
        connectivity: 4 or 8.

    Raises:
        UsageError: The shapes differ, or connectivity is neither 4 nor 8.
    """
    check_shapes(predicted, truth)
    return match_components(Components.of(predicted, connectivity), Components.of(truth, connectivity), distance)


def match_components(predicted: Components, truth: Components, distance: float = DISTANCE) -> TargetMatch:
    """Does the work of `match_targets` on components that are known already."""
    if not len(predicted) or not len(truth):
        return TargetMatch(predicted, truth, ())
    # One row per target, one column per prediction: a stable sort leaves ties in the order of the components.
    offsets = truth.centroids[:, None, :] - predicted.centroids[None, :, :]
    squared = np.round((offsets**2).sum(axis=2), _DIGITS)
    near = np.flatnonzero(squared < distance**2)
    near = near[np.argsort(squared.flat[near], kind="stable")]
    pairs: list[tuple[int, int]] = []
    used_truth: set[int] = set()
    used_predicted: set[int] = set()
    for true, guess in zip(*(axis.tolist() for axis in np.unravel_index(near, squared.shape)), strict=True):
        if true not in used_truth and guess not in used_predicted:
            used_truth.add(true)
            used_predicted.add(guess)
            pairs.append((guess, true))
    return TargetMatch(predicted, truth, tuple(pairs))


def poisson_bounds(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns exact bounds on the mean of a Poisson count (Garwood, Biometrika 28, 1936).

    Each bound holds by itself with the given confidence: none seen in n frames means fewer than 3.0 / n a frame
    at 95 %. False targets that come in runs (one hot roof through a whole clip) are not independent, and then the
    bounds are too narrow.

    Args:
        count: What was counted, 0 or more.
        confidence: Between 0.5 and 1.

    Returns:
        Lower and upper bound on the mean; the lower bound for 0 is 0.
    """
    if count < 0 or not 0.5 < confidence < 1:
        raise UsageError(f"no Poisson bounds for count {count} at confidence {confidence}")
    lower = _poisson_mean(count - 1, confidence) if count else 0.0
    return lower, _poisson_mean(count, 1.0 - confidence)


def _poisson_mean(count: int, probability: float) -> float:
    """Returns the mean at which P(X <= count) is `probability`, by bisection."""
    # Terms further below the count than this are too small to matter for the means between the brackets.
    first = max(0, count - int(50 * math.sqrt(count + 1)) - 50)
    terms = np.arange(first, count + 1)
    log_factorials = math.lgamma(first + 1) + np.concatenate([[0.0], np.cumsum(np.log(terms[1:]))])
    reach = 20 * math.sqrt(count + 1) + 20
    low, high = max(0.0, count - reach), count + reach
    for _ in range(100):
        mean = (low + high) / 2
        cdf = float(np.exp(terms * math.log(mean) - mean - log_factorials).sum())
        low, high = (mean, high) if cdf > probability else (low, mean)
    return (low + high) / 2
