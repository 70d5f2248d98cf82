from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from irdet.core.errors import UsageError
from irdet.metrics.accumulator import Metrics
from irdet.metrics.curves import GRID, Curves, CurvesAccumulator

THRESHOLDS = (0.05, 0.3, 0.5, 0.7, 0.9, 0.99)


def scene(seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    generator = np.random.default_rng(seed)
    mask = np.zeros((24, 32), bool)
    for _ in range(generator.integers(0, 4)):
        x, y = generator.integers(0, 22, 2)
        mask[y : y + 3, x : x + 2] = True
    # Coarse levels, so that values equal thresholds.
    noise = generator.integers(0, 11, mask.shape) / 10
    return np.where(mask, np.minimum(1, noise + 0.3), noise**6).astype(np.float32), mask


def measure(seeds: range, thresholds: tuple[float, ...] = THRESHOLDS) -> Curves:
    curves = CurvesAccumulator(thresholds)
    for seed in seeds:
        curves.add(*scene(seed))
    return curves.result()


@given(st.integers(0, 10**6))
def test_every_point_equals_the_metrics_at_its_threshold(seed: int) -> None:
    seeds = range(seed, seed + 3)
    curves = measure(seeds)
    for step, threshold in enumerate(THRESHOLDS):
        metrics = Metrics(threshold)
        for one in seeds:
            metrics.add(*scene(one))
        result = metrics.result()
        for name in ("niou", "pd", "fa", "precision", "recall"):
            np.testing.assert_allclose(getattr(curves, name)[step], getattr(result, name), rtol=1e-12)
        # Where nothing is and nothing was predicted the curve says NaN, the metrics what the policy says.
        assert curves.iou[step] == pytest.approx(result.iou) or (math.isnan(curves.iou[step]) and result.iou == 0)
        assert curves.false_targets[step] == result.false_targets
    assert (curves.images, curves.pixels) == (3, 3 * 24 * 32)


@given(st.integers(0, 10**6))
def test_recall_falls_with_the_threshold(seed: int) -> None:
    curves = measure(range(seed, seed + 2), GRID)
    assert (np.diff(curves.tp) <= 0).all()
    assert (np.diff(curves.tp + curves.fp) <= 0).all()


@pytest.mark.parametrize("empty", ["zero", "one", "skip"])
def test_empty_policy(empty: str) -> None:
    curves = CurvesAccumulator(THRESHOLDS, empty)  # type: ignore[arg-type]
    metrics = Metrics(0.5, empty)  # type: ignore[arg-type]
    for probability, mask in (scene(1), (np.zeros((8, 8), np.float32), np.zeros((8, 8), bool))):
        curves.add(probability, mask)
        metrics.add(probability, mask)
    assert curves.result().niou[THRESHOLDS.index(0.5)] == pytest.approx(metrics.result().niou)


def test_areas_of_a_perfect_model() -> None:
    curves = CurvesAccumulator()
    _, mask = scene(1)
    assert mask.any()
    curves.add(mask.astype(np.float32), mask)
    result = curves.result()
    assert result.average_precision == pytest.approx(1.0)
    assert result.pd_fa_area(100) == pytest.approx(1.0)


def test_areas_by_hand() -> None:
    mask = np.zeros((1, 1000), bool)
    mask[0, [100, 200]] = True
    probability = np.zeros((1, 1000), np.float32)
    probability[0, [100, 200, 300]] = 0.9, 0.3, 0.5  # found, then a false one, then found
    curves = CurvesAccumulator((0.2, 0.4, 0.8))
    curves.add(probability, mask)
    result = curves.result()
    # Recall 1/2 at precision 1, recall 1 at precision 2/3.
    assert result.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # Fa is 0 with Pd 1/2, then 1000e-6 with Pd 1/2 and at last Pd 1.
    assert result.pd_fa_area(4000) == pytest.approx((0.5 * 1000 + 1.0 * 3000) / 4000)


def test_without_targets() -> None:
    curves = CurvesAccumulator(THRESHOLDS)
    curves.add(np.full((5, 5), 0.6, np.float32), np.zeros((5, 5), bool))
    result = curves.result()
    assert math.isnan(result.average_precision)
    assert math.isnan(result.pd_fa_area(100))
    assert result.fa.tolist() == [1e6, 1e6, 1e6, 0, 0, 0]
    written = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert written["pd"] == [None] * 6
    assert written["false_targets"] == [1, 1, 1, 0, 0, 0]


def test_thresholds_must_rise() -> None:
    for wrong in ((0.5, 0.5), (0.6, 0.5), ()):
        with pytest.raises(UsageError, match="must rise"):
            CurvesAccumulator(wrong)
