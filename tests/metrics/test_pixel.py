from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irdet.core.errors import UsageError
from irdet.metrics.pixel import PixelCounts, niou


def masks(seed: int, density: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    shape = tuple(generator.integers(1, 20, 2))
    return generator.random(shape) < density, generator.random(shape) < density


def test_hand_computed() -> None:
    predicted = np.array([[1, 1, 0, 0], [0, 1, 0, 0]], bool)
    truth = np.array([[0, 1, 1, 0], [0, 1, 1, 0]], bool)
    counts = PixelCounts.of(predicted, truth)
    assert counts == PixelCounts(tp=2, fp=1, fn=2, tn=3)
    assert counts.iou() == 2 / 5
    assert counts.precision == 2 / 3
    assert counts.recall == 2 / 4
    assert counts.f1 == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))


@pytest.mark.parametrize(("empty", "expected"), [("zero", 0.25), ("one", 0.75), ("skip", 0.5)])
def test_empty_policy_counts_in_niou(empty: str, expected: float) -> None:
    half = PixelCounts(tp=1, fp=1)
    nothing = PixelCounts(tn=10)
    assert niou([half, nothing], empty) == expected  # type: ignore[arg-type]


def test_false_alarm_on_an_empty_image_is_zero_under_every_policy() -> None:
    for empty in ("zero", "one", "skip"):
        assert niou([PixelCounts(fp=1, tn=9)], empty) == 0.0  # type: ignore[arg-type]


def test_nothing_over_nothing() -> None:
    nothing = PixelCounts(tn=4)
    assert (nothing.iou("zero"), nothing.iou("one")) == (0.0, 1.0)
    assert all(map(math.isnan, (nothing.iou("skip"), nothing.precision, nothing.recall, nothing.f1, niou([]))))


def test_unknown_policy_is_named() -> None:
    with pytest.raises(UsageError, match=r"'half'.*zero, one, skip"):
        PixelCounts().iou("half")  # type: ignore[arg-type]


def test_shapes_must_agree() -> None:
    with pytest.raises(UsageError, match=r"\[2, 3\].*\[3, 2\]"):
        PixelCounts.of(np.zeros((2, 3), bool), np.zeros((3, 2), bool))


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_counts_against_the_definition(seed: int, density: float) -> None:
    predicted, truth = masks(seed, density)
    counts = PixelCounts.of(predicted, truth)
    by_hand = [sum(p == a and t == b for p, t in zip(predicted.flat, truth.flat, strict=True)) for a, b in
               ((1, 1), (1, 0), (0, 1), (0, 0))]  # fmt: skip
    assert [counts.tp, counts.fp, counts.fn, counts.tn] == by_hand
    assert counts.pixels == truth.size
    swapped = PixelCounts.of(truth, predicted)
    assert (swapped.iou(), swapped.tp) == (counts.iou(), counts.tp)
    assert PixelCounts.of(predicted.T, truth.T) == counts
    assert (counts + counts).iou() == counts.iou()
