"""Measured times: their percentiles, and the ratio of two engines with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Percentiles that are told.
PERCENTILES = (50, 90, 95, 99)

#: Resamplings of a bootstrap interval.
RESAMPLINGS = 2000


@dataclass(frozen=True, eq=False)
class Samples:
    """Times of one kind, round by round.

    Attributes:
        rounds: Seconds of each iteration in each round.
    """

    rounds: tuple[NDArray[np.float64], ...]

    @property
    def seconds(self) -> NDArray[np.float64]:
        """All of them, in the order in which they were measured."""
        return np.concatenate(self.rounds)

    @property
    def medians(self) -> NDArray[np.float64]:
        """The median of each round."""
        return np.array([np.median(part) for part in self.rounds])

    def percentile(self, percent: float) -> float:
        """Returns a percentile, seconds; linear between the samples next to it."""
        return float(np.percentile(self.seconds, percent))

    def to_dict(self) -> Mapping[str, float]:
        """Returns count, mean, extremes and percentiles in ms, and `cov`, the coefficient of variation."""
        values = 1e3 * self.seconds
        mean = float(values.mean())
        return {
            "count": len(values),
            "mean_ms": mean,
            "min_ms": float(values.min()),
            **{f"p{percent}_ms": float(np.percentile(values, percent)) for percent in PERCENTILES},
            "max_ms": float(values.max()),
            "cov": float(values.std() / mean) if mean else 0.0,
        }


@dataclass(frozen=True)
class Ratio:
    """How long one engine takes by another's time.

    Attributes:
        value: Median over the rounds.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def ratio(one: Samples, other: Samples, seed: int = 0) -> Ratio:
    """Compares two engines that were measured in the same rounds.

    In each round the medians are divided, so that a machine which grows slower with time slows both; the interval is
    a percentile bootstrap over the rounds.

    Args:
        one: The engine.
        other: What it is compared with.
        seed: Of the bootstrap.
    """
    count = min(len(one.rounds), len(other.rounds))
    ratios = one.medians[:count] / other.medians[:count]
    draws = np.random.default_rng(seed).integers(count, size=(RESAMPLINGS, count))
    low, high = np.percentile(np.median(ratios[draws], axis=1), (2.5, 97.5))
    return Ratio(float(np.median(ratios)), float(low), float(high))


def collect(rounds: Sequence[Sequence[float]]) -> Samples:
    """Returns the samples of rounds that hold at least one time each."""
    return Samples(tuple(np.asarray(part, np.float64) for part in rounds))
