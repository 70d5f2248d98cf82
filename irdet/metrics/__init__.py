"""Pixel and target metrics, as the literature defines them (numpy and OpenCV alone)."""

from __future__ import annotations

from irdet.metrics.accumulator import ImageResult, Metrics, MetricsResult
from irdet.metrics.curves import Curves, CurvesAccumulator
from irdet.metrics.pixel import PixelCounts
from irdet.metrics.target import TargetMatch, match_targets, poisson_bounds

__all__ = [
    "Curves",
    "CurvesAccumulator",
    "ImageResult",
    "Metrics",
    "MetricsResult",
    "PixelCounts",
    "TargetMatch",
    "match_targets",
    "poisson_bounds",
]
